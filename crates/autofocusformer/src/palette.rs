//! Which colours the classes of a model have.

use aff_model::data_sets::{CITYSCAPES_STUFF, DataSet};
use aff_vision::{ADE20K_COLORS, CITYSCAPES_COLORS, COCO_COLORS, Palette};

/// CamVid's colours of the eleven classes that networks are trained on, by their names.
const CAMVID: [(&str, [u8; 3]); 11] = [
    ("sky", [128, 128, 128]),
    ("building", [128, 0, 0]),
    ("pole", [192, 192, 128]),
    ("road", [128, 64, 128]),
    ("pavement", [0, 0, 192]),
    ("tree", [128, 128, 0]),
    ("sign", [192, 128, 128]),
    ("fence", [64, 64, 128]),
    ("car", [64, 0, 128]),
    ("pedestrian", [64, 64, 0]),
    ("bicyclist", [0, 128, 192]),
];

/// The colours of classes by their names: those that the community of a data set knows if they are all of its classes (ADE20K, CamVid,
/// Cityscapes, COCO), else colours that are far apart. [`Segmentation::overlay`](crate::Segmentation::overlay) draws in them.
///
/// ```
/// use autofocusformer::models::data_sets::DataSet;
///
/// let colors = autofocusformer::palette(&DataSet::Cityscapes.labels());
/// assert_eq!(colors.color(13), [0, 0, 142], "cars are dark blue");
/// ```
pub fn palette(labels: &[String]) -> Palette {
    match DataSet::of_labels(labels) {
        Some(DataSet::Ade20k) => Palette::new(&ADE20K_COLORS[..]),
        Some(DataSet::Cityscapes) => Palette::new(&CITYSCAPES_COLORS[..]),
        Some(DataSet::CityscapesInstances) => Palette::new(&CITYSCAPES_COLORS[CITYSCAPES_STUFF..]),
        Some(DataSet::CocoInstances) => Palette::new(&COCO_COLORS[..]),
        _ => camvid(labels).map_or_else(|| Palette::of_labels(labels), Palette::new),
    }
}

/// The colours of CamVid's classes, in any order.
fn camvid(labels: &[String]) -> Option<Vec<[u8; 3]>> {
    let color = |label: &String| CAMVID.iter().find(|(name, _)| name == label).map(|&(_, color)| color);
    let colors = labels.iter().map(color).collect::<Option<Vec<_>>>()?;
    (colors.len() == CAMVID.len()).then_some(colors)
}
