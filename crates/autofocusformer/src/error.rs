//! What can go wrong between a path and its segments.

use std::path::PathBuf;

/// Why a pipeline could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model could not be loaded.
    #[error(transparent)]
    Weights(#[from] aff_weights::WeightsError),
    /// An image could not be read or used, or a result not be written.
    #[error(transparent)]
    Vision(#[from] aff_vision::VisionError),
    /// The network refused its input or failed to compute.
    #[error("the network could not be run: {0}")]
    Network(#[from] candle_core::Error),
    /// The model is of another kind than was asked for.
    #[error("{path}: the model is a {found}, not a {expected}", path = .path.display())]
    WrongArchitecture {
        /// Folder of the model.
        path: PathBuf,
        /// Kind that was asked for.
        expected: &'static str,
        /// Kind that it is.
        found: &'static str,
    },
    /// This build brings no model.
    #[error(
        "no model is named, and this build brings none; name a folder or a model of the Hugging Face hub"
    )]
    NoBuiltInModel,
    /// There is no preset of that name.
    #[error("there is no preset {name:?}; expected one of {}", .known.join(", "))]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// All there are.
        known: Vec<String>,
    },
    /// The model has no class of that name.
    #[error("the model has no class {name:?}; it knows {}", .known.join(", "))]
    UnknownClass {
        /// What was asked for.
        name: String,
        /// All there are.
        known: Vec<String>,
    },
    /// The model folder has no `preprocessor_config.json`, which says how images become the network's input.
    #[error("{path}: no preprocessor_config.json; convert the checkpoint again or add the file", path = .path.display())]
    NoPreprocessor {
        /// Folder of the model.
        path: PathBuf,
    },
    /// A setting has a value that makes no sense.
    #[error("`{name}` is {found}; expected {expected}")]
    Option {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// Values that would do.
        expected: &'static str,
    },
    /// A safetensors file without the network's input.
    #[error("{path}: {problem}; expected an image, or a safetensors file with `pixel_values` [B,3,H,W]", path = .path.display())]
    NoPixelValues {
        /// The file.
        path: PathBuf,
        /// What it has instead.
        problem: String,
    },
}

impl Error {
    pub(crate) fn not_a_probability(name: &'static str, value: f32) -> Self {
        Self::Option { name, found: value.to_string(), expected: "a number from 0 to 1" }
    }
}
