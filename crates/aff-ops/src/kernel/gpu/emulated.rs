//! The emulation of a GPU on the CPU, for tests: within [`emulate`], operators on CPU tensors run their kernels in it.

use std::cell::Cell;
use std::sync::Arc;

use aff_emulator::Memory;
use candle_core::{CpuStorage, Error, Layout, Result, Shape, Tensor};

use super::{Argument, Gpu, GpuOperator, Input, Launch};
use crate::kernel::gradient::gradient;
use crate::kernel::storage::{self, Borrowed};

thread_local! {
    static SEED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Runs `run` with operators emulated on this thread; `seed` orders blocks and threads.
pub(crate) fn emulate<R>(seed: u32, run: impl FnOnce() -> R) -> R {
    struct Restore(Option<u32>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SEED.set(self.0);
        }
    }
    let _restore = Restore(SEED.replace(Some(seed)));
    run()
}

/// The emulated GPU, within [`emulate`].
pub(crate) fn current() -> Option<Emulated> {
    SEED.get().map(|seed| Emulated { seed })
}

pub(crate) struct Emulated {
    pub(crate) seed: u32,
}

impl Gpu for Emulated {
    type Memory = Arc<Memory>;
    type Shared = Arc<Memory>;

    fn id(&self) -> usize {
        0
    }

    fn floats(&self, count: usize) -> Result<Arc<Memory>> {
        self.words(count)
    }

    fn words(&self, count: usize) -> Result<Arc<Memory>> {
        Memory::new(count).map(Arc::new).map_err(Error::msg)
    }

    fn zeroed_words(&self, count: usize) -> Result<Arc<Memory>> {
        self.upload(&vec![0; count])
    }

    fn zeroed_floats(&self, count: usize) -> Result<Arc<Memory>> {
        self.zeroed_words(count)
    }

    fn upload(&self, words: &[u32]) -> Result<Arc<Memory>> {
        Memory::from_words(words).map(Arc::new).map_err(Error::msg)
    }

    fn share(&self, memory: Arc<Memory>) -> Result<Arc<Memory>> {
        Ok(memory)
    }

    fn shared(&self, shared: &Arc<Memory>) -> Arc<Memory> {
        shared.clone()
    }

    fn launch(&self, launch: Launch<'_, Arc<Memory>>) -> Result<()> {
        let mut arguments = Vec::new();
        for argument in launch.arguments {
            arguments.push(match argument {
                Argument::Read(memory) => aff_emulator::Argument::Read(memory),
                Argument::Write(memory) => {
                    let memory = Arc::get_mut(memory);
                    aff_emulator::Argument::Write(
                        memory.ok_or_else(|| Error::msg("shared memory is written"))?,
                    )
                }
                Argument::Value(words) => aff_emulator::Argument::Value(words),
            });
        }
        aff_emulator::launch(launch.kernel, launch.grid, launch.threads, &arguments, self.seed)
            .map_err(Error::msg)
    }
}

pub(crate) fn upload(gpu: &Emulated, values: &[f32]) -> Result<Arc<Memory>> {
    gpu.upload(&values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>())
}

pub(crate) fn download(memory: &Memory) -> Vec<f32> {
    memory.to_words().into_iter().map(f32::from_bits).collect()
}

/// The forward pass of an operator on CPU tensors of type `f32`; `None` outside of [`emulate`].
pub(crate) fn forward<const N: usize>(
    operator: &impl GpuOperator<N>,
    inputs: [(&CpuStorage, &Layout); N],
) -> Result<Option<(CpuStorage, Shape)>> {
    let Some(gpu) = current() else { return Ok(None) };
    let memory = inputs.map(|(values, layout)| upload(&gpu, storage::slice::<f32>(values, layout)?));
    let memory: Vec<Arc<Memory>> = memory.into_iter().collect::<Result<_>>()?;
    let (out, shape) = operator
        .forward(&gpu, std::array::from_fn(|i| Input { memory: &memory[i], shape: inputs[i].1.shape() }))?;
    storage::output(download(&out), shape).map(Some)
}

pub(super) fn backward<const N: usize, O: GpuOperator<N>>(
    gpu: &Emulated,
    operator: &O,
    inputs: [&Tensor; N],
    out: &Tensor,
    grad: &Tensor,
) -> Result<[Tensor; N]> {
    let of = |tensor: &Tensor| upload(gpu, Borrowed::new(tensor).slice::<f32>()?);
    let memory: Vec<Arc<Memory>> = inputs.iter().map(|tensor| of(tensor)).collect::<Result<_>>()?;
    let views = std::array::from_fn(|i| Input { memory: &memory[i], shape: inputs[i].shape() });
    let gradients = operator.backward(gpu, views, &of(out)?, &of(grad)?)?;
    let gradients: Vec<Tensor> = gradients
        .iter()
        .zip(inputs)
        .map(|(values, input)| gradient(O::NAME, download(values), input, &inputs))
        .collect::<Result<_>>()?;
    gradients.try_into().map_err(|_| Error::msg("as many gradients as inputs"))
}
