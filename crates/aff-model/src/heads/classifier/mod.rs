//! The image classifier's head (section 6 of the method).

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::backbone::StageOutput;
use crate::layers::{LayerNorm, Linear, backbone_linear};
use crate::macs::Macs;

/// Layer norm and mean over the last tokens, linear layer.
#[derive(Debug, Clone)]
pub struct ClassifierHead {
    norm: LayerNorm,
    head: Linear,
}

impl ClassifierHead {
    /// Parameters `norm.*` and `head.*`.
    pub(crate) fn new(channels: usize, classes: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::new(channels, &vb.pp("norm"))?,
            head: backbone_linear(channels, classes, &vb.pp("head"))?,
        })
    }

    /// `[B,classes]`
    pub(super) fn predict(&self, stages: &[StageOutput; 4]) -> Result<Tensor> {
        self.head.forward(&self.norm.forward(&stages[3].tokens.feat)?.mean(1)?)
    }

    pub(super) fn macs(&self, tokens: [usize; 4]) -> Vec<(&'static str, Macs)> {
        vec![("head", self.norm.macs(tokens[3]) + self.head.macs(1))]
    }
}
