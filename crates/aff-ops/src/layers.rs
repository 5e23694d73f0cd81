//! Basic layers that can be trained.
//!
//! Candle's fused `layer_norm` and `softmax_last_dim` have no backward and cut the gradient without a word. These use
//! them only where no gradient is asked for.

use candle_core::{D, Result, Tensor};

use crate::shape;

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1f32, 3.0], [2.0, 2.0]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[2f32, 2.0], &Device::Cpu)?, Tensor::new(&[0f32, 1.0], &Device::Cpu)?);
/// let y = aff_ops::layer_norm(&x, &weight, &bias, 0.0)?;
/// assert_eq!(y.get(0)?.to_vec1::<f32>()?, [-2.0, 3.0]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `x [..,C]`, `weight [C]`, `bias [C]` -> `[..,C]`
///
/// # Errors
/// If the shapes differ from these.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    shape::expect("layer_norm", "weight", weight, &[channels])?;
    shape::expect("layer_norm", "bias", bias, &[channels])?;
    if !(x.track_op() || weight.track_op() || bias.track_op()) {
        return candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps as f32);
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normalised = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    normalised.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Softmax over the last axis.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[0f32, 0.0, f32::NEG_INFINITY], &Device::Cpu)?;
/// assert_eq!(aff_ops::softmax_last_dim(&x)?.to_vec1::<f32>()?, [0.5, 0.5, 0.0]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `x [..,M]` -> `[..,M]`
///
/// # Errors
/// If `x` has no axis.
pub fn softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    if x.track_op() {
        candle_nn::ops::softmax(x, D::Minus1)
    } else {
        candle_nn::ops::softmax_last_dim(&x.contiguous()?)
    }
}

/// The exact GELU, `x * (1 + erf(x / sqrt 2)) / 2`.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[0f32, 100.0], &Device::Cpu)?;
/// assert_eq!(aff_ops::gelu(&x)?.to_vec1::<f32>()?, [0.0, 100.0]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Errors
/// If the type of `x` is not a floating point one.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}
