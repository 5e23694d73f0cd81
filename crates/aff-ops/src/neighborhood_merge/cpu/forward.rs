//! The forward pass: per query the weights of its neighbours, then their weighted sums. Only the weights of one query are held at a
//! time.

use rayon::prelude::*;

use super::{Shared, View};
use crate::kernel::ROWS;
use crate::kernel::simd::{Kernel, Real, Simd};
use crate::kernel::sums::{of_image, sum_neighbors};

/// `[B,Q,W*C]`
pub(crate) fn forward<T: Real>(shared: Shared<'_, T>) -> Vec<T> {
    let width = shared.net.width() * shared.sizes.channels;
    let mut out = vec![T::zero(); shared.sizes.batch * shared.sizes.queries * width];
    if !out.is_empty() {
        out.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, out)| {
            T::dispatch(Forward { shared, first: chunk * ROWS, out });
        });
    }
    out
}

struct Forward<'a, T> {
    shared: Shared<'a, T>,
    /// First of the queries of `out`, counted over all images.
    first: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let shared = &self.shared;
        let sums = shared.net.width();
        let mut view = View::new(shared);
        for (row, out) in (self.first..).zip(self.out.chunks_exact_mut(sums * shared.sizes.channels)) {
            view.look(simd, shared, row);
            let feat = of_image(shared.feat, shared.neighborhood, shared.sizes.channels, row);
            sum_neighbors(simd, feat, &view.keys, &view.weights, sums, out);
        }
    }
}
