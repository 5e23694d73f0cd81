//! What a GPU runs: launches of the kernels in `kernels/*.cu`.
//!
//! A [`Launch`] names a kernel, its grid and its arguments, in the form that the driver takes them. An operator describes its launches once,
//! for anything that is a [`Gpu`]: a device ([`cuda`]), or in tests the emulation of one on the CPU (`emulated`).
//!
//! Memory is of words of 32 bits, `f32` or `u32`. Geometry is made on the host and uploaded once, see [`Kept`].

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(all(test, unix))]
pub(crate) mod emulated;
mod kept;
mod sums;

use candle_core::{Result, Shape, Tensor, bail};

pub(crate) use kept::Kept;
pub(crate) use sums::column_sums;

/// Threads of most kernels.
pub(crate) const THREADS: u32 = 128;
/// Rows of a block of kernels in which a warp has a row.
pub(crate) const WARPS: usize = 4;

/// A device that runs kernels.
pub(crate) trait Gpu {
    /// Memory of the device.
    type Memory;
    /// Memory that is kept for later.
    type Shared: Clone + Send + Sync + 'static;

    /// Tells devices apart.
    fn id(&self) -> usize;
    /// Memory for as many `f32`, which hold nothing in particular.
    fn floats(&self, count: usize) -> Result<Self::Memory>;
    /// Memory for as many words, which hold nothing in particular.
    fn words(&self, count: usize) -> Result<Self::Memory>;
    /// Memory for as many words, zero all of them.
    fn zeroed_words(&self, count: usize) -> Result<Self::Memory>;
    /// Memory for as many `f32`, zero all of them.
    fn zeroed_floats(&self, count: usize) -> Result<Self::Memory>;
    /// Copies words of the host.
    fn upload(&self, words: &[u32]) -> Result<Self::Memory>;
    /// Keeps memory.
    fn share(&self, memory: Self::Memory) -> Result<Self::Shared>;
    /// Memory that was kept, to read.
    fn shared(&self, shared: &Self::Shared) -> Self::Memory;
    /// Runs a kernel after those that were launched before.
    fn launch(&self, launch: Launch<'_, Self::Memory>) -> Result<()>;
}

/// An argument of a kernel.
pub(crate) enum Argument<'a, M> {
    Read(&'a M),
    Write(&'a mut M),
    /// A number, or a struct of numbers, of 32 bits each.
    Value(Vec<u32>),
}

/// A kernel with its grid and its arguments, in their order.
pub(crate) struct Launch<'a, M> {
    pub(crate) kernel: &'static str,
    pub(crate) grid: [u32; 3],
    pub(crate) threads: u32,
    pub(crate) arguments: Vec<Argument<'a, M>>,
}

impl<'a, M> Launch<'a, M> {
    /// `grid` are blocks along x and y.
    pub(crate) fn new(kernel: &'static str, [x, y]: [usize; 2], threads: u32) -> Result<Self> {
        // What CUDA allows along y.
        if y > 65_535 {
            bail!("{kernel}: {y} blocks along y; a GPU takes at most 65535")
        }
        Ok(Self { kernel, grid: [int(x)?, int(y)?, 1], threads, arguments: Vec::new() })
    }

    pub(crate) fn read(mut self, memory: &'a M) -> Self {
        self.arguments.push(Argument::Read(memory));
        self
    }

    pub(crate) fn write(mut self, memory: &'a mut M) -> Self {
        self.arguments.push(Argument::Write(memory));
        self
    }

    /// A number, or the fields of a struct.
    pub(crate) fn value<const N: usize>(mut self, fields: [u32; N]) -> Self {
        self.arguments.push(Argument::Value(fields.to_vec()));
        self
    }

    /// Launches it; nothing happens where the grid has no block.
    pub(crate) fn on<G: Gpu<Memory = M>>(self, gpu: &G) -> Result<()> {
        if self.grid.contains(&0) { Ok(()) } else { gpu.launch(self) }
    }
}

/// A size as kernels take it.
pub(crate) fn int(size: usize) -> Result<u32> {
    match i32::try_from(size) {
        Ok(size) => Ok(size as u32),
        Err(_) => bail!("a size of {size}; GPU kernels count up to 2^31 - 1"),
    }
}

/// An input of an operator: contiguous, in `f32`.
pub(crate) struct Input<'a, M> {
    pub(crate) memory: &'a M,
    pub(crate) shape: &'a Shape,
}

/// An operator of `N` tensors that has kernels.
pub(crate) trait GpuOperator<const N: usize> {
    const NAME: &'static str;

    /// The output and its shape.
    fn forward<G: Gpu>(&self, gpu: &G, inputs: [Input<'_, G::Memory>; N]) -> Result<(G::Memory, Shape)>;

    /// Gradients of the inputs, in their shapes, given the output and its gradient.
    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        inputs: [Input<'_, G::Memory>; N],
        out: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; N]>;
}

/// The gradients of an operator's inputs where its kernels compute them; `None` on the CPU. All tensors are contiguous.
pub(crate) fn backward<const N: usize>(
    operator: &impl GpuOperator<N>,
    inputs: [&Tensor; N],
    out: &Tensor,
    grad: &Tensor,
) -> Result<Option<[Tensor; N]>> {
    #[cfg(all(test, unix))]
    if let Some(gpu) = emulated::current() {
        return emulated::backward(&gpu, operator, inputs, out, grad).map(Some);
    }
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = out.device() {
        return cuda::backward(device, operator, inputs, out, grad).map(Some);
    }
    let _ = (operator, inputs, out, grad);
    Ok(None)
}
