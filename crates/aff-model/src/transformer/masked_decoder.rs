//! The Mask2Former transformer decoder on tokens (section 8 of the method).

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::mask_tokens::MaskTokens;
use super::{Attention, FeedForward, Level};
use crate::Tokens;
use crate::heads::Auxiliary;
use crate::layers::{LayerNorm, Linear, Mlp, embedding, linear};
use crate::macs::Macs;

/// Object queries that attend to levels of tokens and end as a class and a mask each.
#[derive(Debug, Clone)]
pub struct MaskedDecoder {
    query_feat: Tensor,
    query_embed: Tensor,
    level_embed: Tensor,
    layers: Vec<DecoderLayer>,
    decoder_norm: LayerNorm,
    class_embed: Linear,
    mask_embed: Mlp,
    mask_feature_size: usize,
}

/// A class and a mask for every query, the masks on tokens.
#[derive(Debug, Clone)]
pub struct TokenPrediction {
    /// `[B,Q,classes+1]`; the last class is "no object".
    pub class_logits: Tensor,
    /// `[B,Q,N]` on the tokens of the mask features.
    pub mask_logits: Tensor,
}

/// Sizes of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaskedDecoderSizes {
    /// Width of queries and memories.
    pub(crate) width: usize,
    pub(crate) mask_features: usize,
    pub(crate) heads: usize,
    pub(crate) feedforward: usize,
    pub(crate) layers: usize,
    /// Levels that the layers take turns with.
    pub(crate) levels: usize,
    pub(crate) queries: usize,
    /// Without "no object".
    pub(crate) classes: usize,
}

impl MaskedDecoder {
    /// Builds the decoder.
    pub(crate) fn new(sizes: MaskedDecoderSizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let MaskedDecoderSizes { width, queries, mask_features, .. } = sizes;
        let layers =
            (0..sizes.layers).map(|layer| DecoderLayer::new(sizes, layer, vb)).collect::<Result<_>>()?;
        Ok(Self {
            query_feat: embedding(queries, width, "query_feat", vb)?,
            query_embed: embedding(queries, width, "query_embed", vb)?,
            level_embed: embedding(sizes.levels, width, "level_embed", vb)?,
            layers,
            decoder_norm: LayerNorm::new(width, &vb.pp("decoder_norm"))?,
            class_embed: linear(width, sizes.classes + 1, &vb.pp("class_embed"))?,
            mask_embed: Mlp::new(&[width, width, width, mask_features], &vb.pp("mask_embed"))?,
            mask_feature_size: mask_features,
        })
    }

    /// Predicts masks on the tokens of `mask_features [B,N,mask_feature_size]`, attending to the levels in turn.
    ///
    /// Every level's tokens sit on places where there is a mask token. Returns the prediction before the first layer and
    /// after each, or the last alone.
    ///
    /// # Errors
    /// If shapes do not fit, there are not as many levels as the decoder was built for, or a level has a token where the
    /// mask features have none.
    pub fn forward(
        &self,
        levels: &[Level],
        mask_features: &Tokens,
        auxiliary: Auxiliary,
    ) -> Result<Vec<TokenPrediction>> {
        let masks = MaskTokens::new(mask_features, levels)?;
        let memories = self.memories(levels)?;
        let (queries, width) = self.query_feat.dims2()?;
        let batch = mask_features.batch();
        let query_pos = self.query_embed.broadcast_as((batch, queries, width))?.contiguous()?;
        let mut feat = self.query_feat.broadcast_as((batch, queries, width))?.contiguous()?;

        let mut predictions = vec![self.predict(&feat, &masks)?];
        for (index, layer) in self.layers.iter().enumerate() {
            let level = index % memories.len();
            let last = predictions.len() - 1;
            let blocked = masks.blocked(&predictions[last].mask_logits, level)?;
            feat = layer.forward(&feat, &query_pos, &memories[level], &blocked)?;
            let prediction = self.predict(&feat, &masks)?;
            match auxiliary {
                Auxiliary::Keep => predictions.push(prediction),
                Auxiliary::Drop => predictions[last] = prediction,
            }
        }
        Ok(predictions)
    }

    /// What the layers attend to: every level's tokens, with the level's embedding, and the keys' sine embedding.
    fn memories(&self, levels: &[Level]) -> Result<Vec<Memory>> {
        if levels.is_empty() || levels.len() != self.level_embed.dim(0)? {
            bail!("transformer decoder: {} levels; expected {}", levels.len(), self.level_embed.dim(0)?)
        }
        let memory = |(index, level): (usize, &Level)| {
            let value = level.tokens.feat.broadcast_add(&self.level_embed.get(index)?)?;
            Ok(Memory { key: (&value + &level.sine)?, value })
        };
        levels.iter().enumerate().map(memory).collect()
    }

    fn predict(&self, feat: &Tensor, masks: &MaskTokens) -> Result<TokenPrediction> {
        let normed = self.decoder_norm.forward(feat)?;
        Ok(TokenPrediction {
            class_logits: self.class_embed.forward(&normed)?,
            mask_logits: masks.logits(&self.mask_embed.forward(&normed)?)?,
        })
    }

    /// Cost for levels of so many tokens and masks on so many.
    pub(crate) fn macs(&self, levels: &[usize], mask_tokens: usize) -> Macs {
        let queries = self.query_feat.dims()[0];
        let layers = self.layers.iter().zip(levels.iter().cycle());
        let layers: Macs = layers.map(|(layer, &keys)| layer.macs(queries, keys)).sum();
        let prediction = self.decoder_norm.macs(queries)
            + self.class_embed.macs(queries)
            + self.mask_embed.macs(queries)
            + Macs::products(queries * self.mask_feature_size * mask_tokens);
        layers + prediction * (self.layers.len() + 1)
    }
}

/// A level as a layer sees it.
struct Memory {
    /// `[B,N,hidden]`
    key: Tensor,
    /// `[B,N,hidden]`
    value: Tensor,
}

/// Masked cross-attention, self-attention and a feed-forward block, all post-norm.
#[derive(Debug, Clone)]
struct DecoderLayer {
    cross_attention: Attention,
    cross_norm: LayerNorm,
    self_attention: Attention,
    self_norm: LayerNorm,
    feed_forward: FeedForward,
}

impl DecoderLayer {
    fn new(sizes: MaskedDecoderSizes, layer: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let MaskedDecoderSizes { width, heads, .. } = sizes;
        let cross = vb.pp("transformer_cross_attention_layers").pp(layer);
        let own = vb.pp("transformer_self_attention_layers").pp(layer);
        let feed_forward = vb.pp("transformer_ffn_layers").pp(layer);
        Ok(Self {
            cross_attention: Attention::new(width, heads, &cross.pp("multihead_attn"))?,
            cross_norm: LayerNorm::new(width, &cross.pp("norm"))?,
            self_attention: Attention::new(width, heads, &own.pp("self_attn"))?,
            self_norm: LayerNorm::new(width, &own.pp("norm"))?,
            feed_forward: FeedForward::new(width, sizes.feedforward, "norm", &feed_forward)?,
        })
    }

    fn forward(
        &self,
        feat: &Tensor,
        query_pos: &Tensor,
        memory: &Memory,
        blocked: &Tensor,
    ) -> Result<Tensor> {
        let query = (feat + query_pos)?;
        let seen = self.cross_attention.added_to(feat, &query, &memory.key, &memory.value, Some(blocked))?;
        let feat = self.cross_norm.forward(&seen)?;

        let query = (&feat + query_pos)?;
        let shared = self.self_attention.added_to(&feat, &query, &query, &feat, None)?;
        let feat = self.self_norm.forward(&shared)?;
        self.feed_forward.forward(&feat)
    }

    fn macs(&self, queries: usize, keys: usize) -> Macs {
        self.cross_attention.macs(queries, keys)
            + self.cross_norm.macs(queries)
            + self.self_attention.macs(queries, queries)
            + self.self_norm.macs(queries)
            + self.feed_forward.macs(queries)
    }
}
