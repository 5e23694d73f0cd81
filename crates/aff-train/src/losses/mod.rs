//! What networks are trained with: matched losses of classes and masks (section 10 of the method) or of classes and boxes (section 13)
//! on every decoder output, and the cross entropy of classifiers.

mod boxes;
mod classification;
mod criterion;
mod mask;
mod matcher;
mod matching;
mod points;
mod semantic;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::tasks::Update;

pub use boxes::{BoxCriterion, BoxLayerLosses, BoxWeights, ImageBoxes};
pub use classification::{CrossEntropy, cross_entropy, soft_cross_entropy};
pub use criterion::{BatchTargets, Criterion, Normalizer};
pub(crate) use points::Stencil;

pub use mask::{binary_cross_entropy, dice_loss};
pub use matching::{Match, match_queries};

/// Weights and settings of the losses. The defaults are Mask2Former's, and for boxes Deformable DETR's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossOptions {
    /// Weight of the classification, in the loss and in the matching.
    pub class: f64,
    /// Weight of the binary cross entropy of the masks, in the loss and in the matching.
    pub mask: f64,
    /// Weight of the dice loss of the masks, in the loss and in the matching.
    pub dice: f64,
    /// Weight of "no object" among the classes.
    pub no_object: f64,
    /// Share of the probability that the classification spreads over all classes.
    pub label_smoothing: f64,
    /// Points that a mask is compared at.
    pub points: usize,
    /// Candidates for each of the points that are chosen by uncertainty.
    pub oversample_ratio: f64,
    /// Share of the points that are chosen by uncertainty.
    pub importance_share: f64,
    /// Weight of the cross entropy of the semantic map, the sum over the queries of class times mask probability. Not one of
    /// Mask2Former's losses: 0 by default. It makes small data sets learn faster.
    pub semantic: f64,
    /// Classes weigh in the semantic loss as a power of the inverse of their share of the pixels: 0 for all alike.
    pub semantic_balance: f64,
    /// Of detectors, besides [`class`](Self::class), which weighs their focal loss.
    #[serde(skip_serializing_if = "BoxWeights::is_default")]
    pub boxes: BoxWeights,
}

impl Default for LossOptions {
    fn default() -> Self {
        Self {
            class: 2.0,
            mask: 5.0,
            dice: 5.0,
            no_object: 0.1,
            label_smoothing: 0.0,
            points: 12_544,
            oversample_ratio: 3.0,
            importance_share: 0.75,
            semantic: 0.0,
            semantic_balance: 0.0,
            boxes: BoxWeights::default(),
        }
    }
}

impl LossOptions {
    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Value`] names the first that no loss can have.
    pub fn validate(&self) -> std::result::Result<(), TrainError> {
        for (key, value, high) in [
            ("loss.class", self.class, 1e6),
            ("loss.mask", self.mask, 1e6),
            ("loss.dice", self.dice, 1e6),
            ("loss.no_object", self.no_object, 1e6),
            ("loss.label_smoothing", self.label_smoothing, 1.0),
            ("loss.importance_share", self.importance_share, 1.0),
            ("loss.semantic", self.semantic, 1e6),
            ("loss.semantic_balance", self.semantic_balance, 4.0),
            ("loss.boxes.l1", self.boxes.l1, 1e6),
            ("loss.boxes.giou", self.boxes.giou, 1e6),
        ] {
            if !(0.0..=high).contains(&value) {
                return Err(TrainError::value(key, value, format!("0 to {high}")));
            }
        }
        if !(1.0..=100.0).contains(&self.oversample_ratio) {
            return Err(TrainError::value("loss.oversample_ratio", self.oversample_ratio, "1 to 100"));
        }
        if !(1..=1 << 20).contains(&self.points) {
            return Err(TrainError::value("loss.points", self.points, "1 to 1048576"));
        }
        Ok(())
    }
}

/// What is minimised, given what a network computed: [`Criterion`] unless a task is given another.
///
/// Closures are losses too.
pub trait Loss<Output>: Send + Sync {
    /// The losses of one pass of an update, as [`Task::losses`](crate::tasks::Task::losses) returns them.
    ///
    /// # Errors
    /// If output and targets do not fit.
    fn losses(&self, output: &Output, update: &Update<'_>) -> std::result::Result<Losses, TrainError>;
}

impl<Output, F> Loss<Output> for F
where
    F: Fn(&Output, &Update<'_>) -> std::result::Result<Losses, TrainError> + Send + Sync,
{
    fn losses(&self, output: &Output, update: &Update<'_>) -> std::result::Result<Losses, TrainError> {
        self(output, update)
    }
}

impl<Output> std::fmt::Debug for dyn Loss<Output> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a loss")
    }
}

/// The parts of a loss, weighted and summed over the decoder's outputs.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Name and value (a scalar) of each part.
    pub parts: Vec<(&'static str, Tensor)>,
}

impl Losses {
    /// The sum of the parts, a scalar.
    ///
    /// # Errors
    /// If there are no parts.
    pub fn total(&self) -> Result<Tensor> {
        let mut parts = self.parts.iter().map(|(_, part)| part);
        let Some(first) = parts.next() else { candle_core::bail!("a loss without parts") };
        parts.try_fold(first.clone(), |sum, part| sum + part)
    }
}
