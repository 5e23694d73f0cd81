//! Checks of tensor shapes at the door of an operator, and tensors made of geometry.

use candle_core::{DType, Result, Shape, Tensor, bail};

/// Refuses `tensor` unless it has exactly these dimensions.
pub(crate) fn expect(operator: &str, name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    bail!("{operator}: `{name}` has shape {:?}; expected {expected:?}", tensor.dims())
}

/// The dimensions of a tensor of three axes.
pub(crate) fn dims3(
    operator: &str,
    name: &str,
    tensor: &Tensor,
    meaning: &str,
) -> Result<(usize, usize, usize)> {
    match tensor.dims() {
        &[a, b, c] => Ok((a, b, c)),
        other => bail!("{operator}: `{name}` has shape {other:?}; expected three axes {meaning}"),
    }
}

/// Numbers made of geometry as a tensor of the type and device of `like`.
pub(crate) fn like(values: Vec<f64>, shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    match like.dtype() {
        DType::F64 => Tensor::from_vec(values, shape, like.device()),
        // Rounded here: some devices have no f64.
        dtype => {
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            Tensor::from_vec(values, shape, like.device())?.to_dtype(dtype)
        }
    }
}
