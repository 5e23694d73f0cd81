//! Soft assignment as a composition of Candle operators.

use candle_core::{D, Result, Tensor};

use super::{AssignmentGeometry, SoftAssignment};
use crate::points::{Offset, Slots, relative_position_features};
use crate::softmax_last_dim;

/// Keeps the inverse of the temperature finite.
const TEMPERATURE_FLOOR: f64 = 1e-8;
/// Least squared length that an embedding is divided by.
const LENGTH_FLOOR: f64 = 1e-24;

pub(super) fn forward(inputs: &SoftAssignment<'_>, geometry: &AssignmentGeometry<'_>) -> Result<Tensor> {
    let neighbors = geometry.neighbors;
    let coarse = neighbors.gather(&normalise(inputs.coarse)?)?;
    let cosine = coarse.broadcast_mul(&normalise(inputs.fine)?.unsqueeze(2)?)?.sum(D::Minus1)?;
    let sharpness = (inputs.temperature.abs()? + TEMPERATURE_FLOOR)?.recip()?;

    let phi = relative_position_features(
        geometry.fine,
        geometry.coarse,
        neighbors,
        Offset::ToNeighbor,
        inputs.fine,
    )?;
    let bias = phi.broadcast_mul(inputs.position_weight)?.sum(D::Minus1)?;
    softmax_last_dim(&(cosine.broadcast_mul(&sharpness)? + bias)?)
}

/// Scales the last axis to length one.
fn normalise(x: &Tensor) -> Result<Tensor> {
    let squared = x.sqr()?.sum_keepdim(D::Minus1)?.maximum(LENGTH_FLOOR)?;
    x.broadcast_div(&squared.sqrt()?)
}
