//! Deformable gather as a composition of Candle operators.

use candle_core::{D, DType, Result, Tensor, bail};

use super::{DeformableGather, LEAST_SQUARED_DISTANCE};
use crate::CanvasLookup;
use crate::shepard::DISTANCE_FLOOR;

/// As [`deformable_gather`](super::deformable_gather()).
///
/// # Errors
/// The same.
pub fn deformable_gather(inputs: &DeformableGather<'_>, levels: &[CanvasLookup]) -> Result<Tensor> {
    inputs.sizes(levels)?;
    let mut first_token = 0;
    let mut sum: Option<Tensor> = None;
    for (index, level) in levels.iter().enumerate() {
        let out = level_sum(inputs, level, index, first_token)?;
        sum = Some(match sum {
            Some(sum) => (sum + out)?,
            None => out,
        });
        first_token += level.tokens();
    }
    let Some(sum) = sum else { bail!("deformable_gather: no level") };
    sum.reshape((inputs.value.dim(0)?, inputs.locations.dim(1)?, inputs.value.dim(2)?))
}

/// What one level adds: `[B*Q*H, D]`.
fn level_sum(
    inputs: &DeformableGather<'_>,
    level: &CanvasLookup,
    level_index: usize,
    first_token: usize,
) -> Result<Tensor> {
    let (batch, tokens, channels) = inputs.value.dims3()?;
    let (queries, heads, points) =
        (inputs.locations.dim(1)?, inputs.locations.dim(2)?, inputs.locations.dim(4)?);
    let (width, k) = (channels / heads, level.k());
    let rows = batch * queries * heads;
    let (dtype, device) = (inputs.value.dtype(), inputs.value.device());
    let locations = inputs.locations.narrow(3, level_index, 1)?.contiguous()?.reshape((rows * points, 2))?;
    let weights = inputs.weights.narrow(3, level_index, 1)?.contiguous()?.reshape((rows, points, 1))?;

    let cells = cell_of(&locations.detach(), level, rows * points / batch)?;
    let positions: Vec<f32> = level.positions().as_slice().iter().flatten().map(|&c| c as f32).collect();
    let positions = Tensor::from_vec(positions, (batch * level.tokens(), 2), device)?.to_dtype(dtype)?;
    let nearest = Tensor::new(level.as_slice(), device)?.reshape(((), k))?;
    // Tokens of the level, counted within their image: [rows * points, k].
    let tokens_of_slots = nearest.index_select(&cells, 0)?;

    let slots = rows * points * k;
    let slot =
        |each: &dyn Fn(usize) -> usize| Tensor::from_iter((0..slots).map(|slot| each(slot) as u32), device);
    let image = |slot: usize| slot / (slots / batch).max(1);
    let of_level = (tokens_of_slots.flatten_all()? + slot(&|at| image(at) * level.tokens())?)?;
    let positions = positions.index_select(&of_level, 0)?.reshape((rows * points, k, 2))?;
    let squared = positions.broadcast_sub(&locations.unsqueeze(1)?)?.sqr()?.sum(D::Minus1)?;
    let logarithm = squared.maximum(LEAST_SQUARED_DISTANCE)?.log()?;
    let inverse = (logarithm.broadcast_mul(inputs.power)?.exp()? + DISTANCE_FLOOR)?.recip()?;
    let shares = inverse.broadcast_div(&inverse.sum_keepdim(D::Minus1)?)?;
    let weights =
        shares.reshape((rows, points, k))?.broadcast_mul(&weights)?.reshape((rows, points * k, 1))?;

    let by_head = inputs.value.contiguous()?.reshape((batch * tokens * heads, width))?;
    let first = slot(&|at| (image(at) * tokens + first_token) * heads + at / (points * k) % heads)?;
    let indices = (tokens_of_slots.flatten_all()?.affine(heads as f64, 0.0)? + first)?;
    let values = by_head.index_select(&indices, 0)?.reshape((rows, points * k, width))?;
    values.broadcast_mul(&weights)?.sum(1)
}

/// The cell of the canvas that each location `[n,2]` rounds to, half to even, counted over all images: u32 `[n]`; there are
/// `per_image` locations in an image.
fn cell_of(locations: &Tensor, level: &CanvasLookup, per_image: usize) -> Result<Tensor> {
    let canvas = level.positions().canvas();
    let cell = |axis: usize, size: u32| {
        let x = locations.narrow(1, axis, 1)?.squeeze(1)?;
        let below = x.floor()?;
        let rest = (&x - &below)?;
        let odd = (&below - (&below * 0.5)?.floor()?.affine(2.0, 0.0)?)?;
        let up = rest.gt(0.5)?.to_dtype(x.dtype())?;
        let tie = rest.eq(0.5)?.to_dtype(x.dtype())?;
        let rounded = ((below + up)? + (tie * odd)?)?;
        rounded.clamp(0.0, f64::from(size - 1))?.to_dtype(DType::U32)
    };
    let (width, height) = (canvas.width(), canvas.height());
    let (x, y) = (cell(0, width)?, cell(1, height)?);
    let count = locations.dim(0)?;
    let cells = width as usize * height as usize;
    let first = (0..count).map(|at| (at / per_image.max(1) * cells) as u32);
    (y.affine(f64::from(width), 0.0)? + x)? + Tensor::from_iter(first, locations.device())?
}
