//! The commands of `aff`, each with its arguments and what it does.
//!
//! Thin by design: arguments in, a pipeline call, files out. A library besides the command so that `cargo xtask` offers
//! the same conversion.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]

pub mod bench;
pub mod classify;
pub mod convert;
pub mod eval;
pub mod features;
mod hub;
pub mod info;
mod model_args;
pub mod predict;
mod sources;
pub mod tokens;
pub mod train;

use std::path::{Path, PathBuf};

use autofocusformer::weights::published_models;

/// Some of several photos could not be segmented; the others were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhotosSkipped {
    /// How many.
    pub skipped: usize,
    /// Out of how many.
    pub photos: usize,
}

impl std::fmt::Display for PhotosSkipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} photos were skipped", self.skipped, self.photos)
    }
}

impl std::error::Error for PhotosSkipped {}

/// Whether two paths name one file that exists.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

/// Refuses to write over what is read.
pub(crate) fn check_output_is_not(source: &Path, output: &Path) -> anyhow::Result<()> {
    let shown = output.display();
    anyhow::ensure!(!is_same_file(source, output), "{shown}: is the source; give --output another file");
    Ok(())
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
