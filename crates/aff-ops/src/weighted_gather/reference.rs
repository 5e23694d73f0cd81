//! Weighted sums of neighbours as a composition of Candle operators.

use candle_core::{Result, Tensor};

use crate::NeighborLists;
use crate::points::Slots;

/// As [`weighted_gather`](super::weighted_gather()).
///
/// # Errors
/// If the shapes do not fit together.
pub fn weighted_gather(feat: &Tensor, weights: &Tensor, neighbors: &NeighborLists) -> Result<Tensor> {
    multi_weighted_gather(feat, &weights.unsqueeze(3)?, neighbors)?.squeeze(2)
}

/// `out_iw = sum_j weights_ijw feat_j`: W weighted sums of the neighbours at once. Empty slots count nothing.
///
/// `feat [B,N,C]`, `weights [B,Q,M,W]` -> `[B,Q,W,C]`
pub(crate) fn multi_weighted_gather(
    feat: &Tensor,
    weights: &Tensor,
    neighborhood: &impl Slots,
) -> Result<Tensor> {
    let occupied = neighborhood.mark(1.0, 0.0, feat.device())?.to_dtype(feat.dtype())?;
    let weights = weights.broadcast_mul(&occupied.unsqueeze(3)?)?;
    weights.transpose(2, 3)?.contiguous()?.matmul(&neighborhood.gather(feat)?)
}
