//! Weighted sums of neighbours: what merging and interpolation share.
//!
//! W sums of the same neighbours at once: weights are `[slots, W]`, sums `[W, C]`.

use rayon::prelude::*;

use super::simd::{Kernel, LANES, Real, Simd, add_scaled, dot};
use crate::points::{EMPTY, Slots};

/// Channels that a task of the backward pass takes.
const CHANNELS: usize = 32;

/// `out[w] = sum_j weights[j][w] feat[keys[j]]`. Slots that are [`EMPTY`] count nothing.
#[inline(always)]
pub(crate) fn sum_neighbors<T: Real, S: Simd<T>>(
    simd: S,
    feat: &[T],
    keys: &[u32],
    weights: &[T],
    sums: usize,
    out: &mut [T],
) {
    let channels = out.len() / sums;
    if sums == 4 {
        let whole = channels / LANES * LANES;
        let mut start = 0;
        while start < whole {
            if start + 2 * LANES <= whole {
                sum_four::<T, S, 2>(simd, feat, keys, weights, (start, channels), out);
                start += 2 * LANES;
            } else {
                sum_four::<T, S, 1>(simd, feat, keys, weights, (start, channels), out);
                start += LANES;
            }
        }
        for (sum, out) in out.chunks_exact_mut(channels).enumerate() {
            for (c, out) in out.iter_mut().enumerate().skip(whole) {
                let of = |(&key, weights): (&u32, &[T])| weights[sum] * feat[key as usize * channels + c];
                *out =
                    keys.iter().zip(weights.chunks_exact(4)).filter(|(key, _)| **key != EMPTY).map(of).sum();
            }
        }
        return;
    }
    out.fill(T::zero());
    for (&key, weights) in keys.iter().zip(weights.chunks_exact(sums)) {
        if key == EMPTY {
            continue;
        }
        let row = &feat[key as usize * channels..][..channels];
        for (&weight, out) in weights.iter().zip(out.chunks_exact_mut(channels)) {
            add_scaled(simd, weight, row, out);
        }
    }
}

/// Four sums of `V` vectors of channels from `start`, kept in registers.
#[inline(always)]
fn sum_four<T: Real, S: Simd<T>, const V: usize>(
    simd: S,
    feat: &[T],
    keys: &[u32],
    weights: &[T],
    (start, channels): (usize, usize),
    out: &mut [T],
) {
    let mut sums = [[simd.splat(T::zero()); V]; 4];
    for (&key, weights) in keys.iter().zip(weights.as_chunks::<4>().0) {
        if key == EMPTY {
            continue;
        }
        let row = feat[key as usize * channels + start..][..V * LANES].as_chunks::<LANES>().0;
        for v in 0..V {
            let row = simd.vector(row[v]);
            for (sums, &weight) in sums.iter_mut().zip(weights) {
                sums[v] = simd.mul_add(simd.splat(weight), row, sums[v]);
            }
        }
    }
    for (sum, sums) in sums.into_iter().enumerate() {
        let out = out[sum * channels + start..][..V * LANES].as_chunks_mut::<LANES>().0;
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = simd.array(sum);
        }
    }
}

/// `grads[j][w] = grad[w] . feat[keys[j]]`: gradients of the weights; 0 for [`EMPTY`] slots.
#[inline(always)]
pub(crate) fn weight_gradients<T: Real, S: Simd<T>>(
    simd: S,
    feat: &[T],
    keys: &[u32],
    grad: &[T],
    sums: usize,
    grads: &mut [T],
) {
    let channels = grad.len() / sums;
    for (&key, grads) in keys.iter().zip(grads.chunks_exact_mut(sums)) {
        if key == EMPTY {
            grads.fill(T::zero());
            continue;
        }
        let row = &feat[key as usize * channels..][..channels];
        for (slot, grad) in grads.iter_mut().zip(grad.chunks_exact(channels)) {
            *slot = dot(simd, grad, row);
        }
    }
}

/// Gradient of the features, `[B,N,C]`: every neighbour gets its weights' share of the gradients of the sums.
///
/// Threads divide the channels, so that no two of them add to the same number.
pub(crate) fn feat_gradients<T: Real>(
    neighborhood: &(impl Slots + Sync),
    weights: &[T],
    grad: &[T],
    channels: usize,
    sums: usize,
) -> Vec<T> {
    let (batch, keys) = (neighborhood.batch(), neighborhood.keys());
    let parts = channels.div_ceil(CHANNELS);
    let part = |task: usize| {
        let (image, first) = (task / parts, task % parts * CHANNELS);
        let width = CHANNELS.min(channels - first);
        let mut out = vec![T::zero(); keys * width];
        T::dispatch(Scatter {
            neighborhood,
            weights,
            grad,
            channels,
            sums,
            image,
            first,
            width,
            out: &mut out,
        });
        out
    };
    let done: Vec<Vec<T>> = (0..batch * parts).into_par_iter().map(part).collect();
    let mut out = vec![T::zero(); batch * keys * channels];
    if channels > 0 {
        out.par_chunks_exact_mut(channels).enumerate().for_each(|(row, out)| {
            let (image, key) = (row / keys, row % keys);
            for (out, part) in out.chunks_mut(CHANNELS).zip(&done[image * parts..]) {
                let width = out.len();
                out.copy_from_slice(&part[key * width..][..width]);
            }
        });
    }
    out
}

struct Scatter<'a, T, N> {
    neighborhood: &'a N,
    /// `[B,Q,M,W]`
    weights: &'a [T],
    /// `[B,Q,W,C]`
    grad: &'a [T],
    channels: usize,
    sums: usize,
    image: usize,
    /// The channels from `first`, `width` of them.
    first: usize,
    width: usize,
    /// `[N,width]`
    out: &'a mut [T],
}

impl<T: Real, N: Slots> Kernel<T> for Scatter<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { neighborhood, channels, sums, width, .. } = self;
        let (queries, slots) = (neighborhood.queries(), neighborhood.slots());
        let mut keys = Vec::with_capacity(slots);
        for query in 0..queries {
            let row = self.image * queries + query;
            neighborhood.keys_of(row, &mut keys);
            let grad = &self.grad[row * sums * channels..][..sums * channels];
            let weights = &self.weights[row * slots * sums..][..slots * sums];
            for (&key, weights) in keys.iter().zip(weights.chunks_exact(sums)) {
                if key == EMPTY {
                    continue;
                }
                let out = &mut self.out[key as usize * width..][..width];
                for (&weight, grad) in weights.iter().zip(grad.chunks_exact(channels)) {
                    add_scaled(simd, weight, &grad[self.first..][..width], out);
                }
            }
        }
    }
}

/// The features of the image that a query, counted over all images, is of.
#[inline(always)]
pub(crate) fn of_image<'a, T>(
    feat: &'a [T],
    neighborhood: &impl Slots,
    channels: usize,
    row: usize,
) -> &'a [T] {
    let size = neighborhood.keys() * channels;
    &feat[row / neighborhood.queries() * size..][..size]
}
