//! Images in, segments out.
//!
//! * [`open`] and [`decode`] read photos; [`PreprocessorConfig::apply`] makes the network's input of them.
//! * [`semantic`], [`instances`] and [`panoptic`] make segments of the network's outputs, [`detections`] boxes, at the photo's size.
//! * [`overlay`](fn@overlay) and [`draw_boxes`] draw them; [`LabelMap`], [`PanopticMap`] and [`Rle`] are written in the usual formats.

#![forbid(unsafe_code)]

mod decode;
mod dots;
mod error;
mod files;
mod formats;
mod label_map;
#[cfg(feature = "overlay")]
mod overlay;
mod panoptic_map;
mod postprocess;
mod preprocess;
mod preprocessor_config;
mod resize;
mod rle;
mod segment;
mod size;

pub use decode::{DecodeLimits, MAX_PIXELS, decode, decode_within, open, open_within, read_from};
pub use dots::draw_dots;
pub use error::VisionError;
pub use files::{write_json, write_png};
pub use formats::{CITYSCAPES_LABEL_IDS, CocoInstance, CocoPanoptic, CocoSegment, coco_instances};
pub use image::{Rgb, RgbImage};
pub use label_map::LabelMap;
#[cfg(feature = "overlay")]
pub use overlay::{
    ADE20K_COLORS, CITYSCAPES_COLORS, COCO_COLORS, CaptionedBox, FONT, OverlayOptions, Palette, Region,
    Regions, class_color, draw_boxes, overlay,
};
pub use panoptic_map::PanopticMap;
pub use postprocess::{
    BoxParts, DetectedBox, DetectionOptions, InstanceMask, InstanceOptions, PanopticOptions, Prediction,
    PredictionParts, ScoredLabelMap, SumResolution, detections, instances, panoptic, semantic,
};
pub use preprocess::PixelValues;
pub use preprocessor_config::{
    CropSize, IMAGENET_MEAN, IMAGENET_STD, PreprocessorConfig, Resample, ResizeTarget,
};
pub use resize::resize;
pub use rle::{CocoRle, Rle};
pub use segment::{Segment, SegmentInfo};
pub use size::ImageSize;

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
