//! Merging on the CPU: the neighbours of a query and their weights, for the forward and the backward pass.

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;

use super::{EPS, Sizes};
use crate::kernel::simd::{LANES, Real, Simd};
use crate::layers::gelu_lanes;
use crate::points::{EMPTY, Slots, feature_lanes};
use crate::{Neighborhood, Offset, Positions};

/// The small network that makes weights of relative positions; its parameters travel as one tensor `[5W + W + W + W]`.
#[derive(Clone, Copy)]
pub(super) struct WeightNet<'a, T> {
    /// `[W,5]`
    pub(super) linear_weight: &'a [T],
    pub(super) linear_bias: &'a [T],
    pub(super) norm_weight: &'a [T],
    pub(super) norm_bias: &'a [T],
}

impl<'a, T: Real> WeightNet<'a, T> {
    pub(super) fn split(all: &'a [T]) -> Self {
        let width = all.len() / 8;
        let (linear_weight, rest) = all.split_at(5 * width);
        let (linear_bias, rest) = rest.split_at(width);
        let (norm_weight, norm_bias) = rest.split_at(width);
        Self { linear_weight, linear_bias, norm_weight, norm_bias }
    }

    fn width(&self) -> usize {
        self.linear_bias.len()
    }

    /// The linear layer, normalised but not yet scaled, for [`LANES`] neighbours; returns the reciprocal standard deviation.
    #[inline(always)]
    fn normalised<S: Simd<T>>(
        &self,
        simd: S,
        features: &[S::Vector; 5],
        out: &mut [[T; LANES]],
    ) -> S::Vector {
        let count = simd.splat(T::of(self.width() as f64).recip());
        let mut mean = simd.splat(T::zero());
        for (w, out) in out.iter_mut().enumerate() {
            let mut value = simd.splat(self.linear_bias[w]);
            for (feature, &weight) in features.iter().zip(&self.linear_weight[5 * w..5 * w + 5]) {
                value = simd.mul_add(simd.splat(weight), *feature, value);
            }
            mean = simd.add(mean, value);
            *out = simd.array(value);
        }
        mean = simd.mul(mean, count);
        let mut variance = simd.splat(T::zero());
        for out in &mut *out {
            let centred = simd.sub(simd.vector(*out), mean);
            variance = simd.mul_add(centred, centred, variance);
            *out = simd.array(centred);
        }
        let deviation = simd.sqrt(simd.mul_add(variance, count, simd.splat(T::of(EPS))));
        let scale = simd.div(simd.splat(T::one()), deviation);
        for out in out {
            *out = simd.array(simd.mul(simd.vector(*out), scale));
        }
        scale
    }
}

/// Everything that the kernels of all threads share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a, T> {
    /// `[B,N,C]`
    pub(super) feat: &'a [T],
    /// `[B,N]`
    pub(super) score: &'a [T],
    pub(super) net: WeightNet<'a, T>,
    pub(super) sizes: Sizes,
    pub(super) queries: &'a Positions,
    pub(super) keys: &'a Positions,
    pub(super) neighborhood: &'a Neighborhood,
    pub(super) offset: Offset,
}

/// What one query merges: kept between queries to save allocations.
struct View<T> {
    keys: Vec<u32>,
    /// Weights without and with the score, `[M,W]`.
    plain: Vec<T>,
    weights: Vec<T>,
    /// `[W][LANES]`
    lanes: Vec<[T; LANES]>,
}

impl<T: Real> View<T> {
    fn new(shared: &Shared<'_, T>) -> Self {
        let (slots, width) = (shared.neighborhood.slots(), shared.net.width());
        Self {
            keys: Vec::with_capacity(slots),
            plain: vec![T::zero(); slots * width],
            weights: vec![T::zero(); slots * width],
            lanes: vec![[T::zero(); LANES]; width],
        }
    }

    /// The features of the relative positions of the slots from `first`, at most [`LANES`] of them; zero for empty ones.
    #[inline(always)]
    fn features<S: Simd<T>>(
        &self,
        simd: S,
        shared: &Shared<'_, T>,
        row: usize,
        first: usize,
    ) -> [S::Vector; 5] {
        let image = shared.keys.image(row / shared.sizes.queries);
        let [x, y] = shared.queries.as_slice()[row];
        let (mut dx, mut dy) = ([T::zero(); LANES], [T::zero(); LANES]);
        for (lane, &key) in self.keys[first..].iter().take(LANES).enumerate() {
            if key != EMPTY {
                let [key_x, key_y] = image[key as usize];
                dx[lane] = T::of(f64::from(key_x - x));
                dy[lane] = T::of(f64::from(key_y - y));
            }
        }
        let sign = match shared.offset {
            Offset::ToNeighbor => T::one(),
            Offset::ToQuery => -T::one(),
        };
        let [dx, dy] = [dx, dy].map(|d| simd.mul(simd.splat(sign), simd.vector(d)));
        feature_lanes(simd, dx, dy)
    }

    /// Turns to a query: its keys and their weights. `row` counts over all images.
    #[inline(always)]
    fn look<S: Simd<T>>(&mut self, simd: S, shared: &Shared<'_, T>, row: usize) {
        shared.neighborhood.keys_of(row, &mut self.keys);
        let width = shared.net.width();
        let score = &shared.score[row / shared.sizes.queries * shared.sizes.keys..];
        for first in (0..self.keys.len()).step_by(LANES) {
            let features = self.features(simd, shared, row, first);
            let mut lanes = std::mem::take(&mut self.lanes);
            shared.net.normalised(simd, &features, &mut lanes);
            for (w, lanes) in lanes.iter_mut().enumerate() {
                let scaled = simd.mul_add(
                    simd.vector(*lanes),
                    simd.splat(shared.net.norm_weight[w]),
                    simd.splat(shared.net.norm_bias[w]),
                );
                *lanes = simd.array(gelu_lanes(simd, scaled));
            }
            for (lane, &key) in self.keys[first..].iter().take(LANES).enumerate() {
                let slot = (first + lane) * width;
                let score = if key == EMPTY { T::zero() } else { score[key as usize] };
                for (w, lanes) in lanes.iter().enumerate() {
                    self.plain[slot + w] = lanes[lane];
                    self.weights[slot + w] = lanes[lane] * score;
                }
            }
            self.lanes = lanes;
        }
    }
}
