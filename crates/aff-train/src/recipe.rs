//! A run as a YAML file: what is trained on what, how, and where the results go.

use std::path::{Path, PathBuf};

use aff_model::config::{
    BackboneConfig, DecoderConfig, ModelConfig, SegmentationConfig, SegmentationTask, SemanticOrder,
};
use aff_vision::{PreprocessorConfig, ResizeTarget};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::data::{Augmentation, DataSetName};
use crate::loss::LossOptions;
use crate::optim::{OptimizerOptions, Schedule};

/// A run. Every key is documented at its field; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What to learn from.
    pub data: DataRecipe,
    /// What learns.
    pub model: ModelRecipe,
    /// How images are varied.
    pub augmentation: Augmentation,
    /// What is minimised.
    #[serde(default)]
    pub loss: LossOptions,
    /// How.
    #[serde(default)]
    pub optimizer: OptimizerOptions,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// How long, how often, where.
    pub run: RunOptions,
}

/// Data of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// The data set, which says how the folder is laid out.
    pub name: DataSetName,
    /// Its folder; relative to the current directory.
    pub folder: PathBuf,
    /// Split that is learnt from.
    pub train: String,
    /// Split that weights are chosen by; none if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
    /// Only the first so many images of the training split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// The four stages.
    pub backbone: BackboneConfig,
    /// The segmentation head.
    pub decoder: DecoderConfig,
    /// Object queries; at least as many as there are classes.
    pub num_queries: usize,
    /// Size that images are brought to for validation and afterwards.
    pub image_size: ResizeTarget,
    /// Images are padded to multiples of it then.
    pub size_divisor: u32,
    /// A model folder to begin from instead of random weights: parameters of the same name and shape are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<PathBuf>,
}

/// Length, pace and place of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOptions {
    /// Decides everything that is random.
    pub seed: u64,
    /// Updates.
    pub steps: u64,
    /// Images of a forward pass.
    pub batch_size: usize,
    /// Passes, run at the same time, whose gradients make one update. As many as there are cores are fastest; more lie
    /// beside each other in memory. Batch norms see one pass at a time.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// Threads that load data.
    #[serde(default = "one")]
    pub workers: usize,
    /// Decay of the average of the weights, which is validated and kept; 0 keeps the last weights.
    #[serde(default)]
    pub average_decay: f64,
    /// Updates between checkpoints.
    pub checkpoint_every: u64,
    /// Updates between validations, of which there is one at the end as well.
    pub validate_every: u64,
    /// Folder of the results.
    pub output: PathBuf,
}

fn one() -> usize {
    1
}

impl Recipe {
    /// Reads and validates a recipe.
    ///
    /// # Errors
    /// [`TrainError::Io`] if there is no such file, [`TrainError::Recipe`] if it is not a recipe, [`TrainError::Value`] for a
    /// value that no run can have.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TrainError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path, "read it"))?;
        let recipe: Self = serde_saphyr::from_str(&text)
            .map_err(|error| TrainError::Recipe { path: path.to_path_buf(), problem: error.to_string() })?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Value`] names the first that no run can have.
    pub fn validate(&self) -> Result<(), TrainError> {
        let run = &self.run;
        for (key, value, most) in [
            ("run.steps", run.steps, 1 << 40),
            ("run.batch_size", run.batch_size as u64, 1 << 16),
            ("run.accumulation", run.accumulation as u64, 1 << 16),
            ("run.workers", run.workers as u64, 1024),
            ("run.checkpoint_every", run.checkpoint_every, 1 << 40),
            ("run.validate_every", run.validate_every, 1 << 40),
        ] {
            if !(1..=most).contains(&value) {
                return Err(TrainError::value(key, value, format!("1 to {most}")));
            }
        }
        if !(0.0..1.0).contains(&run.average_decay) {
            return Err(TrainError::value("run.average_decay", run.average_decay, "0 to below 1"));
        }
        if self.data.limit == Some(0) {
            return Err(TrainError::value("data.limit", 0, "1 or more images"));
        }
        self.augmentation.validate()?;
        self.loss.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate()
    }

    /// What `config.json` says of the model, for the given classes.
    ///
    /// # Errors
    /// If no model can be so, or it has fewer queries than there are classes.
    pub fn model_config(&self, classes: Vec<String>) -> Result<ModelConfig, TrainError> {
        if self.model.num_queries < classes.len() {
            let expected = format!("one for each of the {} classes", classes.len());
            return Err(TrainError::value("model.num_queries", self.model.num_queries, expected));
        }
        let mut segmentation = SegmentationConfig::new(SegmentationTask::Semantic);
        segmentation.semantic_order = SemanticOrder::ResizeThenSum;
        let config = ModelConfig::segmenter(
            self.model.backbone.clone(),
            self.model.decoder.clone(),
            self.model.num_queries,
            segmentation,
            classes,
        );
        config.validate()?;
        Ok(config)
    }

    /// What `preprocessor_config.json` says of the model.
    ///
    /// # Errors
    /// If no preprocessor can be so.
    pub fn preprocessor(&self) -> Result<PreprocessorConfig, TrainError> {
        let preprocessor = PreprocessorConfig {
            size_divisor: self.model.size_divisor,
            ..PreprocessorConfig::imagenet(self.model.image_size)
        };
        preprocessor.validate()?;
        Ok(preprocessor)
    }

    /// The recipe without what may change when a run is resumed: lengths of the pauses, threads and folders.
    pub(crate) fn identity(&self) -> serde_json::Value {
        let mut identity = serde_json::to_value(self).unwrap_or_default();
        for (section, key) in [
            ("run", "workers"),
            ("run", "checkpoint_every"),
            ("run", "validate_every"),
            ("run", "output"),
            ("data", "folder"),
        ] {
            if let Some(section) = identity.get_mut(section).and_then(serde_json::Value::as_object_mut) {
                section.remove(key);
            }
        }
        identity
    }
}
