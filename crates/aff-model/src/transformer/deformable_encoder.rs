//! The deformable encoder: three levels of tokens that look at each other (section 7 of the method).

use aff_ops::CanvasLookup;
use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::{DeformableAttention, DeformableSizes, FeedForward, Level, ReferencePoints};
use crate::Tokens;
use crate::layers::{LayerNorm, LinearNorm};
use crate::macs::Macs;

/// Levels that take part in deformable attention: res5, res4, res3.
pub(crate) const LEVELS: usize = 3;

/// Sizes of an encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DeformableEncoderSizes {
    pub(crate) attention: DeformableSizes,
    pub(crate) layers: usize,
    pub(crate) feedforward: usize,
}

/// Projections of three stages to one width, and layers of deformable attention among them.
#[derive(Debug, Clone)]
pub struct DeformableEncoder {
    /// For res5, res4, res3.
    input_proj: Vec<LinearNorm>,
    /// `[LEVELS, C]`
    level_embed: Tensor,
    layers: Vec<EncoderLayer>,
}

/// The levels after the encoder.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// res5, res4, res3.
    pub(crate) levels: [Level; LEVELS],
    /// Their tokens, one level after the other, `[B,N,C]`.
    pub(crate) feat: Tensor,
    /// The nearest tokens of every place of the canvas, in each level.
    pub(crate) lookups: Vec<CanvasLookup>,
}

impl DeformableEncoder {
    /// Parameters `input_proj.*`, `transformer.level_embed` and `transformer.encoder.*` for stages of the given widths.
    pub(crate) fn new(
        sizes: DeformableEncoderSizes,
        embed_dims: &[usize; 4],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let width = sizes.attention.width;
        let transformer = vb.pp("transformer");
        let input_proj = (0..LEVELS)
            .map(|level| LinearNorm::new(embed_dims[3 - level], width, &vb.pp("input_proj").pp(level)))
            .collect::<Result<_>>()?;
        let layers = (0..sizes.layers)
            .map(|layer| EncoderLayer::new(sizes, &transformer.pp("encoder.layers").pp(layer)))
            .collect::<Result<_>>()?;
        let init = Init::Randn { mean: 0.0, stdev: 1.0 };
        let level_embed = transformer.get_with_hints((LEVELS, width), "level_embed", init)?;
        Ok(Self { input_proj, level_embed, layers })
    }

    /// Encodes the normalised tokens res5, res4, res3.
    pub(crate) fn forward(&self, stages: [&Tokens; LEVELS]) -> Result<Memory> {
        let mut levels = Vec::with_capacity(LEVELS);
        for (stage, projection) in stages.into_iter().zip(&self.input_proj) {
            levels.push(Level::new(stage.with_feat(projection.forward(&stage.feat)?)?)?);
        }
        let embeddings =
            levels.iter().enumerate().map(|(i, level)| level.sine.broadcast_add(&self.level_embed.get(i)?));
        let embedding = Tensor::cat(&embeddings.collect::<Result<Vec<_>>>()?, 1)?;
        let feats: Vec<_> = levels.iter().map(|level| &level.tokens.feat).collect();
        let mut feat = Tensor::cat(&feats, 1)?;
        let lookups = levels
            .iter()
            .map(|level| DeformableAttention::lookup(level.tokens.positions()))
            .collect::<Result<Vec<_>>>()?;
        let references = ReferencePoints::own(&lookups, &feat)?;
        for layer in &self.layers {
            let query = (&feat + &embedding)?;
            let attended = layer.attention.added_to(&feat, &query, &references, &feat, &lookups)?;
            feat = layer.feed_forward.forward(&layer.norm1.forward(&attended)?)?;
        }
        let mut start = 0;
        let mut split = |level: &Level| {
            let count = level.tokens.count();
            let part = feat.narrow(1, start, count)?.contiguous()?;
            start += count;
            level.with_feat(part)
        };
        let levels = [split(&levels[0])?, split(&levels[1])?, split(&levels[2])?];
        Ok(Memory { levels, feat, lookups })
    }

    /// Cost for stages of the given numbers of tokens: res5, res4, res3.
    pub(crate) fn macs(&self, tokens: [usize; LEVELS]) -> Macs {
        let projections = self.input_proj.iter().zip(tokens);
        let projections: Macs = projections.map(|(projection, tokens)| projection.macs(tokens)).sum();
        let all = tokens.iter().sum();
        let layers = self.layers.iter().map(|layer| {
            layer.attention.macs(all, all) + layer.norm1.macs(all) + layer.feed_forward.macs(all)
        });
        projections + layers.sum()
    }
}

/// Deformable attention and a feed-forward block, both post-norm.
#[derive(Debug, Clone)]
struct EncoderLayer {
    attention: DeformableAttention,
    norm1: LayerNorm,
    feed_forward: FeedForward,
}

impl EncoderLayer {
    fn new(sizes: DeformableEncoderSizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = sizes.attention.width;
        Ok(Self {
            attention: DeformableAttention::new(sizes.attention, &vb.pp("self_attn"))?,
            norm1: LayerNorm::new(width, &vb.pp("norm1"))?,
            feed_forward: FeedForward::new(width, sizes.feedforward, "norm2", vb)?,
        })
    }
}
