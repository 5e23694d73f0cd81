//! The backbone: patch embedding and four stages (sections 1 to 6 of the method).

mod block;
mod downsample;
mod geometry;
mod patch_embed;
mod stage;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::Phase;
use crate::config::BackboneConfig;
use crate::macs::Macs;

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

    /// Tokens at the start of each stage, for a canvas of these sides.
    pub(crate) fn token_counts(&self, height: usize, width: usize) -> [usize; 4] {
        let mut tokens = [height * width; 4];
        for stage in 1..4 {
            tokens[stage] = self.stages[stage - 1].kept(tokens[stage - 1], height, width);
        }
        tokens
    }

    /// Names of the parts and what they cost, for stages of so many tokens; `table` is the number of relative positions in the
    /// published code's table.
    pub(crate) fn macs(&self, tokens: [usize; 4], table: usize) -> Vec<(String, Macs)> {
        let mut parts = vec![("patch embedding".to_owned(), self.patch_embed.macs(tokens[0]))];
        for (stage, layers) in self.stages.iter().enumerate() {
            let kept = tokens.get(stage + 1).copied().unwrap_or(0);
            parts.push((format!("stage {}", stage + 1), layers.macs(tokens[stage], kept, table)));
        }
        parts
    }
}
