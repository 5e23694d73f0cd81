//! The feed-forward block of the heads' transformers.

use aff_ops::Activation;
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::layers::{LayerNorm, Linear, linear};
use crate::macs::Macs;

/// Two linear layers with ReLU between them, added to their input, normed.
#[derive(Debug, Clone)]
pub(crate) struct FeedForward {
    linear1: Linear,
    linear2: Linear,
    norm: LayerNorm,
}

impl FeedForward {
    /// Parameters `linear1`, `linear2` and the norm under the given name.
    pub(crate) fn new(width: usize, hidden: usize, norm: &str, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            linear1: linear(width, hidden, &vb.pp("linear1"))?,
            linear2: linear(hidden, width, &vb.pp("linear2"))?,
            norm: LayerNorm::new(width, &vb.pp(norm))?,
        })
    }

    pub(crate) fn macs(&self, rows: usize) -> Macs {
        self.linear1.macs(rows) + self.linear2.macs(rows) + self.norm.macs(rows)
    }
}

impl Module for FeedForward {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.linear1.activated(x, Activation::Relu)?;
        self.norm.forward(&self.linear2.added_to(x, &hidden)?)
    }
}
