//! Deformable gather as a composition of Candle operators.

use candle_core::{D, DType, Result, Tensor, bail};

use super::cpu::LEAST_SQUARED_DISTANCE;
use super::{CanvasLookup, DeformableGather};
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

    let mut tokens_of_slots = Vec::with_capacity(rows * points * k);
    let mut positions = Vec::with_capacity(rows * points * k * 2);
    let places = locations.detach().to_dtype(DType::F64)?.to_vec2::<f64>()?;
    for (row, place) in places.iter().enumerate() {
        let head = row / points % heads;
        let image = row / (points * heads * queries);
        for &token in level.nearest(image, [place[0], place[1]]) {
            tokens_of_slots.push(((image * tokens + first_token + token as usize) * heads + head) as u32);
            positions.extend(level.positions().image(image)[token as usize].map(|c| c as f32));
        }
    }
    let positions = Tensor::from_vec(positions, (rows * points, k, 2), device)?.to_dtype(dtype)?;
    let squared = positions.broadcast_sub(&locations.unsqueeze(1)?)?.sqr()?.sum(D::Minus1)?;
    let logarithm = squared.maximum(LEAST_SQUARED_DISTANCE)?.log()?;
    let inverse = (logarithm.broadcast_mul(inputs.power)?.exp()? + DISTANCE_FLOOR)?.recip()?;
    let shares = inverse.broadcast_div(&inverse.sum_keepdim(D::Minus1)?)?;
    let weights =
        shares.reshape((rows, points, k))?.broadcast_mul(&weights)?.reshape((rows, points * k, 1))?;

    let by_head = inputs.value.contiguous()?.reshape((batch * tokens * heads, width))?;
    let indices = Tensor::new(tokens_of_slots, device)?;
    let values = by_head.index_select(&indices, 0)?.reshape((rows, points * k, width))?;
    values.broadcast_mul(&weights)?.sum(1)
}
