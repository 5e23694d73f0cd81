//! Cluster attention as a composition of Candle operators.

use candle_core::{D, Result, Tensor};

use super::{AttentionGeometry, ClusterAttention, PADDING_LOGIT, PaddingSlots, Sizes};
use crate::ClusterNeighborhood;
use crate::kernel::storage;
use crate::layers::reference::softmax_last_dim;
use crate::points::{Offset, Slots, relative_position_features};

/// As [`cluster_attention`](super::cluster_attention()).
///
/// # Errors
/// The same.
pub fn cluster_attention(inputs: &ClusterAttention<'_>, geometry: &AttentionGeometry<'_>) -> Result<Tensor> {
    let Sizes { batch, tokens, channels, heads } = inputs.sizes(geometry)?;
    let AttentionGeometry { positions, neighborhood, padding } = *geometry;
    let width = channels / heads;
    let by_head = |x: &Tensor| x.reshape((batch, tokens, heads, width))?.transpose(1, 2)?.contiguous();
    let key_value = inputs.key_value.reshape((batch, tokens, heads, 2, width))?;
    let part = |index: usize| by_head(&key_value.narrow(3, index, 1)?.contiguous()?);

    let phi =
        relative_position_features(positions, positions, neighborhood, Offset::ToNeighbor, inputs.query)?;
    let slots = neighborhood.slots();
    let bias = phi
        .reshape((batch * tokens * slots, 5))?
        .matmul(&inputs.position_weight.t()?)?
        .broadcast_add(inputs.position_bias)?
        .reshape((batch, tokens, slots, heads))?
        .permute((0, 3, 1, 2))?;
    // An empty slot has the key, the value and the position of key 0; all that is left to do is to lower its logit.
    let of_empty = match padding {
        PaddingSlots::LeftOut => f32::NEG_INFINITY,
        PaddingSlots::FirstToken => PADDING_LOGIT as f32,
    };
    let padding = neighborhood.mark(0.0, of_empty, bias.device())?.to_dtype(bias.dtype())?;

    let attention = LocalAttention {
        query: &by_head(&(inputs.query * (width as f64).powf(-0.5))?)?,
        key: &part(0)?,
        value: &part(1)?,
        bias: &bias.broadcast_add(&padding.unsqueeze(1)?)?,
        blank_key: &inputs.blank_key.reshape((heads, width))?,
        blank_value: &inputs.blank_value.reshape((heads, width))?,
    };
    local_attention(&attention, neighborhood)?.transpose(1, 2)?.reshape((batch, tokens, channels))
}

/// The same for narrow types, which it computes in f32.
pub(super) fn prepared(inputs: &ClusterAttention<'_>, geometry: &AttentionGeometry<'_>) -> Result<Tensor> {
    let wide = ClusterAttention {
        query: &storage::prepared(inputs.query)?,
        key_value: &storage::prepared(inputs.key_value)?,
        position_weight: &storage::prepared(inputs.position_weight)?,
        position_bias: &storage::prepared(inputs.position_bias)?,
        blank_key: &storage::prepared(inputs.blank_key)?,
        blank_value: &storage::prepared(inputs.blank_value)?,
    };
    cluster_attention(&wide, geometry)?.to_dtype(inputs.query.dtype())
}

/// Attention within neighbourhoods, with any bias.
struct LocalAttention<'a> {
    /// `[B,H,Q,D]`, already scaled.
    query: &'a Tensor,
    /// `[B,H,N,D]`.
    key: &'a Tensor,
    /// `[B,H,N,D]`.
    value: &'a Tensor,
    /// Added to the logits of the slots, `[B,H,Q,M]`.
    bias: &'a Tensor,
    /// `[H,D]`.
    blank_key: &'a Tensor,
    /// `[H,D]`.
    blank_value: &'a Tensor,
}

/// Softmax attention of every query to its slots and to the blank token: `[B,H,Q,D]`.
fn local_attention(inputs: &LocalAttention<'_>, neighborhood: &ClusterNeighborhood) -> Result<Tensor> {
    let (batch, heads, queries, width) = inputs.query.dims4()?;
    let (keys, slots) = (neighborhood.keys(), neighborhood.slots());

    // Rows of all heads of a token lie together for the gather: [B,H,N,D] -> [B,Q,M,H*D] -> [B,H,Q,M,D].
    let neighbors = |x: &Tensor| {
        let rows = x.transpose(1, 2)?.reshape((batch, keys, heads * width))?;
        neighborhood
            .gather(&rows)?
            .reshape((batch, queries, slots, heads, width))?
            .permute((0, 3, 1, 2, 4))?
            .contiguous()
    };
    let query = inputs.query.unsqueeze(3)?;
    let logits = neighbors(inputs.key)?.broadcast_mul(&query)?.sum(D::Minus1)?.add(inputs.bias)?;
    let blank_key = inputs.blank_key.reshape((1, heads, 1, width))?;
    let blank_logit = inputs.query.broadcast_mul(&blank_key)?.sum_keepdim(D::Minus1)?;

    let weights = softmax_last_dim(&Tensor::cat(&[&logits, &blank_logit], D::Minus1)?)?;
    let weighted = weights
        .narrow(D::Minus1, 0, slots)?
        .unsqueeze(D::Minus1)?
        .broadcast_mul(&neighbors(inputs.value)?)?
        .sum(3)?;
    let blank_value = inputs.blank_value.reshape((1, heads, 1, width))?;
    weighted + weights.narrow(D::Minus1, slots, 1)?.broadcast_mul(&blank_value)?
}
