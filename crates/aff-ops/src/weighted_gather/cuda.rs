//! Weighted sums of neighbours on a GPU: the launches of `kernels/neighbors.cu`, for gathering and for merging.

use candle_core::{Result, Shape};

use super::Operator;
use crate::kernel::gpu::{Gpu, GpuOperator, Input, Launch, THREADS, WARPS, int};
use crate::points::{GpuSlots, Slots};

/// Channels of a warp.
const CHANNELS: usize = 64;

/// Sums of the neighbours of every query, `sums` of them at once.
#[derive(Clone, Copy)]
pub(crate) struct Sums<'a, M> {
    pub(crate) slots: &'a GpuSlots<M>,
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) per_query: usize,
    pub(crate) channels: usize,
    /// 1 or 4.
    pub(crate) sums: usize,
}

impl<'a, M> Sums<'a, M> {
    pub(crate) fn new(
        slots: &'a GpuSlots<M>,
        neighborhood: &impl Slots,
        channels: usize,
        sums: usize,
    ) -> Self {
        Self {
            slots,
            batch: neighborhood.batch(),
            queries: neighborhood.queries(),
            keys: neighborhood.keys(),
            per_query: neighborhood.slots(),
            channels,
            sums,
        }
    }

    fn kernel(&self, kernels: [&'static str; 2]) -> &'static str {
        kernels[usize::from(self.sums == 4)]
    }

    /// The fields of `NeighborSizes`.
    fn fields(&self) -> Result<[u32; 4]> {
        Ok([int(self.queries)?, int(self.keys)?, int(self.per_query)?, int(self.channels)?])
    }

    /// `[B,Q,W,C]` of `feat [B,N,C]` and `weights [B,Q,M,W]`.
    pub(crate) fn forward<G: Gpu<Memory = M>>(&self, gpu: &G, feat: &M, weights: &M) -> Result<M> {
        let rows = self.batch * self.queries;
        let mut out = gpu.floats(rows * self.sums * self.channels)?;
        let kernel = self.kernel(["neighbor_sums_1", "neighbor_sums_4"]);
        Launch::new(kernel, [rows.div_ceil(WARPS), self.channels.div_ceil(CHANNELS)], THREADS)?
            .read(feat)
            .read(weights)
            .read(&self.slots.keys)
            .write(&mut out)
            .value([int(rows)?])
            .value(self.fields()?)
            .on(gpu)?;
        Ok(out)
    }

    /// Gradients of the weights, `[B,Q,M,W]`, given `grad [B,Q,W,C]`.
    pub(crate) fn weight_gradients<G: Gpu<Memory = M>>(&self, gpu: &G, feat: &M, grad: &M) -> Result<M> {
        let rows = self.batch * self.queries;
        let mut out = gpu.floats(rows * self.per_query * self.sums)?;
        let kernel = self.kernel(["neighbor_weight_gradients_1", "neighbor_weight_gradients_4"]);
        Launch::new(kernel, [rows.div_ceil(WARPS), 1], THREADS)?
            .read(feat)
            .read(&self.slots.keys)
            .read(grad)
            .write(&mut out)
            .value([int(rows)?])
            .value(self.fields()?)
            .on(gpu)?;
        Ok(out)
    }

    /// Gradients of the features, `[B,N,C]`, given `grad [B,Q,W,C]`.
    pub(crate) fn feat_gradients<G: Gpu<Memory = M>>(&self, gpu: &G, weights: &M, grad: &M) -> Result<M> {
        let rows = self.batch * self.keys;
        let mut out = gpu.floats(rows * self.channels)?;
        let kernel = self.kernel(["neighbor_feat_gradients_1", "neighbor_feat_gradients_4"]);
        Launch::new(kernel, [rows.div_ceil(WARPS), self.channels.div_ceil(CHANNELS)], THREADS)?
            .read(weights)
            .read(grad)
            .read(&self.slots.starts)
            .read(&self.slots.slots)
            .write(&mut out)
            .value([int(rows)?])
            .value(self.fields()?)
            .on(gpu)?;
        Ok(out)
    }
}

impl GpuOperator<2> for Operator {
    const NAME: &'static str = super::OPERATOR;

    fn forward<G: Gpu>(
        &self,
        gpu: &G,
        [feat, weights]: [Input<'_, G::Memory>; 2],
    ) -> Result<(G::Memory, Shape)> {
        let channels = feat.shape.dims3()?.2;
        let slots = GpuSlots::of(gpu, &self.neighbors, &self.neighbors.kept)?;
        let sums = Sums::new(&slots, &self.neighbors, channels, 1);
        let out = sums.forward(gpu, feat.memory, weights.memory)?;
        Ok((out, (sums.batch, sums.queries, channels).into()))
    }

    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        [feat, weights]: [Input<'_, G::Memory>; 2],
        _: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; 2]> {
        let slots = GpuSlots::of(gpu, &self.neighbors, &self.neighbors.kept)?;
        let sums = Sums::new(&slots, &self.neighbors, feat.shape.dims3()?.2, 1);
        Ok([sums.feat_gradients(gpu, weights.memory, grad)?, sums.weight_gradients(gpu, feat.memory, grad)?])
    }
}
