//! Functions of boxes (section 13 of the method).
//!
//! A box is (centre x, centre y, width, height), as networks predict it, or its corners (left, top, right, bottom).

use candle_core::{Result, Tensor};

/// Keeps [`inverse_sigmoid`] finite at 0 and 1.
const EPS: f64 = 1e-5;

/// The corners of a box given by its centre and size.
///
/// ```
/// use aff_model::boxes::{center_size, corners};
///
/// assert_eq!(corners([3.0, 2.0, 4.0, 2.0]), [1.0, 1.0, 5.0, 3.0]);
/// assert_eq!(center_size([1.0, 1.0, 5.0, 3.0]), [3.0, 2.0, 4.0, 2.0]);
/// ```
pub fn corners([x, y, width, height]: [f64; 4]) -> [f64; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

/// The centre and size of a box given by its corners.
pub fn center_size([left, top, right, bottom]: [f64; 4]) -> [f64; 4] {
    [(left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top]
}

/// How much two boxes have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Intersection over union, 0 to 1; two boxes without area have none.
    pub iou: f64,
    /// Generalised intersection over union, -1 to 1: less the share of the smallest box around both that belongs to neither.
    pub generalized_iou: f64,
}

/// The overlap of two boxes, given by their corners. A quotient whose denominator is zero counts as zero.
///
/// ```
/// use aff_model::boxes::overlap;
///
/// let found = overlap([0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 4.0, 1.0]);
/// assert_eq!((found.iou, found.generalized_iou), (0.25, 0.25));
/// let apart = overlap([0.0, 0.0, 1.0, 1.0], [3.0, 0.0, 4.0, 1.0]);
/// assert_eq!((apart.iou, apart.generalized_iou), (0.0, -0.5));
/// ```
pub fn overlap(a: [f64; 4], b: [f64; 4]) -> Overlap {
    let area = |[left, top, right, bottom]: [f64; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let shared = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    let around = [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])];
    let intersection = area(shared);
    let union = area(a) + area(b) - intersection;
    let iou = quotient(intersection, union);
    Overlap { iou, generalized_iou: iou - quotient(area(around) - union, area(around)) }
}

fn quotient(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}

/// `log(max(x, 1e-5) / max(1 - x, 1e-5))`, the logit whose sigmoid is `x`.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[0.5f64, 0.0, 1.0], &Device::Cpu)?;
/// let logits = aff_model::boxes::inverse_sigmoid(&x)?.to_vec1::<f64>()?;
/// assert!(logits[0] == 0.0 && (logits[1] + 11.512925).abs() < 1e-6 && (logits[2] - 11.512925).abs() < 1e-6);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Errors
/// If the type has no logarithm.
pub fn inverse_sigmoid(x: &Tensor) -> Result<Tensor> {
    let rest = x.affine(-1.0, 1.0)?;
    x.maximum(EPS)?.log()? - rest.maximum(EPS)?.log()?
}
