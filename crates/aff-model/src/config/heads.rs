//! The heads.

use serde::{Deserialize, Serialize};

use super::{ConfigError, limits};
use crate::transformer::ShepardPower;

/// A head other than a classifier's, told apart by its field `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum DecoderConfig {
    /// Deformable pixel decoder and masked attention on three levels.
    Mask2Former(Mask2FormerConfig),
    /// Masked attention on the coarsest level, its masks decoded by soft assignments.
    HcFormer(HcFormerConfig),
    /// Boxes by deformable attention on three levels.
    #[serde(rename = "deformable_detr")]
    DeformableDetr(DeformableDetrConfig),
}

impl From<DeformableDetrConfig> for DecoderConfig {
    fn from(config: DeformableDetrConfig) -> Self {
        Self::DeformableDetr(config)
    }
}

impl From<Mask2FormerConfig> for DecoderConfig {
    fn from(config: Mask2FormerConfig) -> Self {
        Self::Mask2Former(config)
    }
}

impl From<HcFormerConfig> for DecoderConfig {
    fn from(config: HcFormerConfig) -> Self {
        Self::HcFormer(config)
    }
}

impl DecoderConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Mask2Former(config) => config.validate(),
            Self::HcFormer(config) => config.validate(),
            Self::DeformableDetr(config) => config.validate(),
        }
    }
}

/// The pixel decoder and the Mask2Former decoder: sections 7 and 8 of the method.
///
/// The default is what all published segmenters have; COCO's have a constant `shepard_power` of 2 besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mask2FormerConfig {
    /// Width of both decoders.
    pub hidden_dim: usize,
    /// Width of the mask features and of the mask embedding of a query.
    pub mask_feature_size: usize,
    /// Attention heads of both decoders.
    pub num_attention_heads: usize,
    /// Deformable attention layers of the pixel decoder.
    pub encoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub encoder_feedforward_dim: usize,
    /// Sampled points of a head in a level.
    pub num_sampling_points: usize,
    /// Initial power of the inverse distance weights of the sampled points; applies to the squared distance.
    pub shepard_power_init: f64,
    /// Whether the power is learnt, in each layer for itself. If not, `shepard_power_init` is it, and there is no parameter.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub shepard_power_learnable: bool,
    /// Layers of the transformer decoder.
    pub decoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub decoder_feedforward_dim: usize,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

impl Default for Mask2FormerConfig {
    fn default() -> Self {
        Self {
            hidden_dim: 256,
            mask_feature_size: 256,
            num_attention_heads: 8,
            encoder_layers: 6,
            encoder_feedforward_dim: 1024,
            num_sampling_points: 4,
            shepard_power_init: 3.0,
            shepard_power_learnable: true,
            decoder_layers: 9,
            decoder_feedforward_dim: 2048,
        }
    }
}

fn shepard_power(init: f64, learnable: bool) -> ShepardPower {
    if learnable { ShepardPower::Learnable(init) } else { ShepardPower::Constant(init) }
}

impl Mask2FormerConfig {
    pub(crate) fn shepard_power(&self) -> ShepardPower {
        shepard_power(self.shepard_power_init, self.shepard_power_learnable)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        validate_width(self.hidden_dim, self.num_attention_heads)?;
        for (name, value, most) in [
            ("mask_feature_size", self.mask_feature_size, limits::WIDTH),
            ("encoder_layers", self.encoder_layers, limits::LAYERS),
            ("encoder_feedforward_dim", self.encoder_feedforward_dim, limits::HIDDEN_WIDTH),
            ("num_sampling_points", self.num_sampling_points, limits::POINTS),
            ("decoder_layers", self.decoder_layers, limits::LAYERS),
            ("decoder_feedforward_dim", self.decoder_feedforward_dim, limits::HIDDEN_WIDTH),
        ] {
            limits::count(format!("decoder_config.{name}"), value, most)?;
        }
        limits::number("decoder_config.shepard_power_init", self.shepard_power_init, [0.0, 64.0])
    }
}

/// The HCFormer head: section 11 of the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HcFormerConfig {
    /// Width of the decoder.
    pub hidden_dim: usize,
    /// Width of the mask features and of the mask embedding of a query.
    pub mask_feature_size: usize,
    /// Attention heads of encoder and decoder.
    pub num_attention_heads: usize,
    /// Layers of the plain transformer encoder on the coarsest level: 0 for HCFormer, more for HCFormer+.
    pub encoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub encoder_feedforward_dim: usize,
    /// Layers of the transformer decoder.
    pub decoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub decoder_feedforward_dim: usize,
    /// Width of the embeddings that fine and coarse tokens are compared in.
    pub assignment_dim: usize,
    /// Coarse tokens that a fine one is assigned to.
    pub assignment_neighbors: usize,
}

impl Default for HcFormerConfig {
    fn default() -> Self {
        Self {
            hidden_dim: 256,
            mask_feature_size: 256,
            num_attention_heads: 8,
            encoder_layers: 0,
            encoder_feedforward_dim: 1024,
            decoder_layers: 9,
            decoder_feedforward_dim: 2048,
            assignment_dim: 128,
            assignment_neighbors: 9,
        }
    }
}

impl HcFormerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        validate_width(self.hidden_dim, self.num_attention_heads)?;
        if self.encoder_layers > 0 {
            limits::count("decoder_config.encoder_layers", self.encoder_layers, limits::LAYERS)?;
        }
        for (name, value, most) in [
            ("mask_feature_size", self.mask_feature_size, limits::WIDTH),
            ("encoder_feedforward_dim", self.encoder_feedforward_dim, limits::HIDDEN_WIDTH),
            ("decoder_layers", self.decoder_layers, limits::LAYERS),
            ("decoder_feedforward_dim", self.decoder_feedforward_dim, limits::HIDDEN_WIDTH),
            ("assignment_dim", self.assignment_dim, limits::WIDTH),
            ("assignment_neighbors", self.assignment_neighbors, limits::ASSIGNMENTS),
        ] {
            limits::count(format!("decoder_config.{name}"), value, most)?;
        }
        Ok(())
    }
}

/// The Deformable DETR head: section 13 of the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeformableDetrConfig {
    /// Width of encoder and decoder.
    pub hidden_dim: usize,
    /// Attention heads of both.
    pub num_attention_heads: usize,
    /// Deformable attention layers of the encoder.
    pub encoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub encoder_feedforward_dim: usize,
    /// Sampled points of a head in a level.
    pub num_sampling_points: usize,
    /// Initial power of the inverse distance weights of the sampled points; applies to the squared distance.
    pub shepard_power_init: f64,
    /// Whether the power is learnt, in each layer for itself. If not, `shepard_power_init` is it, and there is no parameter.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub shepard_power_learnable: bool,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub decoder_feedforward_dim: usize,
    /// Whether every layer refines the boxes of the one before. Without it all layers share one pair of heads, and their references
    /// stay points.
    #[serde(default = "yes")]
    pub with_box_refine: bool,
    /// Whether queries come from the best boxes that the encoder's tokens propose, instead of being learnt. Needs `with_box_refine`.
    #[serde(default)]
    pub two_stage: bool,
}

impl Default for DeformableDetrConfig {
    fn default() -> Self {
        Self {
            hidden_dim: 256,
            num_attention_heads: 8,
            encoder_layers: 6,
            encoder_feedforward_dim: 1024,
            num_sampling_points: 4,
            shepard_power_init: 3.0,
            shepard_power_learnable: true,
            decoder_layers: 6,
            decoder_feedforward_dim: 1024,
            with_box_refine: true,
            two_stage: false,
        }
    }
}

impl DeformableDetrConfig {
    pub(crate) fn shepard_power(&self) -> ShepardPower {
        shepard_power(self.shepard_power_init, self.shepard_power_learnable)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        validate_width(self.hidden_dim, self.num_attention_heads)?;
        for (name, value, most) in [
            ("encoder_layers", self.encoder_layers, limits::LAYERS),
            ("encoder_feedforward_dim", self.encoder_feedforward_dim, limits::HIDDEN_WIDTH),
            ("num_sampling_points", self.num_sampling_points, limits::POINTS),
            ("decoder_layers", self.decoder_layers, limits::LAYERS),
            ("decoder_feedforward_dim", self.decoder_feedforward_dim, limits::HIDDEN_WIDTH),
        ] {
            limits::count(format!("decoder_config.{name}"), value, most)?;
        }
        limits::number("decoder_config.shepard_power_init", self.shepard_power_init, [0.0, 64.0])?;
        if self.two_stage && !self.with_box_refine {
            return Err(ConfigError::value(
                "decoder_config.two_stage",
                "false without `with_box_refine`",
                true,
            ));
        }
        Ok(())
    }
}

/// A width that the sine embedding can have, and heads that divide it.
fn validate_width(hidden_dim: usize, heads: usize) -> Result<(), ConfigError> {
    limits::count("decoder_config.hidden_dim", hidden_dim, limits::WIDTH)?;
    if !hidden_dim.is_multiple_of(4) {
        let expected = "a multiple of 4, for the sine position embedding";
        return Err(ConfigError::value("decoder_config.hidden_dim", expected, hidden_dim));
    }
    limits::heads("decoder_config.num_attention_heads", heads, ("hidden_dim", hidden_dim))
}
