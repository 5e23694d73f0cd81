//! Layers that several modules are made of. Each says what it costs beside what it does.

mod point_conv;

use aff_ops::{Activation, Epilogue, PreparedLinear};
use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::macs::{Macs, performed};

pub(crate) use point_conv::PointConv;

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

    pub(crate) fn macs(&self, rows: usize) -> Macs {
        Macs::norm(rows, self.weight.elem_count())
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        aff_ops::layer_norm(x, &self.weight, &self.bias, EPS)
    }
}

/// A linear layer.
#[derive(Debug, Clone)]
pub(crate) struct Linear(PreparedLinear);

impl Linear {
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(Self(PreparedLinear::new(weight, bias)?))
    }

    pub(crate) fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    pub(crate) fn bias(&self) -> Option<&Tensor> {
        self.0.bias()
    }

    /// The layer and what follows it.
    pub(crate) fn forward_with(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let out = self.0.forward(x, epilogue)?;
        performed(x.elem_count() * self.weight().dims()[0]);
        Ok(out)
    }

    /// The layer and an activation.
    pub(crate) fn activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.forward_with(x, Epilogue { activation, ..Epilogue::default() })
    }

    /// The layer, added to `residual`.
    pub(crate) fn added_to(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Epilogue { residual: Some(residual), ..Epilogue::default() })
    }

    pub(crate) fn macs(&self, rows: usize) -> Macs {
        Macs::products(rows * self.weight().elem_count())
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Epilogue::default())
    }
}

/// Parameters `weight [output,input]`, initially uniform after Glorot, and `bias [output]`, initially 0: as in the decoders of
/// Mask2Former.
pub(crate) fn linear(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let weight = glorot_weight(input, output, vb)?;
    Linear::new(weight, Some(vb.get_with_hints(output, "bias", candle_nn::init::ZERO)?))
}

/// As [`linear`], without a bias.
pub(crate) fn linear_no_bias(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    Linear::new(glorot_weight(input, output, vb)?, None)
}

fn glorot_weight(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    let bound = (6.0 / (input + output) as f64).sqrt();
    vb.get_with_hints((output, input), "weight", Init::Uniform { lo: -bound, up: bound })
}

/// As [`linear`], the weight initially normal with deviation 0.02: as in vision transformers.
pub(crate) fn backbone_linear(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let init = Init::Randn { mean: 0.0, stdev: 0.02 };
    let weight = vb.get_with_hints((output, input), "weight", init)?;
    Linear::new(weight, Some(vb.get_with_hints(output, "bias", candle_nn::init::ZERO)?))
}

/// A table of `count` vectors under the name `NAME.weight`, initially normal.
pub(crate) fn embedding(count: usize, width: usize, name: &str, vb: &VarBuilder<'_>) -> Result<Tensor> {
    vb.pp(name).get_with_hints((count, width), "weight", Init::Randn { mean: 0.0, stdev: 1.0 })
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

    pub(crate) fn macs(&self, rows: usize) -> Macs {
        self.linear.macs(rows) + self.norm.macs(rows)
    }
}

impl Module for LinearNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.linear.forward(x)?)
    }
}

/// Linear layers with ReLU between them.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Parameters `layers.0.*`, `layers.1.*`, ... between the given widths.
    pub(crate) fn new(widths: &[usize], vb: &VarBuilder<'_>) -> Result<Self> {
        let layers = widths.windows(2).enumerate();
        let layers = layers.map(|(i, pair)| linear(pair[0], pair[1], &vb.pp("layers").pp(i)));
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    pub(crate) fn macs(&self, rows: usize) -> Macs {
        self.layers.iter().map(|layer| layer.macs(rows)).sum()
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            x = layer.activated(&x, if last { Activation::Identity } else { Activation::Relu })?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn builder(tensors: &[(&str, Tensor)]) -> VarBuilder<'static> {
        let tensors = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
        VarBuilder::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu)
    }

    fn tensor<const R: usize, const C: usize>(rows: [[f32; C]; R]) -> Tensor {
        Tensor::new(&rows, &Device::Cpu).unwrap()
    }

    fn vector<const N: usize>(values: [f32; N]) -> Tensor {
        Tensor::new(&values, &Device::Cpu).unwrap()
    }

    #[test]
    fn an_mlp_has_relu_between_its_layers_and_none_after_the_last() {
        let vb = builder(&[
            ("layers.0.weight", tensor([[1.0, 0.0], [0.0, -1.0]])),
            ("layers.0.bias", vector([0.0, 0.5])),
            ("layers.1.weight", tensor([[-2.0, 4.0]])),
            ("layers.1.bias", vector([1.0])),
        ]);
        let mlp = Mlp::new(&[2, 2, 1], &vb).unwrap();
        let out = mlp.forward(&tensor([[3.0, 2.0], [-3.0, -2.0]])).unwrap();
        // relu(3, -1.5) -> -6 + 1; relu(-3, 2.5) -> 10 + 1.
        assert_eq!(out.to_vec2::<f32>().unwrap(), [[-5.0], [11.0]]);
    }

    #[test]
    fn a_linear_norm_is_a_linear_layer_and_then_a_norm() {
        let vb = builder(&[
            ("0.weight", tensor([[1.0], [3.0]])),
            ("0.bias", vector([0.0, 0.0])),
            ("1.weight", vector([2.0, 2.0])),
            ("1.bias", vector([10.0, 20.0])),
        ]);
        let out = LinearNorm::new(1, 2, &vb).unwrap().forward(&tensor([[100.0]])).unwrap();
        let out = out.to_vec2::<f32>().unwrap();
        assert!((out[0][0] - 8.0).abs() < 1e-5 && (out[0][1] - 22.0).abs() < 1e-5, "{out:?}");
    }
}
