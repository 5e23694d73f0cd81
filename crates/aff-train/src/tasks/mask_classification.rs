//! Semantic, instance and panoptic segmentation, all of them by masks that are classified.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aff_model::{MaskOutput, Network};
use aff_vision::LabelMap;
use candle_core::Tensor;
use rand::RngCore;

use super::trainee::Trainee;
use super::{Task, TaskName, TaskSetup, Update, Validation};
use crate::data::{CategoryKind, DataSet};
use crate::losses::{BatchTargets, Criterion, Loss, Losses};
use crate::random::{Purpose, generator};
use crate::targets::{Crowd, SegmentTarget, Target};
use crate::{Parameters, TrainError};

/// Masks and a class for each, for any of the three segmentation tasks, with either head.
#[derive(Debug)]
pub struct MaskClassification {
    network: Network,
    settings: Arc<Settings>,
}

/// What replicas share.
#[derive(Debug)]
struct Settings {
    task: TaskName,
    criterion: Criterion,
    /// Takes the place of the criterion.
    own_loss: Option<Box<dyn Loss<MaskOutput>>>,
    /// Which classes are countable.
    things: Vec<bool>,
    trainee: Trainee,
}

impl MaskClassification {
    /// Builds the network of a recipe.
    ///
    /// # Errors
    /// If the recipe describes no segmenter, or the labels of the training data cannot be read.
    pub fn new(setup: &TaskSetup<'_>) -> Result<Self, TrainError> {
        let recipe = setup.recipe;
        let categories = setup.train.categories();
        let trainee = Trainee::new(setup)?;
        let network = trainee.network(setup.parameters)?;
        let classes = categories.len();
        let options = &recipe.loss;
        let frequencies = if options.semantic > 0.0 && options.semantic_balance > 0.0 {
            class_frequencies(setup.train.as_ref(), classes)?
        } else {
            vec![1.0 / classes as f64; classes]
        };
        let settings = Settings {
            task: recipe.task,
            criterion: Criterion::new(options.clone(), &frequencies),
            own_loss: None,
            things: categories.iter().map(|category| category.kind == CategoryKind::Thing).collect(),
            trainee,
        };
        Ok(Self { network, settings: Arc::new(settings) })
    }

    /// With another loss than Mask2Former's.
    ///
    /// # Errors
    /// If the task has been replicated already.
    pub fn with_loss(mut self, loss: impl Loss<MaskOutput> + 'static) -> Result<Self, TrainError> {
        let settings = Arc::get_mut(&mut self.settings).ok_or(TrainError::Replicated)?;
        settings.own_loss = Some(Box::new(loss));
        Ok(self)
    }

    /// The losses of Mask2Former.
    fn criterion_losses(&self, output: &MaskOutput, update: &Update<'_>) -> Result<Losses, TrainError> {
        let settings = &self.settings;
        let criterion = &settings.criterion;
        let batch = update.batch();
        let segments =
            batch.targets.iter().map(|target| settings.segments(target)).collect::<Result<Vec<_>, _>>()?;
        let labels: Vec<LabelMap> = if criterion.options().semantic > 0.0 {
            batch.targets.iter().map(Target::to_label_map).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        let counts = self.target_counts(update, &segments)?;
        let queries = output.prediction.class_logits.dim(1)?;
        let targets = BatchTargets {
            segments: &segments,
            labels: &labels,
            normalizer: criterion.normalizer(&counts, queries, update.batches.len()),
            seed: generator(update.seed, Purpose::Points, update.step).next_u64(),
            first_image: update.first_image(),
        };
        Ok(criterion.losses(output, &targets)?)
    }

    /// Number of targets of every image of an update, given those of this pass.
    fn target_counts(&self, update: &Update<'_>, own: &[SegmentTarget]) -> Result<Vec<usize>, TrainError> {
        let mut counts = Vec::new();
        for (pass, batch) in update.batches.iter().enumerate() {
            if pass == update.pass {
                counts.extend(own.iter().map(|segments| segments.segments().len()));
                continue;
            }
            for target in &batch.targets {
                counts.push(self.settings.segments(target)?.segments().len());
            }
        }
        Ok(counts)
    }
}

impl Settings {
    /// The segments of an image that queries are matched with.
    fn segments(&self, target: &Target) -> Result<SegmentTarget, TrainError> {
        let is_single = |crowd: Crowd| crowd == Crowd::Single;
        match (self.task, target) {
            (TaskName::Semantic, _) => SegmentTarget::of_classes(&target.to_label_map()?),
            (_, Target::Semantic(_)) => Err(target.unfit("a set of segments")),
            (TaskName::Instance, _) => target.to_segments()?.retained(|segment| {
                let is_thing = self.things.get(segment.class as usize).is_none_or(|&thing| thing);
                is_single(segment.crowd) && is_thing
            }),
            _ => target.to_segments()?.retained(|segment| is_single(segment.crowd)),
        }
    }
}

impl Task for MaskClassification {
    fn losses(&self, update: &Update<'_>) -> Result<Losses, TrainError> {
        let output = self.network.forward(&update.batch().pixel_values, update.phase())?.into_masks()?;
        match &self.settings.own_loss {
            Some(loss) => loss.losses(&output, update),
            None => self.criterion_losses(&output, update),
        }
    }

    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<Validation>, TrainError> {
        self.settings.trainee.validate(self.settings.task, weights)
    }

    fn write_model(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        self.settings.trainee.write(folder, weights)
    }

    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError> {
        let network = self.settings.trainee.network(parameters)?;
        Ok(Box::new(Self { network, settings: Arc::clone(&self.settings) }))
    }
}

/// Share of each class in the labelled pixels.
fn class_frequencies(data: &dyn DataSet, classes: usize) -> Result<Vec<f64>, TrainError> {
    let mut counts = vec![0u64; classes];
    for index in 0..data.len() {
        for &label in data.load_target(index)?.to_label_map()?.labels() {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
    }
    let all = counts.iter().sum::<u64>().max(1) as f64;
    Ok(counts.into_iter().map(|count| count as f64 / all).collect())
}
