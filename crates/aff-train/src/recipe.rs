//! A run as a YAML file: what is trained on what, how, and where the results go.

use std::path::{Path, PathBuf};

use aff_model::config::{
    BackboneConfig, DecoderConfig, ModelConfig, PaddingSlots, SegmentationConfig, SegmentationTask,
    SemanticOrder,
};
use aff_vision::{CropSize, PreprocessorConfig, ResizeTarget};
use aff_weights::Preset;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::augment::{Augmentation, Crop};
use crate::data::{Category, CategoryKind};
use crate::losses::LossOptions;
use crate::optim::{OptimizerOptions, Schedule};
use crate::tasks::TaskName;

/// A run. Every key is documented at its field; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is learnt.
    #[serde(default)]
    pub task: TaskName,
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
    /// Name of the layout, which says how the folder is laid out; recognised from the files if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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

/// Model of a run. What is not given is that of the preset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// A published model, such as `aff-tiny-coco-instance`, whose parts are taken where no others are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The four stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<BackboneConfig>,
    /// Stochastic depth, instead of the backbone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_path_rate: Option<f64>,
    /// The head for masks or boxes; a classifier has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderConfig>,
    /// Object queries of the head; for semantic segmentation at least as many as there are classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_queries: Option<usize>,
    /// Size that images are brought to for validation and afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<ResizeTarget>,
    /// Images are padded to multiples of it then; 32 if neither this nor a preset is given. Classifiers do not pad: they cut out
    /// the middle, of the size of the crops that are learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_divisor: Option<u32>,
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
    /// Passes whose gradients make one update, as many at the same time as there are cores. But for batch norms, which see one pass
    /// at a time, they make the update that one pass over all of their images would.
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

/// Images of an update; all of them are in memory.
const MOST_IMAGES: u64 = 1 << 16;
/// Bytes; no recipe comes near it.
const LARGEST_RECIPE: u64 = 1 << 20;

fn one() -> usize {
    1
}

fn missing(key: &'static str) -> TrainError {
    TrainError::value(key, "missing", "a value, or a `model.preset` that has one")
}

impl Recipe {
    /// Reads and validates a recipe.
    ///
    /// # Errors
    /// [`TrainError::Io`] if there is no such file, [`TrainError::Recipe`] if it is not a recipe, [`TrainError::Value`] for a
    /// value that no run can have.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TrainError> {
        let path = path.as_ref();
        let text = aff_files::read_to_string(path, LARGEST_RECIPE)?;
        let recipe: Self = serde_saphyr::from_str(&text)
            .map_err(|error| TrainError::Recipe { path: path.to_path_buf(), problem: error.to_string() })?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Writes the recipe as YAML, whole or not at all.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let path = path.as_ref();
        let text = serde_saphyr::to_string(self)
            .map_err(|error| TrainError::Recipe { path: path.to_path_buf(), problem: error.to_string() })?;
        aff_files::write_atomically(path, text.as_bytes()).map_err(TrainError::io(path, "write it"))
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Value`] names the first that no run can have.
    pub fn validate(&self) -> Result<(), TrainError> {
        let run = &self.run;
        for (key, value, most) in [
            ("run.steps", run.steps, 1 << 40),
            ("run.batch_size", run.batch_size as u64, 1 << 14),
            ("run.accumulation", run.accumulation as u64, 256),
            ("run.workers", run.workers as u64, 1024),
            ("run.checkpoint_every", run.checkpoint_every, 1 << 40),
            ("run.validate_every", run.validate_every, 1 << 40),
        ] {
            if !(1..=most).contains(&value) {
                return Err(TrainError::value(key, value, format!("1 to {most}")));
            }
        }
        let images = run.batch_size as u64 * run.accumulation as u64;
        if images > MOST_IMAGES {
            let expected = format!("at most {MOST_IMAGES} images, batch_size times accumulation");
            return Err(TrainError::value("run.batch_size", format!("{images} images an update"), expected));
        }
        if !(0.0..1.0).contains(&run.average_decay) {
            return Err(TrainError::value("run.average_decay", run.average_decay, "0 to below 1"));
        }
        if self.data.limit == Some(0) {
            return Err(TrainError::value("data.limit", 0, "1 or more images"));
        }
        if self.loss.semantic > 0.0 && !matches!(self.task, TaskName::Semantic | TaskName::Panoptic) {
            let expected = "0: only semantic and panoptic data have a class for every pixel";
            return Err(TrainError::value("loss.semantic", self.loss.semantic, expected));
        }
        if let Some(key) =
            self.augmentation.for_labels_alone().filter(|_| self.task != TaskName::Classification)
        {
            return Err(TrainError::value(
                key,
                "set",
                "no such variation: only labels of whole images bear it",
            ));
        }
        self.augmentation.validate()?;
        self.loss.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate()
    }

    /// What `config.json` says of the model, for the given categories.
    ///
    /// # Errors
    /// If no model can be so, or a semantic one has fewer queries than there are classes.
    pub fn model_config(&self, categories: &[Category]) -> Result<ModelConfig, TrainError> {
        let names = categories.iter().map(|category| category.name.clone());
        let preset = self.preset()?.map(|preset| preset.config);
        // What is trained here leaves padding slots out, whatever the published models do.
        let of_preset = preset.as_ref().map(|config| {
            let mut backbone = config.backbone_config.clone();
            backbone.padding_slots = PaddingSlots::LeftOut;
            backbone
        });
        let given = self.model.backbone.clone().or(of_preset);
        let mut backbone = given.ok_or_else(|| missing("model.backbone"))?;
        backbone.drop_path_rate = self.model.drop_path_rate.unwrap_or(backbone.drop_path_rate);
        if self.task == TaskName::Classification {
            let config = ModelConfig::classifier(backbone, names);
            config.validate()?;
            return Ok(config);
        }
        let of_preset = preset.as_ref().and_then(|config| config.decoder_config.as_ref());
        let decoder = self.model.decoder.as_ref().or(of_preset).ok_or_else(|| missing("model.decoder"))?;
        let of_preset = preset.as_ref().and_then(|config| config.num_queries);
        let queries = self.model.num_queries.or(of_preset).ok_or_else(|| missing("model.num_queries"))?;
        let Some(task) = self.task.segmentation() else {
            let DecoderConfig::DeformableDetr(decoder) = decoder else {
                let expected = "deformable_detr, the head for detection";
                return Err(TrainError::value("model.decoder.type", "another head", expected));
            };
            let config = ModelConfig::detector(backbone, decoder.clone(), queries, names);
            config.validate()?;
            return Ok(config);
        };
        if task == SegmentationTask::Semantic && queries < categories.len() {
            let expected = format!("one for each of the {} classes", categories.len());
            return Err(TrainError::value("model.num_queries", queries, expected));
        }
        let is_thing = |&class: &usize| categories[class].kind == CategoryKind::Thing;
        let of_preset = preset.as_ref().and_then(|config| config.segmentation_config.clone());
        let mut segmentation = of_preset.unwrap_or_else(|| {
            let mut segmentation = SegmentationConfig::new(task);
            segmentation.semantic_order = SemanticOrder::ResizeThenSum;
            // Every query may have found an object.
            segmentation.max_instances = segmentation.max_instances.max(queries);
            segmentation
        });
        segmentation.task = task;
        segmentation.thing_ids = (0..categories.len()).filter(is_thing).collect();
        let config = ModelConfig::segmenter(backbone, decoder.clone(), queries, segmentation, names);
        config.validate()?;
        Ok(config)
    }

    /// What `preprocessor_config.json` says of the model.
    ///
    /// # Errors
    /// If no preprocessor can be so.
    pub fn preprocessor(&self) -> Result<PreprocessorConfig, TrainError> {
        let mut preprocessor = match (self.preset()?, self.model.image_size) {
            (Some(preset), None) => preset.preprocessor,
            (_, None) => return Err(missing("model.image_size")),
            (_, Some(size)) if self.task == TaskName::Classification => {
                let Crop { height, width, .. } = self.augmentation.crop;
                PreprocessorConfig {
                    do_center_crop: true,
                    crop_size: Some(CropSize { height, width }),
                    do_pad: false,
                    ..PreprocessorConfig::imagenet(size)
                }
            }
            (_, Some(size)) => PreprocessorConfig::imagenet(size),
        };
        preprocessor.size_divisor = self.model.size_divisor.unwrap_or(preprocessor.size_divisor);
        preprocessor.validate()?;
        Ok(preprocessor)
    }

    /// The published model that the recipe names.
    fn preset(&self) -> Result<Option<Preset>, TrainError> {
        let Some(name) = &self.model.preset else { return Ok(None) };
        let found = aff_weights::presets().into_iter().find(|preset| &preset.name == name);
        found.map(Some).ok_or_else(|| {
            let expected = "the name of a preset, as `random:NAME` takes it";
            TrainError::value("model.preset", name, expected)
        })
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
