//! Images in, segments out.

#![forbid(unsafe_code)]

mod decode;
mod error;
mod label_map;
mod panoptic_map;
mod postprocess;
mod preprocess;
mod preprocessor_config;
mod rle;
mod size;

pub use decode::{MAX_BYTES, MAX_PIXELS, decode, open};
pub use error::VisionError;
pub use label_map::LabelMap;
pub use panoptic_map::{PanopticMap, Segment, SegmentInfo};
pub use postprocess::{
    InstanceMask, InstanceOptions, PanopticOptions, Prediction, PredictionParts, SemanticOrder, instances,
    panoptic, semantic,
};
pub use preprocess::PixelValues;
pub use preprocessor_config::{
    CropSize, IMAGENET_MEAN, IMAGENET_STD, PreprocessorConfig, Resample, ResizeTarget,
};
pub use rle::Rle;
pub use size::ImageSize;
