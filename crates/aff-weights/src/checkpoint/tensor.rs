//! A tensor of a checkpoint, contiguous and little-endian.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

/// Bytes of tensors for each byte of their file. Tensors may share a storage, as tied weights do, but many that share one must not
/// fill the memory.
const LARGEST_SHARE: u64 = 2;

/// The bytes that the tensors of a file may still take.
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    /// The budget of a file of `length` bytes.
    pub(super) fn of_file(length: u64) -> Self {
        Self { left: length.saturating_mul(LARGEST_SHARE) }
    }

    pub(super) fn take(&mut self, bytes: u64) -> Result<(), String> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!("shares its storage with so many that all together take more than {LARGEST_SHARE} times the file")
        })?;
        Ok(())
    }
}

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 16-bit float.
    F16,
    /// 16-bit "brain" float.
    Bf16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// Byte, or truth value.
    U8,
}

impl ElementType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }

    /// Whether the elements are floating point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::Bf16)
    }
}

/// A tensor as the checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointTensor {
    element_type: ElementType,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl CheckpointTensor {
    /// Gathers a tensor from its storage.
    ///
    /// `storage` starts with the tensor's first element; `strides` are in elements.
    pub(super) fn gather(
        element_type: ElementType,
        shape: Vec<usize>,
        strides: &[usize],
        storage: &[u8],
    ) -> Result<Self, String> {
        let size = element_type.size();
        let reach = reach(&shape, strides).ok_or("its shape and strides overflow")?;
        let available = storage.len() / size;
        if reach > available {
            return Err(format!("reaches {reach} elements into a storage of {available}"));
        }
        let count = element_count(&shape).ok_or("its shape overflows")?;
        if strides == contiguous_strides(&shape) || count <= 1 {
            return Ok(Self { element_type, data: storage[..count * size].to_vec(), shape });
        }
        // A stride of 0 repeats elements: without this bound a small file could ask for any amount of memory.
        if count > available {
            return Err(format!("repeats {available} stored elements {count} times over"));
        }
        let mut data = Vec::with_capacity(count * size);
        let mut index = vec![0usize; shape.len()];
        let mut at = 0;
        for _ in 0..count {
            data.extend_from_slice(&storage[at * size..(at + 1) * size]);
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                at += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                at -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        Ok(Self { element_type, shape, data })
    }

    /// Type of the elements.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order, little-endian.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The elements as 32-bit floats in row-major order.
    pub fn to_f32(&self) -> Vec<f32> {
        fn each<const N: usize>(data: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            data.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
        }
        match self.element_type {
            ElementType::F32 => each(&self.data, f32::from_le_bytes),
            ElementType::F64 => each(&self.data, |b| f64::from_le_bytes(b) as f32),
            ElementType::F16 => each(&self.data, |b| f16::from_le_bytes(b).to_f32()),
            ElementType::Bf16 => each(&self.data, |b| bf16::from_le_bytes(b).to_f32()),
            ElementType::I64 => each(&self.data, |b| i64::from_le_bytes(b) as f32),
            ElementType::I32 => each(&self.data, |b| i32::from_le_bytes(b) as f32),
            ElementType::U8 => self.data.iter().map(|&byte| f32::from(byte)).collect(),
        }
    }

    /// The tensor as 32-bit floats.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn to_tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_vec(self.to_f32(), self.shape.as_slice(), device)?.to_dtype(DType::F32)
    }
}

/// Elements of a storage that a tensor reaches into; `None` if that overflows.
pub(super) fn reach(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.len() != strides.len() {
        return None;
    }
    if shape.contains(&0) {
        return Some(0);
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(0usize, |last, (&length, &stride)| last.checked_add((length - 1).checked_mul(stride)?))?;
    last.checked_add(1)
}

fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length))
}

/// Strides of a row-major tensor.
pub(super) fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}
