//! The image classifier (section 6 of the method).

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::Phase;
use crate::backbone::{Backbone, StageOutput};
use crate::config::ModelConfig;
use crate::layers::{LayerNorm, Linear, backbone_linear};

/// Backbone, layer norm and mean over the last tokens, linear layer.
#[derive(Debug, Clone)]
pub struct Classifier {
    backbone: Backbone,
    norm: LayerNorm,
    head: Linear,
}

/// What a classifier computes.
#[derive(Debug, Clone)]
pub struct ClassifierOutput {
    /// `[B,classes]`
    pub logits: Tensor,
    /// What left each stage of the backbone.
    pub stages: [StageOutput; 4],
}

impl Classifier {
    /// Builds the classifier from parameters `patch_embed.*`, `layers.*`, `norm.*` and `head.*`.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn new(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let channels = config.backbone_config.embed_dims[3];
        Ok(Self {
            backbone: Backbone::new(&config.backbone_config, vb)?,
            norm: LayerNorm::new(channels, &vb.pp("norm"))?,
            head: backbone_linear(channels, config.num_classes(), &vb.pp("head"))?,
        })
    }

    /// Classifies normalised images.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`
    ///
    /// # Errors
    /// If the input is not of that shape.
    pub fn forward(&self, pixel_values: &Tensor, phase: Phase) -> Result<ClassifierOutput> {
        let stages = self.backbone.forward(pixel_values, phase)?;
        let normed = self.norm.forward(&stages[3].tokens.feat)?;
        let logits = self.head.forward(&normed.mean(1)?)?;
        Ok(ClassifierOutput { logits, stages })
    }
}
