//! Layers that several modules are made of.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// `eps` of every layer norm of the method.
const EPS: f64 = 1e-5;

/// Layer norm over the last axis.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(crate) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get_with_hints(channels, "weight", candle_nn::init::ONE)?;
        let bias = vb.get_with_hints(channels, "bias", candle_nn::init::ZERO)?;
        Ok(Self { weight, bias })
    }

    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        aff_ops::layer_norm(x, &self.weight, &self.bias, EPS)
    }
}

/// A linear layer.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub(crate) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        aff_ops::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// Parameters `weight [output,input]`, initially uniform after Glorot, and `bias [output]`, initially 0: as in the decoders of
/// Mask2Former.
pub(crate) fn linear(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let layer = linear_no_bias(input, output, vb)?;
    Ok(Linear { bias: Some(vb.get_with_hints(output, "bias", candle_nn::init::ZERO)?), ..layer })
}

/// As [`linear`], without a bias.
pub(crate) fn linear_no_bias(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let bound = (6.0 / (input + output) as f64).sqrt();
    let init = Init::Uniform { lo: -bound, up: bound };
    Ok(Linear::new(vb.get_with_hints((output, input), "weight", init)?, None))
}

/// As [`linear`], the weight initially normal with deviation 0.02: as in vision transformers.
pub(crate) fn backbone_linear(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let init = Init::Randn { mean: 0.0, stdev: 0.02 };
    let weight = vb.get_with_hints((output, input), "weight", init)?;
    Ok(Linear::new(weight, Some(vb.get_with_hints(output, "bias", candle_nn::init::ZERO)?)))
}

/// A linear layer followed by a layer norm.
#[derive(Debug, Clone)]
pub(crate) struct LinearNorm {
    linear: Linear,
    norm: LayerNorm,
}

impl LinearNorm {
    /// Parameters `0.*` and `1.*`, as of a sequence of two modules.
    pub(crate) fn new(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { linear: linear(input, output, &vb.pp("0"))?, norm: LayerNorm::new(output, &vb.pp("1"))? })
    }
}

impl Module for LinearNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.linear.forward(x)?)
    }
}

/// Two linear layers with ReLU between them, added to their input, normed: the feed-forward block of both decoders.
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
}

impl Module for FeedForward {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let update = self.linear2.forward(&self.linear1.forward(x)?.relu()?)?;
        self.norm.forward(&(x + update)?)
    }
}

/// The learnt weights of a neighbourhood merge and what comes after it: PointConv, layer norm, linear layer.
#[derive(Debug, Clone)]
pub(crate) struct PointConv {
    position_linear: Linear,
    position_norm: LayerNorm,
    norm: LayerNorm,
    linear: Linear,
}

/// Weight channels W of every merge of the method.
const WEIGHT_CHANNELS: usize = 4;

impl PointConv {
    pub(crate) fn new(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            position_linear: linear(5, WEIGHT_CHANNELS, &vb.pp("weight_net.0"))?,
            position_norm: LayerNorm::new(WEIGHT_CHANNELS, &vb.pp("weight_net.1"))?,
            norm: LayerNorm::new(WEIGHT_CHANNELS * input, &vb.pp("norm"))?,
            linear: linear(WEIGHT_CHANNELS * input, output, &vb.pp("linear"))?,
        })
    }

    /// Merges `feat [B,N,C]` with importance `score [B,N]` into the queries: `[B,Q,output]`.
    pub(crate) fn forward(
        &self,
        feat: &Tensor,
        score: Option<&Tensor>,
        geometry: &aff_ops::neighborhood_merge::MergeGeometry<'_>,
    ) -> Result<Tensor> {
        let Some(linear_bias) = self.position_linear.bias() else {
            candle_core::bail!("PointConv: the weight network has no bias")
        };
        let inputs = aff_ops::NeighborhoodMerge {
            feat,
            score,
            linear_weight: self.position_linear.weight(),
            linear_bias,
            norm_weight: self.position_norm.weight(),
            norm_bias: self.position_norm.bias(),
        };
        let merged = aff_ops::neighborhood_merge(&inputs, geometry)?;
        self.linear.forward(&self.norm.forward(&merged)?)
    }
}
