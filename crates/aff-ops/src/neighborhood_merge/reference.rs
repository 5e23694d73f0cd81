//! Merging as a composition of Candle operators.

use candle_core::{Result, Tensor};

use super::{EPS, MergeGeometry, NeighborhoodMerge};
use crate::kernel::storage;
use crate::layers::reference::{gelu, layer_norm};
use crate::points::{Slots, relative_position_features};
use crate::weighted_gather::reference::multi_weighted_gather;

/// As [`neighborhood_merge`](super::neighborhood_merge()).
///
/// # Errors
/// The same.
pub fn neighborhood_merge(inputs: &NeighborhoodMerge<'_>, geometry: &MergeGeometry<'_>) -> Result<Tensor> {
    inputs.sizes(geometry)?;
    let neighborhood = geometry.neighborhood;
    let (batch, queries, slots) = (neighborhood.batch(), neighborhood.queries(), neighborhood.slots());
    let channels = inputs.feat.dim(2)?;
    let weight_channels = inputs.linear_bias.dim(0)?;

    let MergeGeometry { queries: query_positions, keys, offset, .. } = *geometry;
    let phi = relative_position_features(query_positions, keys, neighborhood, offset, inputs.feat)?;
    let linear = phi
        .reshape((batch * queries * slots, 5))?
        .matmul(&inputs.linear_weight.t()?)?
        .broadcast_add(inputs.linear_bias)?;
    let mut weights = gelu(&layer_norm(&linear, inputs.norm_weight, inputs.norm_bias, EPS)?)?.reshape((
        batch,
        queries,
        slots,
        weight_channels,
    ))?;
    if let Some(score) = inputs.score {
        weights = weights.broadcast_mul(&neighborhood.gather(&score.unsqueeze(2)?)?)?;
    }
    multi_weighted_gather(inputs.feat, &weights, neighborhood)?.reshape((
        batch,
        queries,
        weight_channels * channels,
    ))
}

/// The same for narrow types, which it computes in f32.
pub(super) fn prepared(inputs: &NeighborhoodMerge<'_>, geometry: &MergeGeometry<'_>) -> Result<Tensor> {
    let score = inputs.score.map(storage::prepared).transpose()?;
    let wide = NeighborhoodMerge {
        feat: &storage::prepared(inputs.feat)?,
        score: score.as_ref(),
        linear_weight: &storage::prepared(inputs.linear_weight)?,
        linear_bias: &storage::prepared(inputs.linear_bias)?,
        norm_weight: &storage::prepared(inputs.norm_weight)?,
        norm_bias: &storage::prepared(inputs.norm_bias)?,
    };
    neighborhood_merge(&wide, geometry)?.to_dtype(inputs.feat.dtype())
}
