//! How good predictions are, each figure as the official tool of its data set computes it.
//!
//! Every metric is fed image by image and keeps counts, or a few numbers for each object that was found: never pixels. The figures do
//! not depend on the order of the images.
//!
//! | metric | figures | equal to |
//! |---|---|---|
//! | [`ConfusionMatrix`] | mean IoU, pixel accuracy | cityscapesscripts; for ADE20K with its label 0 as [`IGNORED`](crate::data::IGNORED) |
//! | [`AveragePrecision`] | COCO's AP of masks and boxes | pycocotools |
//! | [`CityscapesAp`] | Cityscapes' AP of masks | cityscapesscripts |
//! | [`ObjectAccuracy`] | TP / (TP + FP + FN) at an IoU | StarDist, Cellpose |
//! | [`PanopticQuality`] | PQ, SQ, RQ | panopticapi |
//! | [`TopK`] | top-1, top-5 | |

mod average_precision;
mod cityscapes;
mod confusion;
mod error;
mod object_accuracy;
mod panoptic;
mod shape;
mod top_k;

pub use average_precision::{ApClassReport, AveragePrecision, InstanceReport};
pub use cityscapes::{CITYSCAPES_INSTANCE_IDS, CityscapesAp, CityscapesTruth};
pub use confusion::{ClassReport, ConfusionMatrix, SemanticReport};
pub use error::MetricError;
pub use object_accuracy::ObjectAccuracy;
pub use panoptic::{PanopticClassReport, PanopticQuality, PanopticReport, PanopticTruth, TrueSegment};
pub use shape::{FoundObject, PixelBox, RegionKind, Shape, TrueObject};
pub use top_k::{ClassificationReport, TopK};

/// Mean of those that are there; `None` of none.
fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, count) =
        values.into_iter().flatten().fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
