//! The Mask2Former transformer decoder on tokens (section 8 of the method).

mod attention;

use std::sync::Arc;

use aff_ops::{Positions, sine_position_embedding};
use candle_core::{D, Module, Result, Tensor, bail};
use candle_nn::{Init, Linear, VarBuilder, linear};

use crate::Tokens;
use crate::config::Mask2FormerConfig;
use crate::layers::{FeedForward, LayerNorm};
use crate::pixel_decoder::{LEVELS, PixelDecoderOutput};

use attention::Attention;

/// Object queries that attend to the levels of the pixel decoder and end as a class and a mask each.
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

/// A prediction for every query: after the last layer, or after an earlier one.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// `[B,Q,classes+1]`; the last class is "no object".
    pub class_logits: Tensor,
    /// `[B,Q,h,w]` on the stride-4 canvas.
    pub mask_logits: Tensor,
}

/// Whether predictions before the last are kept; training looks at them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auxiliary {
    /// Keep the prediction before the first layer and after every layer but the last.
    Keep,
    /// Only the last prediction.
    Drop,
}

/// What the decoder computes.
#[derive(Debug, Clone)]
pub struct DecoderOutput {
    /// After the last layer.
    pub prediction: Prediction,
    /// Before the first layer and after every layer but the last; empty with [`Auxiliary::Drop`].
    pub auxiliary: Vec<Prediction>,
}

impl Mask2FormerDecoder {
    /// Builds the decoder.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn new(
        config: &Mask2FormerConfig,
        num_queries: usize,
        num_classes: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let width = config.hidden_dim;
        let embedding = |count: usize, name: &str| {
            let init = Init::Randn { mean: 0.0, stdev: 1.0 };
            vb.pp(name).get_with_hints((count, width), "weight", init)
        };
        let layers = (0..config.decoder_layers)
            .map(|layer| DecoderLayer::new(config, layer, vb))
            .collect::<Result<_>>()?;
        let mlp = vb.pp("mask_embed.layers");
        Ok(Self {
            query_feat: embedding(num_queries, "query_feat")?,
            query_embed: embedding(num_queries, "query_embed")?,
            level_embed: embedding(LEVELS, "level_embed")?,
            layers,
            decoder_norm: LayerNorm::new(width, &vb.pp("decoder_norm"))?,
            class_embed: linear(width, num_classes + 1, vb.pp("class_embed"))?,
            mask_embed: [
                linear(width, width, mlp.pp(0))?,
                linear(width, width, mlp.pp(1))?,
                linear(width, config.mask_feature_size, mlp.pp(2))?,
            ],
        })
    }

    /// Predicts from the pixel decoder's output, whose mask features cover the full canvas in raster order.
    ///
    /// # Errors
    /// If shapes do not fit, or the mask features do not cover the canvas.
    pub fn forward(&self, decoded: &PixelDecoderOutput, auxiliary: Auxiliary) -> Result<DecoderOutput> {
        let masks = MaskCanvas::new(&decoded.mask_features)?;
        let memories = self.memories(&decoded.levels)?;
        let (queries, width) = self.query_feat.dims2()?;
        let batch = decoded.mask_features.batch();
        let query_pos = self.query_embed.broadcast_as((batch, queries, width))?.contiguous()?;
        let mut feat = self.query_feat.broadcast_as((batch, queries, width))?.contiguous()?;

        let mut kept = Vec::new();
        let mut prediction = self.predict(&feat, &masks)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let memory = &memories[index % LEVELS];
            let blocked = masks.blocked(&prediction.mask_logits, &memory.pos)?;
            feat = layer.forward(&feat, &query_pos, memory, &blocked)?;
            let next = self.predict(&feat, &masks)?;
            let previous = std::mem::replace(&mut prediction, next);
            if auxiliary == Auxiliary::Keep {
                kept.push(previous);
            }
        }
        Ok(DecoderOutput { prediction, auxiliary: kept })
    }

    /// What the layers attend to: every level's tokens, with the level's embedding, and the keys' sine embedding.
    fn memories(&self, levels: &[Tokens; LEVELS]) -> Result<Vec<Memory>> {
        let memory = |(index, level): (usize, &Tokens)| {
            let value = level.feat.broadcast_add(&self.level_embed.get(index)?)?;
            let images: Vec<_> = level.pos.images().collect();
            let width = self.level_embed.dim(1)?;
            let sine = sine_position_embedding(&images, width, (value.dtype(), value.device()))?;
            Ok(Memory { key: (&value + sine)?, value, pos: Arc::clone(&level.pos) })
        };
        levels.iter().enumerate().map(memory).collect()
    }

    fn predict(&self, feat: &Tensor, masks: &MaskCanvas<'_>) -> Result<Prediction> {
        let normed = self.decoder_norm.forward(feat)?;
        let [first, second, last] = &self.mask_embed;
        let hidden = second.forward(&first.forward(&normed)?.relu()?)?.relu()?;
        Ok(Prediction {
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
    pos: Arc<Positions>,
}

/// Mask features that cover the canvas.
struct MaskCanvas<'a> {
    features: &'a Tokens,
}

impl<'a> MaskCanvas<'a> {
    fn new(features: &'a Tokens) -> Result<Self> {
        let canvas = features.pos.canvas();
        let full = Positions::full_grid(features.batch(), canvas);
        if full != *features.pos {
            bail!("mask features: {} tokens do not cover the canvas {canvas:?} in raster order", features.count())
        }
        Ok(Self { features })
    }

    /// `embedding [B,Q,mask_feature_size]` -> `[B,Q,h,w]`
    fn logits(&self, embedding: &Tensor) -> Result<Tensor> {
        let (batch, queries, _) = embedding.dims3()?;
        let canvas = self.features.pos.canvas();
        embedding.matmul(&self.features.feat.transpose(1, 2)?.contiguous()?)?.reshape((
            batch,
            queries,
            canvas.height() as usize,
            canvas.width() as usize,
        ))
    }

    /// Where a query may not look in a level: 1 where its mask probability is below one half, `[B,Q,N]` u8. A query
    /// that could look nowhere may look everywhere.
    ///
    /// The tokens of a level sit on places of the canvas, so that interpolating the logits to them is reading them.
    fn blocked(&self, mask_logits: &Tensor, pos: &Positions) -> Result<Tensor> {
        let (batch, queries, height, width) = mask_logits.dims4()?;
        let flat = mask_logits.detach().reshape((batch, queries, height * width))?;
        let images = pos.images().enumerate().map(|(image, pos)| {
            let places: Vec<u32> = pos.iter().map(|&[x, y]| y as u32 * width as u32 + x as u32).collect();
            flat.get(image)?.index_select(&Tensor::new(places, flat.device())?, 1)
        });
        let blocked = Tensor::stack(&images.collect::<Result<Vec<_>>>()?, 0)?.lt(0f64)?;
        let somewhere = blocked.min_keepdim(D::Minus1)?.eq(0u8)?;
        blocked.broadcast_mul(&somewhere)
    }
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
    fn new(config: &Mask2FormerConfig, layer: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, heads) = (config.hidden_dim, config.num_attention_heads);
        let cross = vb.pp("transformer_cross_attention_layers").pp(layer);
        let own = vb.pp("transformer_self_attention_layers").pp(layer);
        let feed_forward = vb.pp("transformer_ffn_layers").pp(layer);
        Ok(Self {
            cross_attention: Attention::new(width, heads, &cross.pp("multihead_attn"))?,
            cross_norm: LayerNorm::new(width, &cross.pp("norm"))?,
            self_attention: Attention::new(width, heads, &own.pp("self_attn"))?,
            self_norm: LayerNorm::new(width, &own.pp("norm"))?,
            feed_forward: FeedForward::new(width, config.decoder_feedforward_dim, "norm", &feed_forward)?,
        })
    }

    fn forward(&self, feat: &Tensor, query_pos: &Tensor, memory: &Memory, blocked: &Tensor) -> Result<Tensor> {
        let query = (feat + query_pos)?;
        let seen = self.cross_attention.forward(&query, &memory.key, &memory.value, Some(blocked))?;
        let feat = self.cross_norm.forward(&(feat + seen)?)?;

        let query = (&feat + query_pos)?;
        let shared = self.self_attention.forward(&query, &query, &feat, None)?;
        let feat = self.self_norm.forward(&(feat + shared)?)?;
        self.feed_forward.forward(&feat)
    }
}
