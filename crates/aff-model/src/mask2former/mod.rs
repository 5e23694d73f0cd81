//! The Mask2Former transformer decoder on tokens (section 8 of the method).

mod attention;
mod mask_tokens;

use aff_ops::sine_position_embedding;
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::Tokens;
use crate::layers::{FeedForward, LayerNorm, Linear, linear};

pub(crate) use attention::Attention;
use mask_tokens::MaskTokens;

/// Object queries that attend to levels of tokens and end as a class and a mask each.
#[derive(Debug, Clone)]
pub struct Mask2FormerDecoder {
    query_feat: Tensor,
    query_embed: Tensor,
    level_embed: Tensor,
    layers: Vec<DecoderLayer>,
    decoder_norm: LayerNorm,
    class_embed: Linear,
    mask_embed: [Linear; 3],
}

/// A class and a mask for every query, the masks on tokens.
#[derive(Debug, Clone)]
pub struct TokenPrediction {
    /// `[B,Q,classes+1]`; the last class is "no object".
    pub class_logits: Tensor,
    /// `[B,Q,N]` on the tokens of the mask features.
    pub mask_logits: Tensor,
}

/// Whether predictions before the last are kept; training looks at them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auxiliary {
    /// Keep the prediction before the first layer and after every layer.
    Keep,
    /// Only the last prediction.
    Drop,
}

/// Sizes of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecoderSizes {
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

impl Mask2FormerDecoder {
    /// Builds the decoder.
    pub(crate) fn new(sizes: DecoderSizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = sizes.width;
        let embedding = |count: usize, name: &str| {
            let init = Init::Randn { mean: 0.0, stdev: 1.0 };
            vb.pp(name).get_with_hints((count, width), "weight", init)
        };
        let layers =
            (0..sizes.layers).map(|layer| DecoderLayer::new(sizes, layer, vb)).collect::<Result<_>>()?;
        let mlp = vb.pp("mask_embed.layers");
        Ok(Self {
            query_feat: embedding(sizes.queries, "query_feat")?,
            query_embed: embedding(sizes.queries, "query_embed")?,
            level_embed: embedding(sizes.levels, "level_embed")?,
            layers,
            decoder_norm: LayerNorm::new(width, &vb.pp("decoder_norm"))?,
            class_embed: linear(width, sizes.classes + 1, &vb.pp("class_embed"))?,
            mask_embed: [
                linear(width, width, &mlp.pp(0))?,
                linear(width, width, &mlp.pp(1))?,
                linear(width, sizes.mask_features, &mlp.pp(2))?,
            ],
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
        levels: &[Tokens],
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
    fn memories(&self, levels: &[Tokens]) -> Result<Vec<Memory>> {
        if levels.is_empty() || levels.len() != self.level_embed.dim(0)? {
            bail!("transformer decoder: {} levels; expected {}", levels.len(), self.level_embed.dim(0)?)
        }
        let memory = |(index, level): (usize, &Tokens)| {
            let value = level.feat.broadcast_add(&self.level_embed.get(index)?)?;
            let images: Vec<_> = level.pos.images().collect();
            let width = self.level_embed.dim(1)?;
            let sine = sine_position_embedding(&images, width, &value)?;
            Ok(Memory { key: (&value + sine)?, value })
        };
        levels.iter().enumerate().map(memory).collect()
    }

    fn predict(&self, feat: &Tensor, masks: &MaskTokens<'_>) -> Result<TokenPrediction> {
        let normed = self.decoder_norm.forward(feat)?;
        let [first, second, last] = &self.mask_embed;
        let hidden = second.forward(&first.forward(&normed)?.relu()?)?.relu()?;
        Ok(TokenPrediction {
            class_logits: self.class_embed.forward(&normed)?,
            mask_logits: masks.logits(&last.forward(&hidden)?)?,
        })
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
    fn new(sizes: DecoderSizes, layer: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let DecoderSizes { width, heads, .. } = sizes;
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
        let seen = self.cross_attention.forward(&query, &memory.key, &memory.value, Some(blocked))?;
        let feat = self.cross_norm.forward(&(feat + seen)?)?;

        let query = (&feat + query_pos)?;
        let shared = self.self_attention.forward(&query, &query, &feat, None)?;
        let feat = self.self_norm.forward(&(feat + shared)?)?;
        self.feed_forward.forward(&feat)
    }
}
