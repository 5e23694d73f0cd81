//! Weighted sums of neighbours as a composition of Candle operators.

use candle_core::{Result, Tensor};

use crate::Neighborhood;

/// `out_iw = sum_j weights_ijw feat_j`: W weighted sums of the neighbours at once.
///
/// # Shapes
/// `feat [B,N,C]`, `weights [B,Q,M,W]` -> `[B,Q,W,C]`
///
/// # Errors
/// If the shapes do not fit together.
pub fn multi_weighted_gather(feat: &Tensor, weights: &Tensor, neighborhood: &Neighborhood) -> Result<Tensor> {
    let mut weights = weights.clone();
    if neighborhood.has_empty_slots() {
        let occupied = neighborhood.occupied(feat.device())?.to_dtype(feat.dtype())?;
        weights = weights.broadcast_mul(&occupied.unsqueeze(3)?)?;
    }
    weights.transpose(2, 3)?.contiguous()?.matmul(&neighborhood.gather(feat)?)
}
