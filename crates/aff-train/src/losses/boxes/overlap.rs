//! Generalised intersection over union with gradients.

use candle_core::{Result, Tensor};

/// The generalised intersection over union of the boxes (centre x, centre y, width, height) of each row: what
/// [`overlap`](aff_model::boxes::overlap) computes, with gradients.
///
/// # Shapes
/// `a [M,4]`, `b [M,4]` -> `[M]`
pub(super) fn generalized_iou(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (Corners::of(a)?, Corners::of(b)?);
    let shared = Corners { first: a.first.maximum(&b.first)?, last: a.last.minimum(&b.last)? };
    let around = Corners { first: a.first.minimum(&b.first)?, last: a.last.maximum(&b.last)? };
    let (intersection, hull) = (shared.area()?, around.area()?);
    let union = ((a.area()? + b.area()?)? - &intersection)?;
    quotient(&intersection, &union)? - quotient(&(&hull - &union)?, &hull)?
}

/// Two opposite corners of boxes, each `[M,2]`.
struct Corners {
    first: Tensor,
    last: Tensor,
}

impl Corners {
    fn of(boxes: &Tensor) -> Result<Self> {
        let (center, half) = (boxes.narrow(1, 0, 2)?, (boxes.narrow(1, 2, 2)? * 0.5)?);
        Ok(Self { first: (&center - &half)?, last: (center + half)? })
    }

    /// `[M]`; 0 where the last corner does not lie behind the first.
    fn area(&self) -> Result<Tensor> {
        let sides = (&self.last - &self.first)?.relu()?;
        sides.narrow(1, 0, 1)?.mul(&sides.narrow(1, 1, 1)?)?.squeeze(1)
    }
}

/// A quotient whose denominator is zero counts as zero, and has no gradient.
fn quotient(numerator: &Tensor, denominator: &Tensor) -> Result<Tensor> {
    let zeros = denominator.zeros_like()?;
    let is_zero = denominator.eq(&zeros)?;
    let divisor = is_zero.where_cond(&denominator.ones_like()?, denominator)?;
    is_zero.where_cond(&zeros, &(numerator / divisor)?)
}
