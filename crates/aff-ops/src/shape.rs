//! Checks of tensor shapes at the door of an operator.

use candle_core::{Result, Tensor, bail};

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
