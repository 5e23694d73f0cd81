//! The forward pass: queries are divided among threads.

use rayon::prelude::*;

use crate::NeighborLists;
use crate::kernel::ROWS;
use crate::kernel::simd::{Kernel, Real, Simd};
use crate::kernel::sums::{of_image, sum_neighbors};
use crate::points::Slots;

/// `[B,Q,C]` from `feat [B,N,C]` and `weights [B,Q,M]`.
pub(crate) fn forward<T: Real>(
    feat: &[T],
    weights: &[T],
    channels: usize,
    neighbors: &NeighborLists,
) -> Vec<T> {
    let mut out = vec![T::zero(); neighbors.batch() * neighbors.queries() * channels];
    if !out.is_empty() {
        out.par_chunks_mut(ROWS * channels).enumerate().for_each(|(chunk, out)| {
            T::dispatch(Rows { feat, weights, channels, neighbors, first: chunk * ROWS, out });
        });
    }
    out
}

struct Rows<'a, T> {
    feat: &'a [T],
    weights: &'a [T],
    channels: usize,
    neighbors: &'a NeighborLists,
    first: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let slots = self.neighbors.slots();
        let mut keys = Vec::with_capacity(slots);
        for (row, out) in (self.first..).zip(self.out.chunks_exact_mut(self.channels)) {
            self.neighbors.keys_of(row, &mut keys);
            let feat = of_image(self.feat, self.neighbors, self.channels, row);
            sum_neighbors(simd, feat, &keys, &self.weights[row * slots..][..slots], 1, out);
        }
    }
}
