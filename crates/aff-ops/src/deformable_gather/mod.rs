//! Values at learnt locations of several levels of tokens: the heart of deformable attention (section 7 of the method).
//!
//! The value of a level at location `l` is interpolated from the 4 tokens nearest to the canvas place `round(l)` (half to
//! even, clamped to the canvas), weighted by the inverse distance from `l` itself:
//!
//! ```text
//! u_t = 1 / ((|l - p_t|^2)^power + 1e-11)
//! value(l) = sum_t u_t x_t / sum_t u_t
//! out_qh = sum_{level, point} weight_q,h,level,point value_h(location_q,h,level,point)
//! ```
//!
//! As the neighbours of a location depend only on the canvas place, they are looked up in a [`CanvasLookup`], made once
//! for a level and shared by all layers.

mod lookup;
pub mod reference;

use candle_core::{Result, Tensor, bail};

use crate::shape;

pub use lookup::CanvasLookup;

/// What the gather computes from; see [`deformable_gather`](fn@deformable_gather).
#[derive(Debug, Clone, Copy)]
pub struct DeformableGather<'a> {
    /// Tokens of all levels, one level after the other, `[B,N,C]`; channels laid out (head, D).
    pub value: &'a Tensor,
    /// Where each query looks, `(x, y)` in canvas units, `[B,Q,H,L,P,2]`.
    pub locations: &'a Tensor,
    /// What each location counts for, `[B,Q,H,L,P]`.
    pub weights: &'a Tensor,
    /// Power of the squared distance, `[1]`.
    pub power: &'a Tensor,
}

/// Sums the values at the locations of every query and head; see the [module](self) for the equation.
///
/// ```
/// use aff_geometry::Canvas;
/// use aff_ops::{CanvasLookup, DeformableGather, Positions, deformable_gather};
/// use candle_core::{Device, Tensor};
///
/// let cpu = &Device::Cpu;
/// let level = CanvasLookup::new(&Positions::full_grid(1, Canvas::new(2, 1).unwrap()), 4)?;
/// // One query, head, level and point, half way between the values 1 and 3; it counts double.
/// let inputs = DeformableGather {
///     value: &Tensor::new(&[[[1f32], [3.]]], cpu)?,
///     locations: &Tensor::new(&[0.5f32, 0.], cpu)?.reshape((1, 1, 1, 1, 1, 2))?,
///     weights: &Tensor::new(&[2f32], cpu)?.reshape((1, 1, 1, 1, 1))?,
///     power: &Tensor::new(&[3f32], cpu)?,
/// };
/// let out = deformable_gather(&inputs, &[level])?;
/// assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, [4.]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// See [`DeformableGather`]; N is the sum of the levels' tokens. The result is `[B,Q,C]`, channels laid out (head, D).
///
/// # Errors
/// If a shape differs from these or a location is not finite.
pub fn deformable_gather(inputs: &DeformableGather<'_>, levels: &[CanvasLookup]) -> Result<Tensor> {
    const OPERATOR: &str = "deformable_gather";
    let (batch, tokens, channels) = shape::dims3(OPERATOR, "value", inputs.value, "[B,N,C]")?;
    let &[_, queries, heads, _, points, _] = inputs.locations.dims() else {
        bail!(
            "{OPERATOR}: `locations` has shape {:?}; expected six axes [B,Q,H,L,P,2]",
            inputs.locations.dims()
        )
    };
    shape::expect(
        OPERATOR,
        "locations",
        inputs.locations,
        &[batch, queries, heads, levels.len(), points, 2],
    )?;
    shape::expect(OPERATOR, "weights", inputs.weights, &[batch, queries, heads, levels.len(), points])?;
    shape::expect(OPERATOR, "power", inputs.power, &[1])?;
    let in_levels: usize = levels.iter().map(CanvasLookup::tokens).sum();
    if in_levels != tokens || levels.iter().any(|level| level.batch() != batch) {
        bail!(
            "{OPERATOR}: `value` has {batch} images of {tokens} tokens; the levels have {in_levels} tokens and images {:?}",
            levels.iter().map(CanvasLookup::batch).collect::<Vec<_>>()
        )
    }
    if heads == 0 || !channels.is_multiple_of(heads) {
        bail!("{OPERATOR}: {channels} channels do not divide among {heads} heads")
    }
    reference::forward(inputs, levels)
}
