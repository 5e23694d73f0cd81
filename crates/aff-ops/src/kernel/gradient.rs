//! Gradients as backward passes give them to Candle.
//!
//! Candle records what a gradient was computed from, so that it has a gradient itself. Those of our kernels have none. A gradient
//! that stood in the graph as a constant would make second derivatives silently wrong; so it stands there as a [`Gradient`], whose
//! own backward pass is an error. It holds on to nothing but the tensor that it is the gradient of.

use std::sync::{Mutex, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::simd::Real;
use super::storage;

/// Values computed by a backward pass; the tensor that the operator is applied to is not read.
struct Gradient {
    operator: &'static str,
    /// Taken when the operator is applied, which happens once.
    values: Mutex<Option<(Values, Shape)>>,
}

/// Values where they were computed.
pub(crate) enum Values {
    Cpu(CpuStorage),
    #[cfg(feature = "cuda")]
    Cuda(CudaStorage),
}

impl Gradient {
    fn take(&self) -> Result<(Values, Shape)> {
        match self.values.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(values) => Ok(values),
            None => bail!("{}: a gradient was applied twice", self.operator),
        }
    }
}

impl CustomOp1 for Gradient {
    fn name(&self) -> &'static str {
        "gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Values::Cpu(values), shape) => Ok((values, shape)),
            #[cfg(feature = "cuda")]
            _ => bail!("{}: a gradient is on another device than its tensor", self.operator),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Values::Cuda(values), shape) => Ok((values, shape)),
            (Values::Cpu(_), _) => {
                bail!("{}: a gradient is on another device than its tensor", self.operator)
            }
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        bail!(
            "{}: the gradient of its gradient was asked for; second derivatives are not supported",
            self.operator
        )
    }
}

/// The gradient of `input`, in its shape; `inputs` are all tensors that it depends on.
pub(crate) fn gradient<T: Real>(
    operator: &'static str,
    values: Vec<T>,
    input: &Tensor,
    inputs: &[&Tensor],
) -> Result<Tensor> {
    let (values, _) = storage::output(values, input.shape().clone())?;
    gradient_of(operator, Values::Cpu(values), input, inputs)
}

/// The same of values where they were computed, as many as `input` has.
pub(crate) fn gradient_of(
    operator: &'static str,
    values: Values,
    input: &Tensor,
    inputs: &[&Tensor],
) -> Result<Tensor> {
    let values = Mutex::new(Some((values, input.shape().clone())));
    let operator = Gradient { operator, values };
    // A gradient with respect to a constant still depends on the variables among the inputs.
    let tracked = std::iter::once(input).chain(inputs.iter().copied()).find(|tensor| tensor.track_op());
    tracked.unwrap_or(input).apply_op1(operator)
}
