//! The basic layers as compositions of Candle operators: slow, readable twins.

use candle_core::{D, Result, Tensor};

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
///
/// # Errors
/// If the shapes do not fit together.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normalised = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    normalised.broadcast_mul(weight)?.broadcast_add(bias)
}

/// Softmax over the last axis.
///
/// # Errors
/// If `x` has no axis.
pub fn softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(x, D::Minus1)
}

/// The exact GELU. (Candle's own has a derivative of six digits.)
///
/// # Errors
/// If the type of `x` is not a floating point one.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let below = (x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?;
    x * below
}

/// `x weight^T + bias` over the last axis.
///
/// # Errors
/// If the shapes do not fit together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    shape.pop();
    // Not the number of elements over `inputs`, which may be 0.
    let rows = shape.iter().product::<usize>();
    shape.push(outputs);
    let y = x.reshape((rows, inputs))?.matmul(&weight.t()?)?.reshape(shape)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}
