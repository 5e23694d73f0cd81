//! Merging on a GPU: the launches of `kernels/merge.cu`, and the sums that it shares with the weighted gather.
//!
//! The weights `[B,Q,M,W]` are made by a kernel of their own: they are 1/C of what the neighbours' features are, and the backward pass needs
//! them key by key.

use candle_core::{Result, Shape};

use super::{MergeGeometry, Operator, Sizes};
use crate::kernel::gpu::{Gpu, GpuOperator, Input, Kept, Launch, THREADS, column_sums, int};
use crate::points::GpuSlots;
use crate::weighted_gather::cuda::Sums;
use crate::{Neighborhood, Offset};

/// Weight channels that the kernels are made for.
const WEIGHTS: usize = 4;
/// Slots of a block of the backward pass.
const SLOTS: usize = 1024;

/// Whether the kernels cover a merge.
pub(super) fn covers(sizes: Sizes, geometry: &MergeGeometry<'_>) -> bool {
    sizes.weights == WEIGHTS && geometry.queries.fits_gpu() && geometry.keys.fits_gpu()
}

fn kept(neighborhood: &Neighborhood) -> &Kept {
    match neighborhood {
        Neighborhood::Clusters(clusters) => &clusters.kept,
        Neighborhood::Lists(lists) => &lists.kept,
    }
}

impl Operator {
    /// The fields of `MergeSizes`.
    fn fields<M>(&self, sums: &Sums<'_, M>) -> Result<[u32; 4]> {
        let sign: f32 = match self.offset {
            Offset::ToNeighbor => 1.0,
            Offset::ToQuery => -1.0,
        };
        Ok([int(sums.queries)?, int(sums.keys)?, int(sums.per_query)?, sign.to_bits()])
    }

    /// `[B,Q,M,W]`
    fn weights<G: Gpu>(
        &self,
        gpu: &G,
        score: &G::Memory,
        net: &G::Memory,
        sums: &Sums<'_, G::Memory>,
    ) -> Result<G::Memory> {
        let rows = sums.batch * sums.queries;
        let slots = rows * sums.per_query;
        let mut weights = gpu.floats(slots * WEIGHTS)?;
        Launch::new("merge_weights", [slots.div_ceil(THREADS as usize), 1], THREADS)?
            .read(score)
            .read(net)
            .read(&self.queries.on_gpu(gpu)?)
            .read(&self.keys.on_gpu(gpu)?)
            .read(&sums.slots.keys)
            .write(&mut weights)
            .value([int(rows)?])
            .value(self.fields(sums)?)
            .on(gpu)?;
        Ok(weights)
    }
}

impl GpuOperator<3> for Operator {
    const NAME: &'static str = super::OPERATOR;

    fn forward<G: Gpu>(
        &self,
        gpu: &G,
        [feat, score, net]: [Input<'_, G::Memory>; 3],
    ) -> Result<(G::Memory, Shape)> {
        let slots = GpuSlots::of(gpu, &self.neighborhood, kept(&self.neighborhood))?;
        let sums = Sums::new(&slots, &self.neighborhood, self.sizes.channels, WEIGHTS);
        let weights = self.weights(gpu, score.memory, net.memory, &sums)?;
        let out = sums.forward(gpu, feat.memory, &weights)?;
        Ok((out, (sums.batch, sums.queries, WEIGHTS * sums.channels).into()))
    }

    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        [feat, score, net]: [Input<'_, G::Memory>; 3],
        _: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; 3]> {
        let slots = GpuSlots::of(gpu, &self.neighborhood, kept(&self.neighborhood))?;
        let sums = Sums::new(&slots, &self.neighborhood, self.sizes.channels, WEIGHTS);
        let (rows, keys) = (sums.batch * sums.queries, sums.batch * sums.keys);
        let weights = self.weights(gpu, score.memory, net.memory, &sums)?;
        let grad_feat = sums.feat_gradients(gpu, &weights, grad)?;
        let grad_weights = sums.weight_gradients(gpu, feat.memory, grad)?;

        let blocks = (rows * sums.per_query).div_ceil(SLOTS);
        let mut slot_scores = gpu.floats(rows * sums.per_query)?;
        let mut parts = gpu.floats(blocks * 8 * WEIGHTS)?;
        Launch::new("merge_weight_gradients", [blocks, 1], THREADS)?
            .read(score.memory)
            .read(net.memory)
            .read(&self.queries.on_gpu(gpu)?)
            .read(&self.keys.on_gpu(gpu)?)
            .read(&slots.keys)
            .read(&grad_weights)
            .write(&mut slot_scores)
            .write(&mut parts)
            .value([int(rows)?])
            .value(self.fields(&sums)?)
            .on(gpu)?;
        let mut grad_score = gpu.floats(keys)?;
        Launch::new("slot_sums", [keys.div_ceil(THREADS as usize), 1], THREADS)?
            .read(&slot_scores)
            .read(&slots.starts)
            .read(&slots.slots)
            .write(&mut grad_score)
            .value([int(keys)?])
            .on(gpu)?;
        Ok([grad_feat, grad_score, column_sums(gpu, &parts, blocks, 8 * WEIGHTS)?])
    }
}
