//! Checks of tensor shapes at the door of an operator, and tensors made of geometry.

use candle_core::{DType, Result, Shape, Tensor, bail};

/// Product of the dimensions.
pub(crate) fn count(operator: &str, dims: &[usize]) -> Result<usize> {
    match dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim)) {
        // Slices hold no more bytes than this.
        Some(count) if count <= isize::MAX as usize / size_of::<f64>() => Ok(count),
        _ => bail!("{operator}: a tensor of shape {dims:?} has more numbers than can be addressed"),
    }
}

/// Refuses `tensor` unless it has exactly these dimensions.
pub(crate) fn expect(operator: &str, name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() != expected {
        bail!("{operator}: `{name}` has shape {:?}; expected {expected:?}", tensor.dims())
    }
    count(operator, expected).map(|_| ())
}

/// The dimensions of a tensor of three axes.
pub(crate) fn dims3(
    operator: &str,
    name: &str,
    tensor: &Tensor,
    meaning: &str,
) -> Result<(usize, usize, usize)> {
    count(operator, tensor.dims())?;
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
