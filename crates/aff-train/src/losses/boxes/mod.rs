//! The losses of Deformable DETR (section 13 of the method).
//!
//! They are computed in double precision, whatever the network computes in: there are few numbers, and sums over all tokens and classes
//! of a batch keep their digits so.

mod overlap;
#[cfg(test)]
mod tests;

use aff_model::boxes::{corners, overlap};
use aff_model::{BoxOutput, BoxPrediction};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::overlap::generalized_iou;
use super::matching::{Match, match_queries};
use super::{LossOptions, Losses};
use crate::TrainError;

/// Share of what is to be found in the focal loss; the rest is that of what is not.
const ALPHA: f64 = 0.25;
/// Keeps logarithms of the matching finite.
const EPS: f64 = 1e-8;

/// Weights of the losses of boxes, in the loss and in the matching.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoxWeights {
    /// Of the sum of the differences of centre and size.
    pub l1: f64,
    /// Of 1 less the generalised intersection over union.
    pub giou: f64,
}

impl Default for BoxWeights {
    fn default() -> Self {
        Self { l1: 5.0, giou: 2.0 }
    }
}

impl BoxWeights {
    /// Whether they are those of Deformable DETR.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The objects of an image that queries are matched with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageBoxes {
    classes: Vec<u32>,
    boxes: Vec<[f64; 4]>,
}

impl ImageBoxes {
    /// The class of each object, and its box (centre x, centre y, width, height) in fractions of the network's input. A box without
    /// width or height is allowed; it overlaps nothing.
    ///
    /// # Errors
    /// [`TrainError::Target`] if numbers differ or a box is not finite or has a negative size; it is named by its place.
    pub fn new(classes: Vec<u32>, boxes: Vec<[f64; 4]>) -> std::result::Result<Self, TrainError> {
        let refuse = |problem| Err(TrainError::Target { problem });
        if classes.len() != boxes.len() {
            return refuse(format!("has {} classes and {} boxes", classes.len(), boxes.len()));
        }
        let is_wrong =
            |bbox: &[f64; 4]| !bbox.iter().all(|value| value.is_finite()) || bbox[2].min(bbox[3]) < 0.0;
        match boxes.iter().position(is_wrong) {
            Some(place) => refuse(format!(
                "has the box {:?} (number {place}); expected finite numbers, width and height from 0",
                boxes[place]
            )),
            None => Ok(Self { classes, boxes }),
        }
    }

    /// The class of each object.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// The box of each object.
    pub fn boxes(&self) -> &[[f64; 4]] {
        &self.boxes
    }

    /// The same objects, all of class 0: what the first of two stages looks for.
    fn of_one_class(&self) -> Self {
        Self { classes: vec![0; self.classes.len()], boxes: self.boxes.clone() }
    }
}

/// The losses of one decoder output, before they are weighted: scalars of double precision.
#[derive(Debug, Clone)]
pub struct BoxLayerLosses {
    /// Focal loss of all queries and classes.
    pub class: Tensor,
    /// Sum of the differences of the matched boxes.
    pub l1: Tensor,
    /// 1 less the generalised intersection over union of the matched boxes.
    pub giou: Tensor,
    /// For each image, which query answers for which object.
    pub matches: Vec<Vec<Match>>,
}

/// The losses of Deformable DETR: each object of an image is a target that one query is matched with. Where there are more objects than
/// queries, those are matched that cost least.
///
/// Each decoder output has its own matching, and so do the proposals of two stages.
///
/// ```
/// use aff_model::{BoxOutput, BoxPrediction};
/// use aff_train::losses::{BoxCriterion, ImageBoxes, LossOptions};
/// use candle_core::{Device, Tensor};
///
/// let prediction = BoxPrediction {
///     class_logits: Tensor::new(&[[[8f32, -8.0], [-8.0, -8.0]]], &Device::Cpu)?,
///     boxes: Tensor::new(&[[[0.5f32, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]], &Device::Cpu)?,
/// };
/// let output = BoxOutput::new(vec![prediction], None)?;
/// let target = ImageBoxes::new(vec![0], vec![[0.5, 0.5, 0.2, 0.2]])?;
/// let loss = BoxCriterion::new(LossOptions::default()).losses(&output, &[target], 1.0)?.total()?;
/// assert!(loss.to_scalar::<f64>()? < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct BoxCriterion {
    options: LossOptions,
}

impl BoxCriterion {
    /// Losses of these weights.
    pub fn new(options: LossOptions) -> Self {
        Self { options }
    }

    /// The losses of a batch, weighted and summed over the decoder's outputs; those of the proposals apart. Sums are divided by
    /// `normalizer`, the number of objects of the batch or 1.
    ///
    /// # Errors
    /// If output and targets do not fit, or a class is none of the network's.
    pub fn losses(&self, output: &BoxOutput, targets: &[ImageBoxes], normalizer: f64) -> Result<Losses> {
        let mut sums: [Option<Tensor>; 3] = [None, None, None];
        for prediction in output.auxiliary.iter().chain([&output.prediction]) {
            let layer = self.layer(prediction, targets, normalizer)?;
            for (sum, part) in sums.iter_mut().zip(self.weighted(&layer)?) {
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
        }
        let mut parts: Vec<_> = ["class", "l1", "giou"]
            .into_iter()
            .zip(sums)
            .filter_map(|(name, sum)| Some((name, sum?)))
            .collect();
        if let Some(proposals) = &output.proposals {
            let targets: Vec<_> = targets.iter().map(ImageBoxes::of_one_class).collect();
            let weighted = self.weighted(&self.layer(proposals, &targets, normalizer)?)?;
            parts.extend(["proposal_class", "proposal_l1", "proposal_giou"].into_iter().zip(weighted));
        }
        Ok(Losses { parts })
    }

    fn weighted(&self, layer: &BoxLayerLosses) -> Result<[Tensor; 3]> {
        let LossOptions { class, boxes, .. } = &self.options;
        Ok([(&layer.class * *class)?, (&layer.l1 * boxes.l1)?, (&layer.giou * boxes.giou)?])
    }

    /// The losses of one output.
    ///
    /// # Errors
    /// As [`Self::losses`].
    pub fn layer(
        &self,
        prediction: &BoxPrediction,
        targets: &[ImageBoxes],
        normalizer: f64,
    ) -> Result<BoxLayerLosses> {
        let (batch, queries, classes) = prediction.class_logits.dims3()?;
        let costs = self.costs(prediction, targets)?;
        let matches: Vec<Vec<Match>> = costs.par_iter().map(|costs| match_queries(costs, queries)).collect();

        let mut wanted = vec![0.0; batch * queries * classes];
        let (mut rows, mut wanted_boxes) = (Vec::new(), Vec::new());
        for (image, (targets, matches)) in targets.iter().zip(&matches).enumerate() {
            for matched in matches {
                let row = image * queries + matched.query;
                wanted[row * classes + targets.classes[matched.target] as usize] = 1.0;
                rows.push(row as u32);
                wanted_boxes.extend(targets.boxes[matched.target]);
            }
        }
        let device = prediction.class_logits.device();
        let logits = prediction.class_logits.to_dtype(DType::F64)?.flatten_all()?;
        let class = focal_loss(&logits, &Tensor::new(wanted, device)?)?;
        let boxes = prediction.boxes.to_dtype(DType::F64)?.reshape((batch * queries, 4))?;
        let (l1, giou) = box_losses(&boxes, &rows, wanted_boxes)?;
        let mean = |sum: Tensor| sum / normalizer;
        Ok(BoxLayerLosses { class: mean(class)?, l1: mean(l1)?, giou: mean(giou)?, matches })
    }

    /// What each query costs for each object, image by image: `[objects][queries]`, row by row.
    ///
    /// # Errors
    /// As [`Self::losses`].
    pub fn costs(&self, prediction: &BoxPrediction, targets: &[ImageBoxes]) -> Result<Vec<Vec<f32>>> {
        let (batch, queries, classes) = prediction.class_logits.dims3()?;
        if prediction.boxes.dims() != [batch, queries, 4] || batch != targets.len() {
            let (logits, boxes) = (prediction.class_logits.dims(), prediction.boxes.dims());
            bail!("losses: logits {logits:?}, boxes {boxes:?} and the targets of {} images", targets.len())
        }
        if let Some(class) =
            targets.iter().flat_map(ImageBoxes::classes).find(|&&class| class as usize >= classes)
        {
            bail!("losses: an object of class {class}; the network knows {classes}, from 0")
        }
        let host =
            |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1();
        let (logits, boxes): (Vec<f64>, Vec<f64>) =
            (host(&prediction.class_logits)?, host(&prediction.boxes)?);
        let costs = targets.par_iter().enumerate().map(|(image, targets)| {
            let objects = targets.classes.iter().zip(&targets.boxes);
            let pairs =
                objects.flat_map(|object| (0..queries).map(move |query| (object, image * queries + query)));
            pairs
                .map(|((&class, wanted), row)| {
                    let found: [f64; 4] = std::array::from_fn(|side| boxes[row * 4 + side]);
                    self.cost(logits[row * classes + class as usize], found, *wanted) as f32
                })
                .collect()
        });
        Ok(costs.collect())
    }

    fn cost(&self, logit: f64, found: [f64; 4], wanted: [f64; 4]) -> f64 {
        let p = 1.0 / (1.0 + (-logit).exp());
        let hit = ALPHA * (1.0 - p).powi(2) * -(p + EPS).ln();
        let miss = (1.0 - ALPHA) * p.powi(2) * -(1.0 - p + EPS).ln();
        let l1: f64 = found.iter().zip(&wanted).map(|(found, wanted)| (found - wanted).abs()).sum();
        let giou = overlap(corners(found), corners(wanted)).generalized_iou;
        let weights = self.options.boxes;
        self.options.class * (hit - miss) + weights.l1 * l1 - weights.giou * giou
    }
}

/// The sum of `alpha (1 - p)^2 -log(p)` where something is to be found and `(1 - alpha) p^2 -log(1 - p)` where not (Lin et al. 2017).
fn focal_loss(logits: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let p = candle_nn::ops::sigmoid(logits)?;
    // log(1 + e^x) - x t, with the first term as max(x, 0) + log(1 + e^-|x|).
    let softplus = (logits.relu()? + (logits.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    let cross_entropy = (softplus - (logits * wanted)?)?;
    // 1 - p where 1 is wanted, p where 0 is.
    let error = ((wanted - (wanted * &p)? * 2.0)? + p)?;
    let alpha = wanted.affine(2.0 * ALPHA - 1.0, 1.0 - ALPHA)?;
    (alpha * (error.sqr()? * cross_entropy)?)?.sum_all()
}

/// The sums over the rows that were matched.
fn box_losses(boxes: &Tensor, rows: &[u32], wanted: Vec<f64>) -> Result<(Tensor, Tensor)> {
    if rows.is_empty() {
        // Not a factor of zero, which would leave the boxes without a gradient instead of with one of zeros.
        let zero = (boxes * boxes.zeros_like()?)?.sum_all()?;
        return Ok((zero.clone(), zero));
    }
    let device = boxes.device();
    let found = boxes.index_select(&Tensor::new(rows, device)?, 0)?;
    let wanted = Tensor::from_vec(wanted, (rows.len(), 4), device)?;
    let l1 = (&found - &wanted)?.abs()?.sum_all()?;
    let giou = generalized_iou(&found, &wanted)?.affine(-1.0, 1.0)?.sum_all()?;
    Ok((l1, giou))
}
