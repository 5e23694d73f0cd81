//! A label for an image.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aff_model::config::ModelConfig;
use aff_model::{Network, Phase};
use aff_vision::PreprocessorConfig;
use aff_weights::ModelFolder;
use autofocusformer::Model;
use candle_core::{DType, Device, Tensor};
use rand::RngCore;

use super::{Task, TaskName, TaskSetup, Update, Validation};
use crate::data::DataSet;
use crate::losses::{Loss, Losses, soft_cross_entropy};
use crate::random::{Purpose, generator};
use crate::targets::Target;
use crate::{EvaluationOptions, Parameters, TrainError, evaluate};

/// Images with one label each, or with shares of several.
#[derive(Debug)]
pub struct Classification {
    network: Network,
    settings: Arc<Settings>,
}

/// What replicas share.
#[derive(Debug)]
struct Settings {
    label_smoothing: f64,
    /// Takes the place of the cross entropy.
    own_loss: Option<Box<dyn Loss<Tensor>>>,
    config: ModelConfig,
    preprocessor: PreprocessorConfig,
    validation: Option<Arc<dyn DataSet>>,
}

impl Classification {
    /// Builds the network of a recipe.
    ///
    /// # Errors
    /// If the recipe describes no classifier.
    pub fn new(setup: &TaskSetup<'_>) -> Result<Self, TrainError> {
        let config = setup.recipe.model_config(setup.train.categories())?;
        let network = Network::new(&config, &setup.parameters.var_builder())?;
        let settings = Settings {
            label_smoothing: setup.recipe.loss.label_smoothing,
            own_loss: None,
            config,
            preprocessor: setup.recipe.preprocessor()?,
            validation: setup.validation.clone(),
        };
        Ok(Self { network, settings: Arc::new(settings) })
    }

    /// With another loss than the cross entropy, of the logits `[B,classes]`.
    ///
    /// # Errors
    /// If the task has been replicated already.
    pub fn with_loss(mut self, loss: impl Loss<Tensor> + 'static) -> Result<Self, TrainError> {
        let settings = Arc::get_mut(&mut self.settings).ok_or(TrainError::Replicated)?;
        settings.own_loss = Some(Box::new(loss));
        Ok(self)
    }
}

impl Task for Classification {
    fn losses(&self, update: &Update<'_>) -> Result<Losses, TrainError> {
        let drop_seed = generator(update.seed, Purpose::DropPath, update.number()).next_u64();
        let phase = Phase::Training { seed: drop_seed };
        let batch = update.batch();
        let logits = self.network.forward(&batch.pixel_values, phase)?.into_classes()?;
        if let Some(loss) = &self.settings.own_loss {
            return loss.losses(&logits, update);
        }
        let targets = batch.targets.iter().map(Target::class).collect::<Result<Vec<_>, _>>()?;
        let logits = logits.to_dtype(DType::F32)?;
        let loss = soft_cross_entropy(&logits, &targets, self.settings.label_smoothing)?;
        Ok(Losses { parts: vec![("class", loss)] })
    }

    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<Validation>, TrainError> {
        let settings = &self.settings;
        let Some(data) = &settings.validation else { return Ok(None) };
        let (config, preprocessor) = (settings.config.clone(), settings.preprocessor.clone());
        let model = Model::from_tensors(config, Some(preprocessor), weights, &Device::Cpu)?;
        let options = EvaluationOptions::new(TaskName::Classification);
        Ok(Some(evaluate(model, data.as_ref(), &options, |_| {})?.validation()))
    }

    fn write_model(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        Ok(ModelFolder::write(folder, &self.settings.config, Some(&self.settings.preprocessor), weights)?)
    }

    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError> {
        let network = Network::new(&self.settings.config, &parameters.var_builder())?;
        Ok(Box::new(Self { network, settings: Arc::clone(&self.settings) }))
    }
}
