//! The cross entropy of the semantic map: of what semantic segmentation shows in the end (section 9 of the method).

use aff_vision::LabelMap;
use candle_core::{Result, Tensor};

use super::points::{MapSize, Point, PointTable};
use crate::targets::IGNORED;

/// An image's part of the loss.
pub(super) struct SemanticTarget<'a> {
    pub(super) labels: &'a LabelMap,
    pub(super) points: Vec<Point>,
    /// Weight of every class.
    pub(super) class_weights: &'a [f32],
}

/// Keeps logarithms finite where no query claims a point.
const LEAST: f64 = 1e-6;

/// The weighted mean over the labelled points of -log(s_c / sum_k s_k), where s_k = sum_q softmax(class)_qk sigmoid(mask)_q is what
/// the semantic map is the largest of, and c the label. `None` if no point is labelled.
///
/// # Shapes
/// `class_logits [Q,K+1]`, `mask_logits [Q,h*w]` -> a scalar
pub(super) fn semantic_loss(
    class_logits: &Tensor,
    mask_logits: &Tensor,
    size: MapSize,
    target: &SemanticTarget<'_>,
) -> Result<Option<Tensor>> {
    let label_size = target.labels.size();
    let (height, width) = (label_size.height as usize, label_size.width as usize);
    let place = |position: f32, length: usize| ((position * length as f32) as usize).min(length - 1);
    let label = |&[x, y]: &Point| target.labels.labels()[place(y, height) * width + place(x, width)];
    let (points, labels): (Vec<Point>, Vec<u16>) = target
        .points
        .iter()
        .map(|point| (*point, label(point)))
        .filter(|(_, label)| *label != IGNORED)
        .unzip();
    if points.is_empty() {
        return Ok(None);
    }
    let classes = class_logits.dim(1)? - 1;
    let device = class_logits.device();
    let table = PointTable::new(std::slice::from_ref(&points), size, device)?;
    let masks = candle_nn::ops::sigmoid(&table.read_all(mask_logits)?)?;
    let classes_of_queries = softmax(class_logits)?.narrow(1, 0, classes)?.contiguous()?;
    // [P,K]
    let claims = (masks.t()?.contiguous()?.matmul(&classes_of_queries)? + LEAST)?;
    let logarithms = claims.log()?;
    let all = claims.sum(1)?.log()?;
    let indices: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
    let indices = Tensor::from_vec(indices, (points.len(), 1), device)?;
    let weights: Vec<f32> = labels.iter().map(|&label| target.class_weights[usize::from(label)]).collect();
    let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let weights = Tensor::from_vec(weights, points.len(), device)?;
    let surprise = (all - logarithms.gather(&indices, 1)?.squeeze(1)?)?;
    Ok(Some(((surprise * weights)?.sum_all()? / sum.max(f64::MIN_POSITIVE))?))
}

fn softmax(logits: &Tensor) -> Result<Tensor> {
    super::classification::log_softmax(logits)?.exp()
}
