//! The HCFormer head: masks on the coarsest tokens, decoded to the finest by soft assignments (section 11 of the method).
//!
//! While the backbone merges fine tokens into coarse ones, the head learns how much each fine token belongs to the coarse
//! tokens around it. Masks are predicted on the few tokens of the last stage and handed back along these assignments,
//! stage by stage. No reference implementation on irregular tokens exists.

use aff_geometry::k_nearest;
use aff_ops::{AssignmentGeometry, NeighborLists, SoftAssignment, sine_position_embedding, soft_assignment};
use candle_core::{Error, Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::Tokens;
use crate::backbone::StageOutput;
use crate::config::HcFormerConfig;
use crate::layers::{FeedForward, LayerNorm, Linear, LinearNorm, linear, linear_no_bias};
use crate::mask2former::{Attention, Auxiliary, DecoderSizes, Mask2FormerDecoder, TokenPrediction};

/// Initial temperature of an assignment.
const INITIAL_TEMPERATURE: f64 = 0.1;
/// Stages that are followed by a coarser one.
const ASSIGNMENTS: usize = 3;

/// Projection of the last stage, an optional encoder, the decoder, and the assignments between the stages.
#[derive(Debug, Clone)]
pub struct HcFormerHead {
    input_proj: LinearNorm,
    encoder: Vec<EncoderLayer>,
    mask_features: Linear,
    predictor: Mask2FormerDecoder,
    assignments: Vec<Assignment>,
    width: usize,
}

impl HcFormerHead {
    /// Builds the head for stages of the given widths.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn new(
        config: &HcFormerConfig,
        embed_dims: &[usize; 4],
        queries: usize,
        classes: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let width = config.hidden_dim;
        let sizes = DecoderSizes {
            width,
            mask_features: config.mask_feature_size,
            heads: config.num_attention_heads,
            feedforward: config.decoder_feedforward_dim,
            layers: config.decoder_layers,
            levels: 1,
            queries,
            classes,
        };
        let encoder = (0..config.encoder_layers)
            .map(|layer| EncoderLayer::new(config, &vb.pp("encoder.layers").pp(layer)))
            .collect::<Result<_>>()?;
        let assignments = (0..ASSIGNMENTS)
            .map(|stage| Assignment::new(config, embed_dims, stage, &vb.pp("assignments").pp(stage)))
            .collect::<Result<_>>()?;
        Ok(Self {
            input_proj: LinearNorm::new(embed_dims[3], width, &vb.pp("input_proj"))?,
            encoder,
            mask_features: linear(width, config.mask_feature_size, &vb.pp("mask_features"))?,
            predictor: Mask2FormerDecoder::new(sizes, &vb.pp("predictor"))?,
            assignments,
            width,
        })
    }

    /// Predicts masks on the tokens of the first stage, from the normalised tokens of the last and from what left each
    /// stage.
    ///
    /// # Errors
    /// If shapes do not fit or a stage lacks its downsampling.
    pub fn forward(
        &self,
        res5: &Tokens,
        stages: &[StageOutput; 4],
        auxiliary: Auxiliary,
    ) -> Result<Vec<TokenPrediction>> {
        let mut feat = self.input_proj.forward(&res5.feat)?;
        let images: Vec<_> = res5.pos.images().collect();
        let sine = sine_position_embedding(&images, self.width, &feat)?;
        for layer in &self.encoder {
            feat = layer.forward(&feat, &sine)?;
        }
        let mask_features = res5.with_feat(self.mask_features.forward(&feat)?)?;
        let level = res5.with_feat(feat)?;
        let mut predictions = self.predictor.forward(&[level], &mask_features, auxiliary)?;
        for (stage, assignment) in self.assignments.iter().enumerate().rev() {
            let decoder = assignment.decoder(&stages[stage], &stages[stage + 1].tokens)?;
            for prediction in &mut predictions {
                prediction.mask_logits = decoder.decode(&prediction.mask_logits)?;
            }
        }
        Ok(predictions)
    }

    /// Sum of the temperatures' magnitudes, which the loss holds down so that assignments become sharp.
    ///
    /// # Errors
    /// If the tensors are on different devices.
    pub fn temperature_penalty(&self) -> Result<Tensor> {
        let temperatures: Vec<_> = self.assignments.iter().map(|a| &a.temperature).collect();
        Tensor::cat(&temperatures, 0)?.abs()?.sum_all()
    }
}

/// A plain transformer encoder layer, post-norm.
#[derive(Debug, Clone)]
struct EncoderLayer {
    attention: Attention,
    norm: LayerNorm,
    feed_forward: FeedForward,
}

impl EncoderLayer {
    fn new(config: &HcFormerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.hidden_dim;
        Ok(Self {
            attention: Attention::new(width, config.num_attention_heads, &vb.pp("self_attn"))?,
            norm: LayerNorm::new(width, &vb.pp("norm1"))?,
            feed_forward: FeedForward::new(width, config.encoder_feedforward_dim, "norm2", vb)?,
        })
    }

    fn forward(&self, feat: &Tensor, sine: &Tensor) -> Result<Tensor> {
        let query = (feat + sine)?;
        let seen = self.attention.forward(&query, &query, feat, None)?;
        self.feed_forward.forward(&self.norm.forward(&(feat + seen)?)?)
    }
}

/// How much the tokens of a stage belong to those it was downsampled to.
#[derive(Debug, Clone)]
struct Assignment {
    fine_norm: LayerNorm,
    fine: Linear,
    coarse_norm: LayerNorm,
    coarse: Linear,
    /// `[1]`
    temperature: Tensor,
    /// `[5]`
    position_weight: Tensor,
    neighbors: usize,
}

impl Assignment {
    fn new(
        config: &HcFormerConfig,
        embed_dims: &[usize; 4],
        stage: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (fine, coarse) = (embed_dims[stage], embed_dims[stage + 1]);
        Ok(Self {
            fine_norm: LayerNorm::new(fine, &vb.pp("fine_norm"))?,
            fine: linear_no_bias(fine, config.assignment_dim, &vb.pp("fine"))?,
            coarse_norm: LayerNorm::new(coarse, &vb.pp("coarse_norm"))?,
            coarse: linear_no_bias(coarse, config.assignment_dim, &vb.pp("coarse"))?,
            temperature: vb.get_with_hints(1, "tau", Init::Const(INITIAL_TEMPERATURE))?,
            position_weight: vb.get_with_hints(5, "position_weight", Init::Const(0.0))?,
            neighbors: config.assignment_neighbors,
        })
    }

    /// The decoder from `next`, the tokens of the next stage in its order, to the tokens of this stage.
    fn decoder(&self, stage: &StageOutput, next: &Tokens) -> Result<MaskDecoder> {
        let Some(downsampled) = &stage.downsampled else { bail!("HCFormer: a stage has no downsampling") };
        let (fine, coarse) = (&stage.tokens, &downsampled.tokens);
        let nearest = coarse
            .pos
            .images()
            .zip(fine.pos.images())
            .map(|(coarse, fine)| k_nearest(coarse, fine, self.neighbors))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let neighbors = NeighborLists::from_nearest_points(coarse.count(), &nearest)?;
        let inputs = SoftAssignment {
            fine: &self.fine.forward(&self.fine_norm.forward(&fine.feat)?)?,
            coarse: &self.coarse.forward(&self.coarse_norm.forward(&coarse.feat)?)?,
            temperature: &self.temperature,
            position_weight: &self.position_weight,
        };
        let geometry = AssignmentGeometry { fine: &fine.pos, coarse: &coarse.pos, neighbors: &neighbors };
        let weights = soft_assignment(&inputs, &geometry)?;
        Ok(MaskDecoder { weights, neighbors, coarse_order: next.raster_order() })
    }
}

/// Hands mask logits from coarse tokens to fine ones.
struct MaskDecoder {
    /// `[B,N,k]`
    weights: Tensor,
    neighbors: NeighborLists,
    /// Places of the coarse tokens, which come in the order of their stage, in raster order: `[B*N']`.
    coarse_order: Vec<u32>,
}

impl MaskDecoder {
    /// `[B,Q,N']` -> `[B,Q,N]`
    fn decode(&self, mask_logits: &Tensor) -> Result<Tensor> {
        let tokens = mask_logits.transpose(1, 2)?.contiguous()?;
        let raster = crate::tokens::gather_tokens(&tokens, &self.coarse_order)?;
        aff_ops::weighted_gather(&raster, &self.weights, &self.neighbors)?.transpose(1, 2)?.contiguous()
    }
}
