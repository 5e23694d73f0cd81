//! AutoFocusFormer: segmentation off the grid.
//!
//! The front door: load a model folder, run it on an image, get segments ([`Segmenter`]), boxes ([`Detector`]) or a
//! class ([`Classifier`]). The layers below are re-exported for whoever
//! needs only one of them: [`geometry`] (clusters of points), [`ops`] (differentiable point operators), [`models`] (the
//! networks), [`vision`] (images and segments), [`weights`] (files); and so is Candle, as [`candle_core`] and
//! [`candle_nn`], so that tensors that go in and out are of the same version.

#![forbid(unsafe_code)]

mod builder;
mod built_in;
mod classifier;
mod detections;
mod detector;
mod error;
mod loader;
mod model;
mod palette;
mod segment_options;
mod segmentation;
mod segmenter;
mod settings;
mod tokens;

pub use aff_files as files;
pub use aff_geometry as geometry;
pub use aff_model as models;
pub use aff_ops as ops;
pub use aff_vision as vision;
pub use aff_weights as weights;
pub use aff_weights::TensorOptions;
pub use candle_core::{self, DType, Device, Tensor};
pub use candle_nn;

pub use aff_model::Network;
pub use builder::{ModelSource, SegmenterBuilder};
pub use built_in::BuiltInModel;
pub use classifier::{Classification, Classifier};
pub use detections::{CocoDetection, Detection, Detections};
pub use detector::{DetectOptions, Detector};
pub use error::Error;
pub use loader::ModelLoader;
pub use model::Model;
pub use palette::palette;
pub use segment_options::SegmentOptions;
pub use segmentation::{Segmentation, Segments};
pub use segmenter::{Segmenter, Timings};
pub use tokens::StageTokens;

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
