//! Keys in blocks of [`LANES`], laid out for the kernels.

use rayon::prelude::*;

use super::super::{AttentionGeometry, PADDING_LOGIT, PaddingSlots, Sizes};
use crate::Positions;
use crate::kernel::simd::{LANES, Real};
use crate::points::KeyRuns;

/// How the keys of an image divide into blocks, and which blocks a query sees.
///
/// A cluster fills whole blocks, the last of them perhaps in part. Where all keys are seen they are one cluster.
///
/// [`PaddingSlots::FirstToken`] gives all p missing slots of the last cluster the same logit and the same value, so that they count
/// as one slot whose logit is greater by ln p. That slot is a block of its own, behind those of the clusters.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    keys: usize,
    cluster_size: usize,
    blocks_per_cluster: usize,
    clusters: usize,
    runs: KeyRuns<'a>,
    /// What is added to the logit of the padding slots that count as one; `None` where there are none.
    padding: Option<f64>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(geometry: AttentionGeometry<'a>) -> Self {
        let AttentionGeometry { neighborhood, padding, .. } = geometry;
        let runs = neighborhood.key_runs();
        let keys = neighborhood.keys();
        let cluster_size = match runs {
            KeyRuns::All => keys,
            // A cluster may be configured larger than all tokens are.
            KeyRuns::Clusters { cluster_size, .. } => cluster_size.min(keys),
        };
        Self {
            keys,
            cluster_size,
            blocks_per_cluster: cluster_size.div_ceil(LANES),
            clusters: keys.div_ceil(cluster_size.max(1)),
            runs,
            padding: match (padding, neighborhood.missing_slots()) {
                (PaddingSlots::LeftOut, _) | (_, 0) => None,
                (PaddingSlots::FirstToken, missing) => Some(PADDING_LOGIT + (missing as f64).ln()),
            },
        }
    }

    /// Blocks of the clusters of an image; the padding's, if there is one, has this number.
    fn of_clusters(&self) -> usize {
        self.clusters * self.blocks_per_cluster
    }

    /// Blocks of an image.
    pub(super) fn count(&self) -> usize {
        self.of_clusters() + usize::from(self.padding.is_some())
    }

    /// Blocks that a query sees, at most.
    pub(super) fn per_query(&self) -> usize {
        match self.runs {
            KeyRuns::All => self.count(),
            KeyRuns::Clusters { per_query, .. } => per_query * self.blocks_per_cluster + 1,
        }
    }

    /// What is added to the logit of a block of padding; `None` for others.
    #[inline(always)]
    pub(super) fn logit_shift(&self, block: usize) -> Option<f64> {
        self.padding.filter(|_| block == self.of_clusters())
    }

    /// First key of a block, and how many it has.
    #[inline(always)]
    pub(super) fn keys(&self, block: usize) -> (usize, usize) {
        if block == self.of_clusters() {
            return (0, 1);
        }
        let (cluster, part) = (block / self.blocks_per_cluster, block % self.blocks_per_cluster);
        let start = cluster * self.cluster_size + part * LANES;
        let end = ((cluster + 1) * self.cluster_size).min(self.keys);
        (start, end.saturating_sub(start).min(LANES))
    }

    /// Fills `blocks` with what a query sees; blocks without a key are left out.
    #[inline(always)]
    pub(super) fn of_query(&self, row: usize, blocks: &mut Vec<u32>) {
        blocks.clear();
        match self.runs {
            KeyRuns::All => blocks.extend(0..self.count() as u32),
            KeyRuns::Clusters { per_query, nearest, .. } => {
                let each = self.blocks_per_cluster as u32;
                let nearest = &nearest[row * per_query..(row + 1) * per_query];
                for &cluster in nearest {
                    blocks.extend(cluster * each..(cluster + 1) * each);
                }
                blocks.retain(|&block| self.keys(block as usize).1 > 0);
                if self.padding.is_some() && nearest.contains(&(self.clusters as u32 - 1)) {
                    blocks.push(self.of_clusters() as u32);
                }
            }
        }
    }
}

/// The keys (or values) of all heads with lanes innermost, `[B, blocks, H, D, LANES]`: a vector holds one channel of the keys of a
/// block, so that logits need no sum across lanes. `part` is 0 for the keys and 1 for the values.
pub(super) fn pack<T: Real>(key_value: &[T], part: usize, sizes: Sizes, blocks: &Blocks<'_>) -> Vec<T> {
    let Sizes { batch, tokens, channels, heads } = sizes;
    let width = channels / heads;
    let block_size = channels * LANES;
    let mut packed = vec![T::zero(); batch * blocks.count() * block_size];
    if block_size == 0 {
        return packed;
    }
    packed.par_chunks_mut(block_size).enumerate().for_each(|(index, packed)| {
        let (image, block) = (index / blocks.count(), index % blocks.count());
        let (start, count) = blocks.keys(block);
        for lane in 0..count {
            let row = &key_value[(image * tokens + start + lane) * 2 * channels..][..2 * channels];
            for (head, packed) in packed.chunks_exact_mut(width * LANES).enumerate() {
                let row = &row[(2 * head + part) * width..][..width];
                for (lanes, &value) in packed.as_chunks_mut::<LANES>().0.iter_mut().zip(row) {
                    lanes[lane] = value;
                }
            }
        }
    });
    packed
}

/// Coordinates of the keys with lanes innermost, `[B, blocks, 2, LANES]`.
pub(super) fn pack_positions<T: Real>(positions: &Positions, blocks: &Blocks<'_>) -> Vec<[[T; LANES]; 2]> {
    let mut packed = vec![[[T::zero(); LANES]; 2]; positions.batch() * blocks.count()];
    for (image, packed) in positions.images().zip(packed.chunks_mut(blocks.count().max(1))) {
        for (block, [x, y]) in packed.iter_mut().enumerate() {
            let (start, count) = blocks.keys(block);
            for lane in 0..count {
                let position = image[start + lane];
                x[lane] = T::of(f64::from(position[0]));
                y[lane] = T::of(f64::from(position[1]));
            }
        }
    }
    packed
}
