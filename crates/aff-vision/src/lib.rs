//! Images in, segments out.

#![forbid(unsafe_code)]

mod preprocessor_config;

pub use preprocessor_config::{
    CropSize, IMAGENET_MEAN, IMAGENET_STD, PreprocessorConfig, Resample, ResizeTarget,
};
