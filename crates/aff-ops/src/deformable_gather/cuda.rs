//! Deformable gather on a GPU: the launches of `kernels/deformable.cu`.

use candle_core::{Result, Shape};

use super::{Operator, Sizes};
use crate::CanvasLookup;
use crate::kernel::gpu::{Gpu, GpuOperator, Input, Launch, THREADS, WARPS, column_sums, int};

/// Most tokens of a cell, and most channels of a head, that the kernels are made for.
const NEAREST: usize = 4;
const WIDTH: usize = 64;

/// Whether the kernels cover a gather.
pub(super) fn covers(sizes: Sizes, levels: &[CanvasLookup]) -> bool {
    let covered = |level: &CanvasLookup| level.k() <= NEAREST && level.positions().fits_gpu();
    sizes.channels / sizes.heads <= WIDTH && levels.iter().all(covered)
}

/// A level on a device.
struct Level<M> {
    /// `[B,N_l]`
    place: M,
    /// `[B,height,width,k]`
    nearest: M,
    /// The fields of `Level`.
    fields: [u32; 6],
}

impl Operator {
    /// The fields of `DeformableSizes`.
    fn fields(&self) -> Result<[u32; 6]> {
        let Sizes { queries, tokens, channels, heads, points, .. } = self.sizes;
        Ok([int(queries)?, int(tokens)?, int(channels)?, int(heads)?, int(self.levels.len())?, int(points)?])
    }

    fn levels<G: Gpu>(&self, gpu: &G) -> Result<Vec<Level<G::Memory>>> {
        let mut first_token = 0;
        let mut levels = Vec::with_capacity(self.levels.len());
        for (index, level) in self.levels.iter().enumerate() {
            let (positions, canvas) = (level.positions(), level.positions().canvas());
            let upload = || gpu.share(gpu.upload(level.as_slice())?);
            let fields = [
                int(index)?,
                canvas.width(),
                canvas.height(),
                int(level.k())?,
                int(level.tokens())?,
                int(first_token)?,
            ];
            first_token += level.tokens();
            levels.push(Level {
                place: positions.on_gpu(gpu)?,
                nearest: gpu.shared(&level.kept.once(gpu.id(), "lookup", upload)?),
                fields,
            });
        }
        Ok(levels)
    }
}

impl GpuOperator<3> for Operator {
    const NAME: &'static str = super::OPERATOR;

    fn forward<G: Gpu>(
        &self,
        gpu: &G,
        [value, samples, power]: [Input<'_, G::Memory>; 3],
    ) -> Result<(G::Memory, Shape)> {
        let Sizes { batch, queries, channels, heads, .. } = self.sizes;
        let rows = batch * queries * heads;
        let mut out = gpu.floats(batch * queries * channels)?;
        for level in self.levels(gpu)? {
            Launch::new("deformable_gather", [rows.div_ceil(WARPS), 1], THREADS)?
                .read(value.memory)
                .read(samples.memory)
                .read(power.memory)
                .read(&level.place)
                .read(&level.nearest)
                .write(&mut out)
                .value([int(rows)?])
                .value(level.fields)
                .value(self.fields()?)
                .on(gpu)?;
        }
        Ok((out, (batch, queries, channels).into()))
    }

    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        [value, samples, power]: [Input<'_, G::Memory>; 3],
        _: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; 3]> {
        let Sizes { batch, queries, tokens, channels, heads, points } = self.sizes;
        let levels = self.levels(gpu)?;
        let (rows, each) = (batch * queries * heads, self.levels.len() * points);
        let fields = self.fields()?;

        let mut grad_samples = gpu.floats(rows * each * 3)?;
        let mut parts = gpu.floats(rows)?;
        for level in &levels {
            Launch::new("deformable_sample_gradients", [rows.div_ceil(WARPS), 1], THREADS)?
                .read(value.memory)
                .read(samples.memory)
                .read(power.memory)
                .read(&level.place)
                .read(&level.nearest)
                .read(grad)
                .write(&mut grad_samples)
                .write(&mut parts)
                .value([int(rows)?])
                .value(level.fields)
                .value(fields)
                .on(gpu)?;
        }

        let (mut shifts, mut broken) = (gpu.words(batch)?, gpu.words(batch)?);
        Launch::new("deformable_shifts", [batch, 1], 256)?
            .read(samples.memory)
            .read(grad)
            .write(&mut shifts)
            .write(&mut broken)
            .value([int(queries * channels)?])
            .value([int(queries * heads * each)?])
            .value([int(queries * each)?])
            .on(gpu)?;
        let count = batch * tokens * channels;
        let mut sums = gpu.zeroed_words(2 * count)?;
        for level in &levels {
            Launch::new("deformable_value_gradients", [rows.div_ceil(WARPS), 1], THREADS)?
                .read(samples.memory)
                .read(power.memory)
                .read(&level.place)
                .read(&level.nearest)
                .read(grad)
                .read(&shifts)
                .write(&mut broken)
                .write(&mut sums)
                .value([int(rows)?])
                .value(level.fields)
                .value(fields)
                .on(gpu)?;
        }
        let mut grad_value = gpu.floats(count)?;
        Launch::new("deformable_values", [count.div_ceil(256), 1], 256)?
            .read(&sums)
            .read(&shifts)
            .read(&broken)
            .write(&mut grad_value)
            .value([int(count)?])
            .value([int(tokens * channels)?])
            .on(gpu)?;
        Ok([grad_value, grad_samples, column_sums(gpu, &parts, rows, 1)?])
    }
}
