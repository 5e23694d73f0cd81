//! Weights in and out: model folders, safetensors, and checkpoints of the published implementation.
//!
//! * [`ModelFolder`] opens what Hugging Face calls a model: a folder with `config.json`, `model.safetensors` (or shards
//!   with an index) and `preprocessor_config.json`.
//! * [`Checkpoint`] reads what the published implementation saved; [`convert`](fn@convert) makes a model folder of it.
//! * [`KeyReport`] says everything that is wrong between the tensors of a file and those of a network.

#![forbid(unsafe_code)]

pub mod checkpoint;
mod checksum;
pub mod convert;
#[cfg(feature = "hub")]
mod download;
mod error;
mod folder;
#[cfg(feature = "hub")]
mod hub;
mod keys;
mod presets;
#[cfg(feature = "hub")]
mod published;
mod tensor_file;
mod tensor_options;

pub use aff_model::expected_tensors;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use convert::{ConfigSource, ConvertOptions, ConvertReport, Overwrite, convert};
#[cfg(feature = "hub")]
pub use download::{DownloadObserver, Patience, Token};
pub use error::WeightsError;
pub use folder::{ModelFolder, checked_var_builder};
#[cfg(feature = "hub")]
pub use hub::{Hub, Links, ModelName, Network};
pub use keys::{KeyReport, TensorShapes};
pub use presets::{Preset, presets, published_models, random_weights};
#[cfg(feature = "hub")]
pub use published::{
    PUBLISHED_TERMS, Published, PublishedCheckpoint, Terms, published_checkpoint, published_checkpoints,
};
pub use tensor_file::{
    TensorsAndTexts, read_tensor_bytes, read_tensor_file, read_tensor_file_with_metadata, write_tensor_file,
    write_tensor_file_with_metadata,
};
pub use tensor_options::TensorOptions;

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
