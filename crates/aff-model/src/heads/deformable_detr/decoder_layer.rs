//! A layer of the decoder.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::layers::LayerNorm;
use crate::macs::Macs;
use crate::transformer::{
    Attention, DeformableAttention, DeformableSizes, FeedForward, Memory, ReferencePoints,
};

/// Sizes of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DecoderSizes {
    pub(super) attention: DeformableSizes,
    pub(super) feedforward: usize,
}

/// Self-attention of the queries, their deformable attention to the memory, a feed-forward block; all post-norm.
#[derive(Debug, Clone)]
pub(super) struct DecoderLayer {
    self_attention: Attention,
    self_norm: LayerNorm,
    cross_attention: DeformableAttention,
    cross_norm: LayerNorm,
    feed_forward: FeedForward,
}

impl DecoderLayer {
    pub(super) fn new(sizes: DecoderSizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let DeformableSizes { width, heads, .. } = sizes.attention;
        Ok(Self {
            self_attention: Attention::new(width, heads, &vb.pp("self_attn"))?,
            self_norm: LayerNorm::new(width, &vb.pp("norm2"))?,
            cross_attention: DeformableAttention::new(sizes.attention, &vb.pp("cross_attn"))?,
            cross_norm: LayerNorm::new(width, &vb.pp("norm1"))?,
            feed_forward: FeedForward::new(width, sizes.feedforward, "norm3", vb)?,
        })
    }

    /// `feat` and `position [B,Q,C]` -> `[B,Q,C]`
    pub(super) fn forward(
        &self,
        feat: &Tensor,
        position: &Tensor,
        references: &ReferencePoints,
        memory: &Memory,
    ) -> Result<Tensor> {
        let query = (feat + position)?;
        let shared = self.self_attention.added_to(feat, &query, &query, feat, None)?;
        let feat = self.self_norm.forward(&shared)?;
        let query = (&feat + position)?;
        let seen = self.cross_attention.added_to(&feat, &query, references, &memory.feat, &memory.lookups)?;
        self.feed_forward.forward(&self.cross_norm.forward(&seen)?)
    }

    pub(super) fn macs(&self, queries: usize, tokens: usize) -> Macs {
        self.self_attention.macs(queries, queries)
            + self.self_norm.macs(queries)
            + self.cross_attention.macs(queries, tokens)
            + self.cross_norm.macs(queries)
            + self.feed_forward.macs(queries)
    }
}
