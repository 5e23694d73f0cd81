//! The pixel decoder: deformable attention among three levels of tokens, then one step to the finest (section 7 of the
//! method).

use aff_geometry::k_nearest;
use aff_ops::neighborhood_merge::MergeGeometry;
use aff_ops::{NeighborLists, Offset, ShepardInterpolation};
use candle_core::{Error, Module, Result};
use candle_nn::VarBuilder;

use crate::Tokens;
use crate::config::Mask2FormerConfig;
use crate::layers::{LayerNorm, Linear, LinearNorm, PointConv, linear};
use crate::macs::{Macs, performed};
use crate::transformer::{DeformableEncoder, DeformableEncoderSizes, DeformableSizes, LEVELS, Level};

/// Neighbours of an upsampled token.
const UPSAMPLING_NEIGHBORS: usize = 4;
/// Power of the squared distance in the step to res2.
const UPSAMPLING_POWER: f64 = 3.0;
/// Neighbours in the PointConv over res2.
const FINE_NEIGHBORS: usize = 9;

/// Tokens of four stages in, three levels of one width and mask features out.
#[derive(Debug, Clone)]
pub struct PixelDecoder {
    encoder: DeformableEncoder,
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
    pub levels: [Level; LEVELS],
    /// On the tokens of res2, `[B,N,mask_feature_size]`, in raster order.
    pub mask_features: Tokens,
}

impl PixelDecoder {
    pub(super) fn new(
        config: &Mask2FormerConfig,
        embed_dims: &[usize; 4],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let hidden = config.hidden_dim;
        let encoder = DeformableEncoderSizes {
            attention: DeformableSizes {
                width: hidden,
                heads: config.num_attention_heads,
                points: config.num_sampling_points,
                shepard_power: config.shepard_power(),
            },
            layers: config.encoder_layers,
            feedforward: config.encoder_feedforward_dim,
        };
        Ok(Self {
            encoder: DeformableEncoder::new(encoder, embed_dims, vb)?,
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
        let [res2, res3, res4, res5] = stages;
        let levels = self.encoder.forward([res5, res4, res3])?.levels;
        let mask_features = self.refine(res2, &levels[LEVELS - 1].tokens)?;
        Ok(PixelDecoderOutput { levels, mask_features })
    }

    /// Mask features on the tokens of res2, from those and from the finest attended level.
    fn refine(&self, res2: &Tokens, res3: &Tokens) -> Result<Tokens> {
        let points: Vec<_> = res3.positions().images().collect();
        let queries: Vec<_> = res2.positions().images().collect();
        let upsampling =
            ShepardInterpolation::new(&points, &queries, UPSAMPLING_NEIGHBORS, UPSAMPLING_POWER, &res2.feat)?;
        let feat = (self.adapter.forward(&res2.feat)? + upsampling.interpolate(&res3.feat)?)?;
        performed(feat.elem_count() * upsampling.neighbors().per_query());

        let nearest = queries
            .iter()
            .map(|image| k_nearest(image, image, FINE_NEIGHBORS))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let geometry = MergeGeometry {
            queries: res2.positions(),
            keys: res2.positions(),
            neighborhood: &NeighborLists::from_nearest_points(res2.count(), &nearest)?.into(),
            offset: Offset::ToQuery,
        };
        let refined = self.fine_norm.forward(&self.fine.forward(&feat, None, &geometry)?)?.relu()?;
        res2.with_feat(self.mask_features.forward(&refined)?)?.to_raster()
    }

    pub(super) fn macs(&self, tokens: [usize; 4]) -> Macs {
        let [fine, res3, res4, res5] = tokens;
        self.encoder.macs([res5, res4, res3])
            + self.adapter.macs(fine)
            + Macs::executed(fine * UPSAMPLING_NEIGHBORS.min(res3) * self.hidden)
            + self.fine.macs(fine, FINE_NEIGHBORS.min(fine))
            + self.fine_norm.macs(fine)
            + self.mask_features.macs(fine)
    }
}
