//! AutoFocusFormer: segmentation off the grid.
//!
//! The front door: load a model folder, run it on an image, get segments. The layers below are re-exported for whoever
//! needs only one of them: [`geometry`] (clusters of points), [`ops`] (differentiable point operators), [`models`] (the
//! networks), [`vision`] (images and segments), [`weights`] (files).

#![forbid(unsafe_code)]

mod classifier;
mod error;
mod model;
mod segmenter;
mod tokens;

pub use aff_geometry as geometry;
pub use aff_model as models;
pub use aff_ops as ops;
pub use aff_vision as vision;
pub use aff_weights as weights;
pub use candle_core::{Device, Tensor};

pub use classifier::{Classification, Classifier};
pub use error::Error;
pub use model::{Model, Network};
pub use segmenter::{SegmentOptions, Segmentation, Segmenter, Segments};
pub use tokens::StageTokens;
