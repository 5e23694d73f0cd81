//! What can go wrong with weights and their files.
//!
//! Messages quote files that others made, so every quotation is cut where it gets long: besides the path, a message has at most
//! 2 KB.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use aff_files::FileError;
use aff_model::config::{Architecture, ConfigError};

use crate::{CheckpointError, KeyReport};

/// Why weights could not be loaded, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file is a folder or device, larger than what it should hold can be, or would be overwritten though it is read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file or folder cannot be read or written.
    #[error("{path}: cannot {action}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is not a model folder.
    #[error("{path}: {problem}", path = .path.display())]
    NotAModel {
        /// What was given as a model.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// The name of a published checkpoint that was not fetched yet.
    #[error("{name}: the authors published this model, but it is not in {path}", path = .path.display())]
    NotFetched {
        /// Its name.
        name: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// `config.json` is not one of ours.
    #[error("{path}: {text}", path = .path.display(), text = brief_error(.source))]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// `preprocessor_config.json` is not one of ours.
    #[error("{path}: {text}", path = .path.display(), text = brief_error(.source))]
    Preprocessor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A safetensors file is damaged.
    #[error("{path}: not a whole safetensors file: {problem}", path = .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The tensors of a file are not those of the network.
    #[error("{path}: {report}", path = .path.display())]
    Keys {
        /// The file or folder.
        path: PathBuf,
        /// Every difference.
        report: KeyReport,
    },
    /// A checkpoint cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A checkpoint cannot become a model folder.
    #[error("{path}: {problem}", path = .path.display())]
    Convert {
        /// The checkpoint, its YAML or the output.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A checkpoint says too little about its network, and no configuration was named.
    #[error(
        "{path}: carries no configuration; expected the name of a published model or a YAML file of the published \
         implementation beside it. Published models of this kind: {presets}",
        path = .path.display(), presets = .presets.join(", ")
    )]
    NoConfiguration {
        /// The checkpoint.
        path: PathBuf,
        /// What is in it.
        architecture: Architecture,
        /// Names of the published models that it may be.
        presets: Vec<String>,
    },
    /// The folder to make holds a file of an earlier conversion.
    #[error("{path}: already holds {file}", path = .path.display())]
    AlreadyConverted {
        /// The folder.
        path: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A model could not be had from the hub, from where it was published, or from a cache.
    #[error("{model}: {problem}")]
    Hub {
        /// Name, and revision if it has one.
        model: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A tensor could not be made or the network not be built.
    #[error("{0}")]
    Tensor(#[from] candle_core::Error),
}

impl WeightsError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    pub(crate) fn convert(path: &Path, problem: impl Into<String>) -> Self {
        Self::Convert { path: path.to_path_buf(), problem: problem.into() }
    }
}

/// Longest quotation of a file in a message, in bytes.
const LONGEST_QUOTE: usize = 160;
/// Longest message of another library in a message.
const LONGEST_MESSAGE: usize = 1200;

/// A text from a file as a message quotes it: its beginning, if it is long.
pub(crate) fn brief(text: &str) -> Cow<'_, str> {
    cut(text, LONGEST_QUOTE)
}

fn brief_error(error: &impl std::fmt::Display) -> String {
    cut(&error.to_string(), LONGEST_MESSAGE).into_owned()
}

fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(limit);
    Cow::Owned(format!("{}... ({} bytes)", &text[..end], text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_quotations_are_cut_between_characters() {
        assert_eq!(brief("short"), "short");
        let long = "\u{e4}".repeat(100);
        let shown = brief(&long);
        assert!(shown.starts_with(&"\u{e4}".repeat(80)) && shown.ends_with("... (200 bytes)"), "{shown}");
    }
}
