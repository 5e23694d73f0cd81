//! What can go wrong with weights and their files.

use std::path::{Path, PathBuf};

use aff_model::config::ConfigError;

use crate::{CheckpointError, KeyReport};

/// Why weights could not be loaded, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
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
        /// What is missing, and what to do.
        problem: String,
    },
    /// `config.json` is not one of ours.
    #[error("{path}: {source}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// `preprocessor_config.json` is not one of ours.
    #[error("{path}: {source}", path = .path.display())]
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
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A model could not be had from the hub or its cache.
    #[error("{model}: {problem}")]
    Hub {
        /// Name and revision.
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
