//! What can go wrong while training.

use std::path::{Path, PathBuf};

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe is not one: a key that is missing, unknown or of the wrong type.
    #[error("{}: {problem}", path.display())]
    Recipe {
        /// The recipe.
        path: PathBuf,
        /// Where and what, in the words of the YAML reader.
        problem: String,
    },
    /// A key of the recipe has a value that no run can have.
    #[error("recipe: `{key}` is {found}; expected {expected}")]
    Value {
        /// Path of the key, such as `optimizer.learning_rate`.
        key: &'static str,
        /// The value that was found.
        found: String,
        /// What would have been accepted.
        expected: String,
    },
    /// The data are not laid out as their data set is.
    #[error("{}: {problem}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A target is not what it should be: its parts do not fit, or it is of another kind.
    #[error("a target {problem}")]
    Target {
        /// What is wrong with it.
        problem: String,
    },
    /// A model cannot be measured on a data set.
    #[error("evaluation: {problem}")]
    Evaluation {
        /// Why not.
        problem: String,
    },
    /// A loss or a gradient is not a number: the run has diverged.
    #[error(
        "step {step}: {tensor} is {value}; the run has diverged. Its last checkpoint is whole: lower the learning rate or the \
         gradient's norm and resume from there"
    )]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// The loss, or the parameter whose gradient it is.
        tensor: String,
        /// The value that was found.
        value: f64,
    },
    /// A checkpoint belongs to another run.
    #[error(
        "{}: belongs to a run whose recipe has another `{key}`; give the run another `run.output`, or restore the recipe",
        path.display()
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The first key that differs.
        key: String,
    },
    /// The state of a run cannot be written.
    #[error(
        "the run cannot be saved: {source}. Its last checkpoint is whole: make room, then start it again to go on from there"
    )]
    Save {
        /// Why not.
        source: Box<TrainError>,
    },
    /// A checkpoint is damaged, or is none.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What does not fit and what to do.
        problem: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A task was given a loss after it had been replicated for other passes.
    #[error("the task has replicas; give it its loss before it is replicated")]
    Replicated,
    /// A loader's thread ended without saying why.
    #[error("the threads that load the data are gone; this is a bug")]
    Loader,
    /// A thread of the run panicked or could not be started.
    #[error("a thread of the run panicked or could not be started; this is a bug")]
    Panic,
    /// Objects that no metric can judge.
    #[error("metrics: {0}")]
    Metric(#[from] crate::MetricError),
    /// A file that is not what was expected, or a folder that another process works in.
    #[error(transparent)]
    File(#[from] aff_files::FileError),
    /// Images and label maps.
    #[error(transparent)]
    Vision(#[from] aff_vision::VisionError),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] aff_weights::WeightsError),
    /// The pipeline that validation runs.
    #[error(transparent)]
    Pipeline(Box<autofocusformer::Error>),
    /// A configuration that no model can have.
    #[error(transparent)]
    Config(#[from] aff_model::config::ConfigError),
    /// The network.
    #[error("the network failed: {0}")]
    Network(#[from] candle_core::Error),
}

impl From<autofocusformer::Error> for TrainError {
    fn from(error: autofocusformer::Error) -> Self {
        Self::Pipeline(Box::new(error))
    }
}

impl TrainError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    pub(crate) fn evaluation(problem: impl Into<String>) -> Self {
        Self::Evaluation { problem: problem.into() }
    }

    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts that nobody needs afterwards")]
    pub(crate) fn value(key: &'static str, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Value { key, found: found.to_string(), expected: expected.into() }
    }
}
