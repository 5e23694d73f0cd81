//! Layers that several modules are made of. Each says what it costs beside what it does.

mod point_conv;

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

    pub(crate) fn macs(&self, rows: usize) -> Macs {
        Macs::products(rows * self.weight.elem_count())
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = aff_ops::linear(x, &self.weight, self.bias.as_ref())?;
        performed(x.elem_count() * self.weight.dims()[0]);
        Ok(out)
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
            if i > 0 {
                x = x.relu()?;
            }
            x = layer.forward(&x)?;
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
