//! The boundary between tensors and kernels: values are borrowed from the storage of the CPU, results are moved into it.

use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

use super::simd::Real;
use crate::shape;

/// Whether an operator has a kernel where the tensor is, and for its type; `on_gpu` says whether those of GPUs cover the sizes.
/// Elsewhere it runs as the composition of Candle operators that is its twin, on the tensor's own device.
pub(crate) fn has_kernel(tensor: &Tensor, on_gpu: impl FnOnce() -> bool) -> bool {
    match tensor.device() {
        Device::Cpu => true,
        Device::Cuda(_) => {
            let counted = i32::try_from(tensor.elem_count()).is_ok();
            cfg!(feature = "cuda") && tensor.dtype() != DType::F64 && counted && on_gpu()
        }
        Device::Metal(_) => false,
    }
}

/// The values of an operator's input, which the operator's front has made contiguous.
pub(crate) fn slice<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("an operator's input is not contiguous"),
    }
}

/// A tensor whose values a backward pass reads.
pub(crate) struct Borrowed<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Borrowed<'a> {
    pub(crate) fn new(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    /// The values; an error where the tensor is on another device, or not contiguous.
    pub(crate) fn slice<T: Real>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => slice(storage, self.layout),
            _ => bail!("a backward pass of the CPU was given a tensor of another device"),
        }
    }
}

/// The values of an operator's output with their shape, which must fit: Candle relies on it without looking.
pub(crate) fn output<T: Real>(values: Vec<T>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    let shape = shape.into();
    if shape::count("an operator", shape.dims())? != values.len() {
        bail!("an operator made {} values for the shape {shape:?}", values.len())
    }
    Ok((T::to_cpu_storage_owned(values), shape))
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
