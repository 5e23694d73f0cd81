//! The commands of `aff`, each with its arguments and what it does.
//!
//! Thin by design: arguments in, a pipeline call, files out. A library besides the command so that `cargo xtask` offers
//! the same conversion.

#![forbid(unsafe_code)]

mod arguments;
pub mod bench;
pub mod classify;
pub mod convert;
pub mod data;
mod data_args;
mod download;
mod error_text;
pub mod eval;
pub mod features;
pub mod info;
mod model_args;
pub mod models;
pub mod predict;
pub mod pull;
mod sources;
mod terminal;
pub mod tokens;
pub mod train;

use std::path::PathBuf;

use autofocusformer::weights::published_models;

pub use arguments::Arguments;
pub use error_text::error_text;
pub use terminal::{OutputClosed, note};

/// Some of several photos could not be used; the others were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{skipped} of {photos} photos were skipped")]
pub struct PhotosSkipped {
    /// How many.
    pub skipped: usize,
    /// Out of how many.
    pub photos: usize,
}

/// The files of `models/`: for each published model its `config.json` and `preprocessor_config.json`, as a path below that folder and
/// the text.
///
/// # Errors
/// If a configuration cannot be written as JSON.
pub fn published_model_files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for model in published_models() {
        let folder = PathBuf::from(&model.name);
        files.push((folder.join("config.json"), model.config.to_json()?));
        let preprocessor = serde_json::to_string_pretty(&model.preprocessor)?;
        files.push((folder.join("preprocessor_config.json"), preprocessor + "\n"));
    }
    Ok(files)
}
