//! The backward pass: the gradient of the features key by key, that of the weights query by query.

use rayon::prelude::*;

use crate::NeighborLists;
use crate::kernel::ROWS;
use crate::kernel::simd::{Kernel, Real, Simd};
use crate::kernel::sums::{feat_gradients, of_image, weight_gradients};
use crate::points::Slots;

/// Gradients of `feat [B,N,C]` and of `weights [B,Q,M]`, given `grad [B,Q,C]`.
pub(crate) fn backward<T: Real>(
    feat: &[T],
    weights: &[T],
    grad: &[T],
    channels: usize,
    neighbors: &NeighborLists,
) -> [Vec<T>; 2] {
    [feat_gradients(neighbors, weights, grad, channels, 1), weights_backward(feat, grad, channels, neighbors)]
}

/// Gradient of the weights, `[B,Q,M]`.
fn weights_backward<T: Real>(feat: &[T], grad: &[T], channels: usize, neighbors: &NeighborLists) -> Vec<T> {
    let slots = neighbors.slots();
    let mut out = vec![T::zero(); neighbors.batch() * neighbors.queries() * slots];
    if channels > 0 && !out.is_empty() {
        out.par_chunks_mut(ROWS * slots).enumerate().for_each(|(chunk, out)| {
            T::dispatch(WeightRows { feat, grad, channels, neighbors, first: chunk * ROWS, out });
        });
    }
    out
}

struct WeightRows<'a, T> {
    feat: &'a [T],
    grad: &'a [T],
    channels: usize,
    neighbors: &'a NeighborLists,
    first: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for WeightRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let slots = self.neighbors.slots();
        let mut keys = Vec::with_capacity(slots);
        for (row, out) in (self.first..).zip(self.out.chunks_exact_mut(slots)) {
            self.neighbors.keys_of(row, &mut keys);
            let feat = of_image(self.feat, self.neighbors, self.channels, row);
            weight_gradients(simd, feat, &keys, &self.grad[row * self.channels..][..self.channels], 1, out);
        }
    }
}
