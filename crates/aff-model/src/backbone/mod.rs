//! The backbone: patch embedding and four stages (sections 1 to 6 of the method).

mod block;
mod downsample;
mod patch_embed;
mod stage;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::config::BackboneConfig;
use crate::{Phase, Tokens};

pub use downsample::Downsampled;
pub use stage::StageOutput;

use patch_embed::PatchEmbed;
use stage::Stage;

/// Patch embedding and four stages of blocks; the first three end in an adaptive downsampling.
#[derive(Debug, Clone)]
pub struct Backbone {
    patch_embed: PatchEmbed,
    stages: Vec<Stage>,
}

impl Backbone {
    /// Builds the backbone from parameters `patch_embed.*` and `layers.*`.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn new(config: &BackboneConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let patch_embed = PatchEmbed::new(config.embed_dims[0], &vb.pp("patch_embed"))?;
        let stages = (0..4)
            .map(|stage| Stage::new(config, stage, &vb.pp("layers").pp(stage)))
            .collect::<Result<_>>()?;
        Ok(Self { patch_embed, stages })
    }

    /// Runs the four stages on normalised images of any size.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`; the canvas is `ceil(H/4) x ceil(W/4)`.
    ///
    /// # Errors
    /// If the input is not of that shape or has an empty axis.
    pub fn forward(&self, pixel_values: &Tensor, phase: Phase) -> Result<[StageOutput; 4]> {
        let mut tokens = self.patch_embed.forward(pixel_values, phase)?;
        let mut outputs = Vec::with_capacity(4);
        for stage in &self.stages {
            let output = stage.forward(&tokens, phase)?;
            if let Some(downsampled) = &output.downsampled {
                tokens = downsampled.tokens.clone();
            }
            outputs.push(output);
        }
        outputs.try_into().map_err(|_| candle_core::Error::msg("backbone: not four stages"))
    }
}

impl StageOutput {
    /// The tokens that leave the stage: after its downsampling where it has one.
    pub fn leaving(&self) -> &Tokens {
        self.downsampled.as_ref().map_or(&self.tokens, |downsampled| &downsampled.tokens)
    }
}
