//! Kernels on a CUDA device, on the stream of Candle's device.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{CudaStorage, Error, Layout, Result, Shape, Storage, Tensor, bail};

use super::{Argument, Gpu, GpuOperator, Input, Launch};
use crate::kernel::gradient::{Values, gradient_of};

/// The kernels, as `build.rs` compiles them.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
/// Kernels load 16 bytes at a time.
const ALIGNMENT: usize = 16 / size_of::<f32>();

/// A device of Candle's.
struct Cuda<'a> {
    device: &'a CudaDevice,
}

/// Memory of a device.
enum Memory<'a> {
    Floats(CudaSlice<f32>),
    Words(CudaSlice<u32>),
    /// The values of a tensor.
    Borrowed(CudaView<'a, f32>),
    Shared(Arc<Memory<'static>>),
}

impl Cuda<'_> {
    /// The values of a contiguous tensor.
    fn tensor<'s>(&self, storage: &'s CudaStorage, layout: &Layout) -> Result<Memory<'s>> {
        let slice = storage.as_cuda_slice::<f32>()?;
        let view = layout.contiguous_offsets().and_then(|(start, end)| slice.try_slice(start..end));
        let (Some(view), offset) = (view, layout.start_offset()) else {
            bail!("an operator's input is not contiguous")
        };
        if offset.is_multiple_of(ALIGNMENT) { Ok(Memory::Borrowed(view)) } else { self.copy(&view) }
    }

    fn copy<'s>(&self, view: &CudaView<'_, f32>) -> Result<Memory<'s>> {
        // Devices give no memory of no size.
        let mut copy = self.device.alloc_zeros::<f32>(view.len().max(1))?;
        self.device.memcpy_dtod(view, &mut copy)?;
        Ok(Memory::Floats(copy))
    }

    /// The values that a kernel wrote, as a tensor keeps them.
    fn storage(&self, memory: Memory<'_>) -> Result<CudaStorage> {
        match memory {
            Memory::Floats(slice) => Ok(CudaStorage::wrap_cuda_slice(slice, self.device.clone())),
            _ => bail!("an operator's output is not its own"),
        }
    }
}

impl<'a> Gpu for Cuda<'a> {
    type Memory = Memory<'a>;
    type Shared = Arc<Memory<'static>>;

    fn id(&self) -> usize {
        self.device.cuda_stream().context().ordinal()
    }

    #[allow(unsafe_code, reason = "memory that nobody has written to")]
    fn floats(&self, count: usize) -> Result<Memory<'a>> {
        // SAFETY: every bit pattern is an f32, and kernels write all of their outputs.
        Ok(Memory::Floats(unsafe { self.device.alloc::<f32>(count.max(1)) }?))
    }

    #[allow(unsafe_code, reason = "memory that nobody has written to")]
    fn words(&self, count: usize) -> Result<Memory<'a>> {
        // SAFETY: every bit pattern is a u32, and kernels write all of their outputs.
        Ok(Memory::Words(unsafe { self.device.alloc::<u32>(count.max(1)) }?))
    }

    fn zeroed_words(&self, count: usize) -> Result<Memory<'a>> {
        Ok(Memory::Words(self.device.alloc_zeros(count.max(1))?))
    }

    fn zeroed_floats(&self, count: usize) -> Result<Memory<'a>> {
        Ok(Memory::Floats(self.device.alloc_zeros(count.max(1))?))
    }

    fn upload(&self, words: &[u32]) -> Result<Memory<'a>> {
        if words.is_empty() {
            return self.zeroed_words(0);
        }
        Ok(Memory::Words(self.device.clone_htod(words)?))
    }

    fn share(&self, memory: Memory<'a>) -> Result<Arc<Memory<'static>>> {
        Ok(match memory {
            Memory::Floats(slice) => Arc::new(Memory::Floats(slice)),
            Memory::Words(slice) => Arc::new(Memory::Words(slice)),
            Memory::Borrowed(view) => Arc::new(self.copy(&view)?),
            Memory::Shared(memory) => memory,
        })
    }

    fn shared(&self, shared: &Arc<Memory<'static>>) -> Memory<'a> {
        Memory::Shared(shared.clone())
    }

    #[allow(unsafe_code, reason = "kernels are launched")]
    fn launch(&self, mut launch: Launch<'_, Memory<'a>>) -> Result<()> {
        let function = self.device.get_or_load_custom_func(launch.kernel, "aff_ops", PTX)?;
        let [x, y, z] = launch.grid;
        let mut builder = function.builder();
        for argument in &mut launch.arguments {
            match argument {
                Argument::Read(memory) => read(&mut builder, memory),
                Argument::Write(Memory::Floats(slice)) => {
                    builder.arg(slice);
                }
                Argument::Write(Memory::Words(slice)) => {
                    builder.arg(slice);
                }
                Argument::Write(_) => bail!("{}: writes to what it does not own", launch.kernel),
                Argument::Value(fields) => value(&mut builder, launch.kernel, fields)?,
            }
        }
        let config =
            LaunchConfig { grid_dim: (x, y, z), block_dim: (launch.threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: number, order, kind and size of the arguments and the threads of a block are those that the kernel declares, and it stays
        // within the memory that it is given: the emulator checks that for the very launches that are made here.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

fn read<'b>(builder: &mut LaunchArgs<'b>, memory: &'b Memory<'_>) {
    match memory {
        Memory::Floats(slice) => {
            builder.arg(slice);
        }
        Memory::Words(slice) => {
            builder.arg(slice);
        }
        Memory::Borrowed(view) => {
            builder.arg(view);
        }
        Memory::Shared(memory) => read(builder, memory),
    }
}

/// A number or a struct by value: the driver reads as many words as the kernel declares, so that they lie together.
fn value<'b>(builder: &mut LaunchArgs<'b>, kernel: &str, fields: &'b [u32]) -> Result<()> {
    macro_rules! of_length {
        ($($length:literal),*) => {
            match fields.len() {
                $($length => {
                    if let Some(fields) = fields.first_chunk::<$length>() {
                        builder.arg(fields);
                    }
                })*
                length => bail!("{kernel}: a struct of {length} numbers"),
            }
        };
    }
    of_length!(1, 2, 3, 4, 5, 6, 7, 8);
    Ok(())
}

/// The forward pass of an operator.
pub(crate) fn forward<const N: usize>(
    operator: &impl GpuOperator<N>,
    inputs: [(&CudaStorage, &Layout); N],
) -> Result<(CudaStorage, Shape)> {
    let Some((first, _)) = inputs.first() else { bail!("an operator without inputs") };
    let gpu = Cuda { device: &first.device };
    let memory: Vec<Memory<'_>> =
        inputs.iter().map(|(storage, layout)| gpu.tensor(storage, layout)).collect::<Result<_>>()?;
    let views = std::array::from_fn(|i| Input { memory: &memory[i], shape: inputs[i].1.shape() });
    let (out, shape) = operator.forward(&gpu, views)?;
    Ok((gpu.storage(out)?, shape))
}

pub(super) fn backward<const N: usize, O: GpuOperator<N>>(
    device: &CudaDevice,
    operator: &O,
    inputs: [&Tensor; N],
    out: &Tensor,
    grad: &Tensor,
) -> Result<[Tensor; N]> {
    let gpu = Cuda { device };
    let values = {
        let tensors: Vec<&Tensor> = inputs.into_iter().chain([out, grad]).collect();
        let borrowed: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
        let mut memory = Vec::with_capacity(borrowed.len());
        for (storage, layout) in &borrowed {
            match &**storage {
                Storage::Cuda(storage) => memory.push(gpu.tensor(storage, layout)?),
                _ => bail!("{}: a tensor of its backward pass is on another device", O::NAME),
            }
        }
        let views = std::array::from_fn(|i| Input { memory: &memory[i], shape: inputs[i].shape() });
        let gradients = operator.backward(&gpu, views, &memory[N], &memory[N + 1])?;
        gradients.into_iter().map(|memory| gpu.storage(memory)).collect::<Result<Vec<CudaStorage>>>()?
    };
    let gradients: Vec<Tensor> = values
        .into_iter()
        .zip(inputs)
        .map(|(values, input)| gradient_of(O::NAME, Values::Cuda(values), input, &inputs))
        .collect::<Result<_>>()?;
    gradients.try_into().map_err(|_| Error::msg("as many gradients as inputs"))
}
