//! Where tensors live and what numbers they are made of.

use candle_core::{DType, Device};

/// The device and the number type of tensors, as libtorch's `TensorOptions`.
///
/// ```
/// use aff_weights::TensorOptions;
/// use candle_core::{DType, Device};
///
/// let options = TensorOptions::from(&Device::Cpu);
/// assert_eq!(options.dtype, DType::F32);
/// ```
#[derive(Debug, Clone)]
pub struct TensorOptions {
    /// The device.
    pub device: Device,
    /// `F32` unless asked otherwise. `F64` is for comparisons; `F16` halves the weights in memory, and is slow on a CPU.
    /// Candle multiplies no matrices of `BF16` on a CPU.
    pub dtype: DType,
}

impl Default for TensorOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32 }
    }
}

impl From<&Device> for TensorOptions {
    fn from(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32 }
    }
}

impl From<&TensorOptions> for TensorOptions {
    fn from(options: &TensorOptions) -> Self {
        options.clone()
    }
}
