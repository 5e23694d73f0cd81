//! The pixel decoder: deformable attention among three levels of tokens, then one step to the finest (section 7 of the
//! method).

mod deformable_attention;

use aff_geometry::k_nearest;
use aff_ops::neighborhood_merge::MergeGeometry;
use aff_ops::{CanvasLookup, NeighborLists, Offset, ShepardInterpolation, sine_position_embedding};
use candle_core::{Error, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::Tokens;
use crate::config::Mask2FormerConfig;
use crate::layers::{FeedForward, LayerNorm, Linear, LinearNorm, PointConv, linear};

use deformable_attention::DeformableAttention;

/// Levels that take part in deformable attention: res5, res4, res3.
pub const LEVELS: usize = 3;
/// Neighbours of a sampled location and of an upsampled token.
pub(crate) const SHEPARD_NEIGHBORS: usize = 4;
/// Power of the squared distance in the step to res2.
const UPSAMPLING_POWER: f64 = 3.0;
/// Neighbours in the PointConv over res2.
pub(crate) const FINE_NEIGHBORS: usize = 9;

/// Tokens of four stages in, three levels of one width and mask features out.
#[derive(Debug, Clone)]
pub struct PixelDecoder {
    /// For res5, res4, res3.
    input_proj: Vec<LinearNorm>,
    /// `[LEVELS, hidden]`
    level_embed: Tensor,
    layers: Vec<EncoderLayer>,
    adapter: LinearNorm,
    fine: PointConv,
    fine_norm: LayerNorm,
    mask_features: Linear,
    hidden: usize,
}

/// What the pixel decoder computes.
#[derive(Debug, Clone)]
pub struct PixelDecoderOutput {
    /// res5, res4, res3 after deformable attention, `[B,N,hidden_dim]`, in the order of their stage.
    pub levels: [Tokens; LEVELS],
    /// On the tokens of res2, `[B,N,mask_feature_size]`, in raster order.
    pub mask_features: Tokens,
}

impl PixelDecoder {
    /// Builds the decoder for stages of the given widths.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn new(config: &Mask2FormerConfig, embed_dims: &[usize; 4], vb: &VarBuilder<'_>) -> Result<Self> {
        let hidden = config.hidden_dim;
        let transformer = vb.pp("transformer");
        let input_proj = (0..LEVELS)
            .map(|level| LinearNorm::new(embed_dims[3 - level], hidden, &vb.pp("input_proj").pp(level)))
            .collect::<Result<_>>()?;
        let layers = (0..config.encoder_layers)
            .map(|layer| EncoderLayer::new(config, &transformer.pp("encoder.layers").pp(layer)))
            .collect::<Result<_>>()?;
        Ok(Self {
            input_proj,
            level_embed: transformer.get_with_hints(
                (LEVELS, hidden),
                "level_embed",
                Init::Randn { mean: 0.0, stdev: 1.0 },
            )?,
            layers,
            adapter: LinearNorm::new(embed_dims[0], hidden, &vb.pp("adapter_1"))?,
            fine: PointConv::new(hidden, hidden, &vb.pp("layer_1.0"))?,
            fine_norm: LayerNorm::new(hidden, &vb.pp("layer_1.1"))?,
            mask_features: linear(hidden, config.mask_feature_size, &vb.pp("mask_features"))?,
            hidden,
        })
    }

    /// Decodes the normalised tokens res2, res3, res4, res5.
    ///
    /// # Errors
    /// If a stage has another width than the decoder was built for.
    pub fn forward(&self, stages: &[Tokens; 4]) -> Result<PixelDecoderOutput> {
        let levels = self.attend(stages)?;
        let mask_features = self.refine(&stages[0], &levels[LEVELS - 1])?;
        Ok(PixelDecoderOutput { levels, mask_features })
    }

    /// Deformable attention among res5, res4 and res3.
    fn attend(&self, stages: &[Tokens; 4]) -> Result<[Tokens; LEVELS]> {
        let mut feats = Vec::with_capacity(LEVELS);
        let mut embeddings = Vec::with_capacity(LEVELS);
        let mut lookups = Vec::with_capacity(LEVELS);
        for (level, (stage, projection)) in stages.iter().rev().zip(&self.input_proj).enumerate() {
            let feat = projection.forward(&stage.feat)?;
            let images: Vec<_> = stage.pos.images().collect();
            let sine = sine_position_embedding(&images, self.hidden, &feat)?;
            embeddings.push(sine.broadcast_add(&self.level_embed.get(level)?)?);
            lookups.push(CanvasLookup::new(&stage.pos, SHEPARD_NEIGHBORS)?);
            feats.push(feat);
        }
        let embedding = Tensor::cat(&embeddings, 1)?;
        let mut feat = Tensor::cat(&feats, 1)?;
        for layer in &self.layers {
            feat = layer.forward(&feat, &embedding, &lookups)?;
        }
        let mut start = 0;
        let mut split = |stage: &Tokens| {
            let part = feat.narrow(1, start, stage.count())?.contiguous()?;
            start += stage.count();
            stage.with_feat(part)
        };
        Ok([split(&stages[3])?, split(&stages[2])?, split(&stages[1])?])
    }

    /// Mask features on the tokens of res2, from those and from the finest attended level.
    fn refine(&self, res2: &Tokens, res3: &Tokens) -> Result<Tokens> {
        let points: Vec<_> = res3.pos.images().collect();
        let queries: Vec<_> = res2.pos.images().collect();
        let upsampling =
            ShepardInterpolation::new(&points, &queries, SHEPARD_NEIGHBORS, UPSAMPLING_POWER, &res2.feat)?;
        let feat = (self.adapter.forward(&res2.feat)? + upsampling.interpolate(&res3.feat)?)?;

        let nearest = queries
            .iter()
            .map(|image| k_nearest(image, image, FINE_NEIGHBORS))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let geometry = MergeGeometry {
            queries: &res2.pos,
            keys: &res2.pos,
            neighborhood: &NeighborLists::from_nearest_points(res2.count(), &nearest)?.into(),
            offset: Offset::ToQuery,
        };
        let refined = self.fine_norm.forward(&self.fine.forward(&feat, None, &geometry)?)?.relu()?;
        res2.with_feat(self.mask_features.forward(&refined)?)?.to_raster()
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
    fn new(config: &Mask2FormerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            attention: DeformableAttention::new(config, &vb.pp("self_attn"))?,
            norm1: LayerNorm::new(config.hidden_dim, &vb.pp("norm1"))?,
            feed_forward: FeedForward::new(config.hidden_dim, config.encoder_feedforward_dim, "norm2", vb)?,
        })
    }

    fn forward(&self, feat: &Tensor, embedding: &Tensor, levels: &[CanvasLookup]) -> Result<Tensor> {
        let attended = self.attention.forward(&(feat + embedding)?, feat, levels)?;
        self.feed_forward.forward(&self.norm1.forward(&(feat + attended)?)?)
    }
}
