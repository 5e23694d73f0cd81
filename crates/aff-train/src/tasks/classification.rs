//! A label for an image.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aff_model::Network;
use candle_core::{DType, Tensor};

use super::trainee::Trainee;
use super::{Task, TaskName, TaskSetup, Update, Validation};
use crate::losses::{Loss, Losses, soft_cross_entropy};
use crate::targets::Target;
use crate::{Parameters, TrainError};

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
    trainee: Trainee,
}

impl Classification {
    /// Builds the network of a recipe.
    ///
    /// # Errors
    /// If the recipe describes no classifier.
    pub fn new(setup: &TaskSetup<'_>) -> Result<Self, TrainError> {
        let trainee = Trainee::new(setup)?;
        let network = trainee.network(setup.parameters)?;
        let settings =
            Settings { label_smoothing: setup.recipe.loss.label_smoothing, own_loss: None, trainee };
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
        let batch = update.batch();
        let logits = self.network.forward(&batch.pixel_values, update.phase())?.into_classes()?;
        if let Some(loss) = &self.settings.own_loss {
            return loss.losses(&logits, update);
        }
        let targets = batch.targets.iter().map(Target::class).collect::<Result<Vec<_>, _>>()?;
        let logits = logits.to_dtype(DType::F32)?;
        let loss = soft_cross_entropy(&logits, &targets, self.settings.label_smoothing)?;
        Ok(Losses { parts: vec![("class", loss)] })
    }

    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<Validation>, TrainError> {
        self.settings.trainee.validate(TaskName::Classification, weights)
    }

    fn write_model(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        self.settings.trainee.write(folder, weights)
    }

    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError> {
        let network = self.settings.trainee.network(parameters)?;
        Ok(Box::new(Self { network, settings: Arc::clone(&self.settings) }))
    }
}
