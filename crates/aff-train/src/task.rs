//! What a network is trained for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aff_model::config::ModelConfig;
use aff_model::{Network, Phase};
use aff_vision::PreprocessorConfig;
use aff_weights::ModelFolder;
use autofocusformer::Model;
use candle_core::{Device, Tensor};

use crate::data::{Batch, DataSet};
use crate::loss::{Criterion, Losses};
use crate::metrics::SemanticReport;
use crate::random::{Purpose, generator};
use crate::{Parameters, Recipe, TrainError, evaluate};

/// A network with its losses and its validation: what a trainer needs to know of a task.
pub trait Task: Send + Sync {
    /// The losses of a batch; everything random in them depends on the seed and the step.
    ///
    /// # Errors
    /// If the batch does not fit the network.
    fn losses(&self, batch: &Batch, seed: u64, step: u64) -> Result<Losses, TrainError>;

    /// How good given weights are on held-out data; `None` if there are none.
    ///
    /// # Errors
    /// If the data cannot be read or the network fails.
    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<SemanticReport>, TrainError>;

    /// Writes given weights as a model folder.
    ///
    /// # Errors
    /// If the folder cannot be written.
    fn write_model(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError>;

    /// The same task on another network of the same kind.
    ///
    /// # Errors
    /// If `parameters` are not those of such a network.
    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError>;
}

/// A class for every pixel, by mask classification.
#[derive(Debug)]
pub struct SemanticSegmentation {
    network: Network,
    criterion: Criterion,
    config: ModelConfig,
    preprocessor: PreprocessorConfig,
    validation: Option<Arc<dyn DataSet>>,
}

impl SemanticSegmentation {
    /// Builds the network of a recipe from `parameters`, which it fills.
    ///
    /// # Errors
    /// If the recipe describes no model, or the labels of the training data cannot be read.
    pub fn new(
        recipe: &Recipe,
        parameters: &Parameters,
        train: &dyn DataSet,
        validation: Option<Arc<dyn DataSet>>,
    ) -> Result<Self, TrainError> {
        let config = recipe.model_config(train.classes())?;
        let network = Network::new(&config, &parameters.var_builder())?;
        let classes = train.classes().len();
        let frequencies = if recipe.loss.semantic > 0.0 && recipe.loss.semantic_balance > 0.0 {
            class_frequencies(train, classes)?
        } else {
            vec![1.0 / classes as f64; classes]
        };
        Ok(Self {
            network,
            criterion: Criterion::new(recipe.loss.clone(), &frequencies),
            config,
            preprocessor: recipe.preprocessor()?,
            validation,
        })
    }
}

impl Task for SemanticSegmentation {
    fn losses(&self, batch: &Batch, seed: u64, step: u64) -> Result<Losses, TrainError> {
        use rand::RngCore;
        let drop_seed = generator(seed, Purpose::DropPath, step).next_u64();
        let point_seed = generator(seed, Purpose::Points, step).next_u64();
        let output =
            self.network.forward(&batch.pixel_values, Phase::Training { seed: drop_seed })?.into_masks()?;
        Ok(self.criterion.losses(&output, &batch.labels, point_seed)?)
    }

    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<SemanticReport>, TrainError> {
        let Some(data) = &self.validation else { return Ok(None) };
        let model =
            Model::from_tensors(self.config.clone(), Some(self.preprocessor.clone()), weights, &Device::Cpu)?;
        let segmenter = autofocusformer::Segmenter::try_from(model)?;
        Ok(Some(evaluate(&segmenter, data.as_ref(), |_| {})?))
    }

    fn write_model(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        Ok(ModelFolder::write(folder, &self.config, Some(&self.preprocessor), weights)?)
    }

    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError> {
        Ok(Box::new(Self {
            network: Network::new(&self.config, &parameters.var_builder())?,
            criterion: self.criterion.clone(),
            config: self.config.clone(),
            preprocessor: self.preprocessor.clone(),
            validation: self.validation.clone(),
        }))
    }
}

/// Share of each class in the labelled pixels.
fn class_frequencies(data: &dyn DataSet, classes: usize) -> Result<Vec<f64>, TrainError> {
    let mut counts = vec![0u64; classes];
    for index in 0..data.len() {
        for &label in data.load_labels(index)?.labels() {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
    }
    let all = counts.iter().sum::<u64>().max(1) as f64;
    Ok(counts.into_iter().map(|count| count as f64 / all).collect())
}
