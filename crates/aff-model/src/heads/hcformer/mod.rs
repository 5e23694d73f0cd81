//! The HCFormer head: masks on the coarsest tokens, decoded to the finest by soft assignments (section 11 of the method).
//!
//! While the backbone merges fine tokens into coarse ones, the head learns how much each fine token belongs to the coarse
//! tokens around it. Masks are predicted on the few tokens of the last stage and handed back along these assignments,
//! stage by stage. No reference implementation on irregular tokens exists.

mod assignment;
#[cfg(test)]
mod tests;

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::{Auxiliary, HeadSizes, MaskOutput};
use crate::config::HcFormerConfig;
use crate::layers::{LayerNorm, Linear, LinearNorm, linear};
use crate::macs::Macs;
use crate::network::Features;
use crate::transformer::{Attention, FeedForward, Level, MaskCanvas, MaskedDecoder, MaskedDecoderSizes};

use assignment::Assignment;

/// Stages that are followed by a coarser one.
const ASSIGNMENTS: usize = 3;
/// What the temperatures' magnitudes count in the loss.
const TEMPERATURE_WEIGHT: f64 = 0.1;

/// Projection of the last stage, an optional encoder, the decoder, and the assignments between the stages.
#[derive(Debug, Clone)]
pub struct HcFormerHead {
    input_proj: LinearNorm,
    encoder: Vec<EncoderLayer>,
    mask_features: Linear,
    predictor: MaskedDecoder,
    assignments: Vec<Assignment>,
    queries: usize,
}

impl HcFormerHead {
    /// Parameters `input_proj.*`, `encoder.*`, `mask_features.*`, `predictor.*` and `assignments.*`.
    pub(crate) fn new(config: &HcFormerConfig, sizes: HeadSizes<'_>, vb: &VarBuilder<'_>) -> Result<Self> {
        let HeadSizes { embed_dims, queries, classes } = sizes;
        let width = config.hidden_dim;
        let decoder = MaskedDecoderSizes {
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
            predictor: MaskedDecoder::new(decoder, &vb.pp("predictor"))?,
            assignments,
            queries,
        })
    }

    /// Predicts masks on the tokens of the last stage and decodes them to those of the first.
    pub(super) fn predict(&self, features: &Features, auxiliary: Auxiliary) -> Result<MaskOutput> {
        let levels = features.levels()?;
        let res5 = &levels[3];
        let mut level = Level::new(res5.with_feat(self.input_proj.forward(&res5.feat)?)?)?;
        for layer in &self.encoder {
            level = level.with_feat(layer.forward(&level)?)?;
        }
        let mask_features = res5.with_feat(self.mask_features.forward(&level.tokens.feat)?)?;
        let mut predictions = self.predictor.forward(&[level], &mask_features, auxiliary)?;
        let stages = &features.stages;
        for (stage, assignment) in self.assignments.iter().enumerate().rev() {
            let decoder = assignment.decoder(&stages[stage], &stages[stage + 1].tokens)?;
            for prediction in &mut predictions {
                prediction.mask_logits = decoder.decode(&prediction.mask_logits)?;
            }
        }
        let canvas = MaskCanvas::new(&levels[0].layout)?;
        let predictions = predictions.into_iter().map(|prediction| canvas.scatter(prediction));
        MaskOutput::new(predictions.collect::<Result<_>>()?, Some(self.temperature_penalty()?))
    }

    /// Holds the magnitudes of the temperatures down, so that assignments become sharp: a scalar.
    fn temperature_penalty(&self) -> Result<Tensor> {
        let temperatures: Vec<_> = self.assignments.iter().map(Assignment::temperature).collect();
        Tensor::cat(&temperatures, 0)?.abs()?.sum_all()? * TEMPERATURE_WEIGHT
    }

    pub(super) fn macs(&self, tokens: [usize; 4]) -> Vec<(&'static str, Macs)> {
        let coarsest = tokens[3];
        let encoder: Macs = self.encoder.iter().map(|layer| layer.macs(coarsest)).sum();
        let assignments = self.assignments.iter().zip(tokens.windows(2));
        vec![
            ("encoder", self.input_proj.macs(coarsest) + encoder + self.mask_features.macs(coarsest)),
            ("transformer decoder", self.predictor.macs(&[coarsest], coarsest)),
            (
                "assignments",
                assignments.map(|(assignment, pair)| assignment.macs(pair[0], pair[1], self.queries)).sum(),
            ),
        ]
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

    fn forward(&self, level: &Level) -> Result<Tensor> {
        let feat = &level.tokens.feat;
        let query = (feat + &level.sine)?;
        let seen = self.attention.added_to(feat, &query, &query, feat, None)?;
        self.feed_forward.forward(&self.norm.forward(&seen)?)
    }

    fn macs(&self, tokens: usize) -> Macs {
        self.attention.macs(tokens, tokens) + self.norm.macs(tokens) + self.feed_forward.macs(tokens)
    }
}
