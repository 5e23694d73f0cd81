//! From tensors to slices and back, for operators that compute on the CPU.

use candle_core::{CpuStorage, DType, Layout, Result, Tensor, bail};

use crate::simd::Real;

/// Rows that a thread takes at a time. Fixed, so that sums over rows come out the same with any number of threads.
pub(crate) const ROWS: usize = 128;

/// The values of an operator's input, which the operator's front has made contiguous.
pub(crate) fn slice<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("an operator's input is not contiguous"),
    }
}

/// A copy of the values of a tensor.
pub(crate) fn values<T: Real>(tensor: &Tensor) -> Result<Vec<T>> {
    tensor.flatten_all()?.to_vec1()
}

/// The tensor as operators take it: contiguous, and f32 if it was narrower.
pub(crate) fn prepared(tensor: &Tensor) -> Result<Tensor> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.to_dtype(DType::F32)?.contiguous(),
        _ => tensor.contiguous(),
    }
}

/// Refuses types that operators do not compute in, and inputs of different types.
pub(crate) fn check_types(operator: &str, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let Some((_, first)) = tensors.first() else { return Ok(()) };
    for (name, tensor) in tensors {
        let dtype = tensor.dtype();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            bail!("{operator}: `{name}` is {dtype:?}; expected F32, F64, F16 or BF16")
        }
        if dtype != first.dtype() {
            bail!(
                "{operator}: `{name}` is {dtype:?} but `{}` is {:?}; expected one type",
                tensors[0].0,
                first.dtype()
            )
        }
    }
    Ok(())
}

/// Runs code for the type of a tensor, under the name of a type parameter: `by_type!(dtype, T => code)`.
macro_rules! by_type {
    ($dtype:expr, $name:ident => $code:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $name = f32;
                $code
            }
            candle_core::DType::F64 => {
                type $name = f64;
                $code
            }
            other => candle_core::bail!("an operator's input is {other:?}; expected F32 or F64"),
        }
    };
}

pub(crate) use by_type;
