//! AutoFocusFormer: segmentation off the grid.
//!
//! The front door: load a model folder, run it on an image, get segments. The layers below are re-exported for whoever
//! needs only one of them: [`geometry`] (clusters of points), [`ops`] (differentiable point operators), [`models`] (the
//! networks), [`vision`] (images and segments), [`weights`] (files).

#![forbid(unsafe_code)]

mod builder;
mod classifier;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod model;
mod segmenter;
mod tokens;

pub use aff_files as files;
pub use aff_geometry as geometry;
pub use aff_model as models;
pub use aff_ops as ops;
pub use aff_vision as vision;
pub use aff_weights as weights;
pub use candle_core::{DType, Device, Tensor};

pub use builder::SegmenterBuilder;
pub use classifier::{Classification, Classifier};
#[cfg(feature = "embedded")]
pub use embedded::EMBEDDED_MODEL;
pub use error::Error;
pub use model::{Model, Network, Place};
pub use segmenter::{SegmentOptions, Segmentation, Segmenter, Segments, Timings};
pub use tokens::StageTokens;
