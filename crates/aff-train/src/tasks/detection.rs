//! A box for every object.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aff_model::{BoxOutput, Network};
use candle_core::Tensor;

use super::trainee::Trainee;
use super::{Task, TaskName, TaskSetup, Update, Validation};
use crate::data::CategoryKind;
use crate::losses::{BoxCriterion, ImageBoxes, Loss, Losses};
use crate::targets::{Target, TargetBox};
use crate::{Parameters, TrainError};

/// Boxes and a class for each, by Deformable DETR.
#[derive(Debug)]
pub struct Detection {
    network: Network,
    settings: Arc<Settings>,
}

/// What replicas share.
#[derive(Debug)]
struct Settings {
    criterion: BoxCriterion,
    /// Takes the place of the criterion.
    own_loss: Option<Box<dyn Loss<BoxOutput>>>,
    /// Which classes are countable.
    things: Vec<bool>,
    trainee: Trainee,
}

impl Detection {
    /// Builds the network of a recipe, with the first values of its head.
    ///
    /// # Errors
    /// If the recipe describes no detector.
    pub fn new(setup: &TaskSetup<'_>) -> Result<Self, TrainError> {
        let recipe = setup.recipe;
        let categories = setup.train.categories();
        let trainee = Trainee::new(setup)?;
        let network = trainee.network(setup.parameters)?;
        setup.parameters.set(&Network::initial_values(&trainee.config)?)?;
        let settings = Settings {
            criterion: BoxCriterion::new(recipe.loss.clone()),
            own_loss: None,
            things: categories.iter().map(|category| category.kind == CategoryKind::Thing).collect(),
            trainee,
        };
        Ok(Self { network, settings: Arc::new(settings) })
    }

    /// With another loss than Deformable DETR's.
    ///
    /// # Errors
    /// If the task has been replicated already.
    pub fn with_loss(mut self, loss: impl Loss<BoxOutput> + 'static) -> Result<Self, TrainError> {
        let settings = Arc::get_mut(&mut self.settings).ok_or(TrainError::Replicated)?;
        settings.own_loss = Some(Box::new(loss));
        Ok(self)
    }
}

impl Settings {
    /// The boxes of an image that queries are matched with.
    fn image_boxes(&self, target: &Target) -> Result<ImageBoxes, TrainError> {
        let is_thing = |object: &TargetBox| self.things.get(object.class as usize).is_none_or(|&thing| thing);
        target.to_boxes()?.retained(is_thing).to_image_boxes()
    }

    /// What the sums of each pass are divided by, so that the mean over the passes is what one pass over all images would give.
    fn normalizer(&self, update: &Update<'_>) -> Result<f64, TrainError> {
        let mut count = 0;
        for target in update.batches.iter().flat_map(|batch| &batch.targets) {
            count += self.image_boxes(target)?.boxes().len();
        }
        Ok(count.max(1) as f64 / update.batches.len() as f64)
    }
}

impl Task for Detection {
    fn losses(&self, update: &Update<'_>) -> Result<Losses, TrainError> {
        let batch = update.batch();
        let output = self.network.forward(&batch.pixel_values, update.phase())?.into_boxes()?;
        let settings = &self.settings;
        if let Some(loss) = &settings.own_loss {
            return loss.losses(&output, update);
        }
        let targets = batch.targets.iter().map(|target| settings.image_boxes(target));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        Ok(settings.criterion.losses(&output, &targets, settings.normalizer(update)?)?)
    }

    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<Validation>, TrainError> {
        self.settings.trainee.validate(TaskName::Detection, weights)
    }

    fn write_model(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        self.settings.trainee.write(folder, weights)
    }

    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError> {
        let network = self.settings.trainee.network(parameters)?;
        Ok(Box::new(Self { network, settings: Arc::clone(&self.settings) }))
    }
}
