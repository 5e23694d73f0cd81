//! What every task trains: a model, but for its weights.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aff_model::Network;
use aff_model::config::ModelConfig;
use aff_vision::PreprocessorConfig;
use aff_weights::ModelFolder;
use autofocusformer::Model;
use candle_core::{Device, Tensor};

use super::{TaskName, TaskSetup, Validation};
use crate::data::DataSet;
use crate::{EvaluationOptions, Parameters, TrainError, evaluate};

/// The model of a recipe, and the images that its weights are judged by.
#[derive(Debug)]
pub(super) struct Trainee {
    pub(super) config: ModelConfig,
    preprocessor: PreprocessorConfig,
    validation: Option<Arc<dyn DataSet>>,
}

impl Trainee {
    pub(super) fn new(setup: &TaskSetup<'_>) -> Result<Self, TrainError> {
        Ok(Self {
            config: setup.recipe.model_config(setup.train.categories())?,
            preprocessor: setup.recipe.preprocessor()?,
            validation: setup.validation.clone(),
        })
    }

    /// The network on these parameters, which it makes where there are none.
    pub(super) fn network(&self, parameters: &Parameters) -> Result<Network, TrainError> {
        Ok(Network::new(&self.config, &parameters.var_builder())?)
    }

    /// How good weights are at a task; `None` without images to judge by.
    pub(super) fn validate(
        &self,
        task: TaskName,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<Option<Validation>, TrainError> {
        let Some(data) = &self.validation else { return Ok(None) };
        let (config, preprocessor) = (self.config.clone(), self.preprocessor.clone());
        let model = Model::from_tensors(config, Some(preprocessor), weights, &Device::Cpu)?;
        Ok(Some(evaluate(model, data.as_ref(), &EvaluationOptions::new(task), |_| {})?.validation()))
    }

    /// Writes the folder of a model with these weights.
    pub(super) fn write(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        Ok(ModelFolder::write(folder, &self.config, Some(&self.preprocessor), weights)?)
    }
}
