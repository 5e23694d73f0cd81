//! The forward pass: for each query and head the weighted sum of the values it reads.

use rayon::prelude::*;

use super::{Sample, Shared};
use crate::deformable_gather::Sizes;
use crate::kernel::simd::{Kernel, LANES, Real, Simd};

/// Queries that a thread takes at a time.
const QUERIES: usize = 32;

/// `[B,Q,C]`
pub(crate) fn forward<T: Real>(shared: Shared<'_, T>) -> Vec<T> {
    let Sizes { batch, queries, channels, .. } = shared.sizes;
    let mut out = vec![T::zero(); batch * queries * channels];
    if !out.is_empty() {
        out.par_chunks_mut(QUERIES * channels).enumerate().for_each(|(chunk, out)| {
            T::dispatch(Forward { shared, first: chunk * QUERIES, out });
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
        let Sizes { queries, channels, heads, tokens, .. } = shared.sizes;
        let width = channels / heads;
        let mut sample = Sample::new();
        for (row, out) in (self.first..).zip(self.out.chunks_exact_mut(channels)) {
            let value = &shared.value[row / queries * tokens * channels..][..tokens * channels];
            for (head, out) in out.chunks_exact_mut(width).enumerate() {
                sample.look(simd, shared, row * heads + head);
                let (whole, rest) = out.as_chunks_mut::<LANES>();
                let mut at = head * width;
                for now in whole.chunks_mut(4) {
                    match now.len() {
                        4 => sum_values::<T, S, 4>(simd, &sample, value, (channels, at), now),
                        3 => sum_values::<T, S, 3>(simd, &sample, value, (channels, at), now),
                        2 => sum_values::<T, S, 2>(simd, &sample, value, (channels, at), now),
                        _ => sum_values::<T, S, 1>(simd, &sample, value, (channels, at), now),
                    }
                    at += now.len() * LANES;
                }
                for (channel, out) in rest.iter_mut().enumerate() {
                    let of = |(&token, &factor): (&u32, &T)| {
                        factor * value[token as usize * channels + at + channel]
                    };
                    *out = sample.tokens.iter().zip(&sample.factors).map(of).sum();
                }
            }
        }
    }
}

/// `sum_slots factor value` for `V` vectors of channels from `offset`.
#[inline(always)]
fn sum_values<T: Real, S: Simd<T>, const V: usize>(
    simd: S,
    sample: &Sample<T>,
    value: &[T],
    (channels, offset): (usize, usize),
    out: &mut [[T; LANES]],
) {
    let mut sums = [simd.splat(T::zero()); V];
    for (&token, &factor) in sample.tokens.iter().zip(&sample.factors) {
        let row = value[token as usize * channels + offset..][..V * LANES].as_chunks::<LANES>().0;
        let factor = simd.splat(factor);
        for v in 0..V {
            sums[v] = simd.mul_add(factor, simd.vector(row[v]), sums[v]);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = simd.array(sum);
    }
}
