//! Deformable gather on the CPU: for each query and head the tokens it reads and their shares, then the weighted sum of the values.

use rayon::prelude::*;

use super::{CanvasLookup, Sizes};
use crate::shepard::DISTANCE_FLOOR;
use crate::simd::{Kernel, LANES, Real, Simd};

/// Queries that a thread takes at a time.
const QUERIES: usize = 32;
/// Least squared distance whose logarithm is taken; its powers vanish beside [`DISTANCE_FLOOR`].
pub(super) const LEAST_SQUARED_DISTANCE: f64 = 1e-20;

/// Everything that the kernels of all threads share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a, T> {
    /// `[B,N,C]`
    pub(super) value: &'a [T],
    /// `[B,Q,H,L,P,2]`
    pub(super) locations: &'a [T],
    /// `[B,Q,H,L,P]`
    pub(super) weights: &'a [T],
    pub(super) power: T,
    pub(super) sizes: Sizes,
    pub(super) levels: &'a [CanvasLookup],
}

/// What a query and head read: slots of k tokens for each location, location after location. Kept to save allocations.
pub(super) struct Sample<T> {
    /// Tokens, counted over all levels of the image.
    pub(super) tokens: Vec<u32>,
    /// First slot of each location, and the end of the last.
    pub(super) starts: Vec<usize>,
    /// Location minus token.
    pub(super) dx: Vec<T>,
    pub(super) dy: Vec<T>,
    /// `ln max(d^2, floor)`
    pub(super) logarithm: Vec<T>,
    /// `u = 1 / (d^(2 power) + floor)`
    pub(super) inverse: Vec<T>,
    /// `u` as a share of its location's sum.
    pub(super) shares: Vec<T>,
    /// Shares times the location's weight.
    pub(super) factors: Vec<T>,
}

impl<T: Real> Sample<T> {
    pub(super) fn new() -> Self {
        let empty = Vec::new;
        Self {
            tokens: Vec::new(),
            starts: Vec::new(),
            dx: empty(),
            dy: empty(),
            logarithm: empty(),
            inverse: empty(),
            shares: empty(),
            factors: empty(),
        }
    }

    /// Turns to a query and head; `place` is their index in `[B,Q,H]`.
    #[inline(always)]
    pub(super) fn look<S: Simd<T>>(&mut self, simd: S, shared: &Shared<'_, T>, place: usize) {
        let Sizes { queries, heads, points, .. } = shared.sizes;
        let image = place / (queries * heads);
        let count = shared.levels.len() * points;
        self.tokens.clear();
        self.starts.clear();
        self.dx.clear();
        self.dy.clear();
        let locations = shared.locations[place * count * 2..][..count * 2].as_chunks::<2>().0;
        let mut first_token = 0;
        for (level, locations) in shared.levels.iter().zip(locations.chunks_exact(points)) {
            let positions = level.positions().image(image);
            for &[x, y] in locations {
                self.starts.push(self.tokens.len());
                for &token in level.nearest(image, [x.to_f64(), y.to_f64()]) {
                    let [token_x, token_y] = positions[token as usize];
                    self.tokens.push(first_token + token);
                    self.dx.push(x - T::of(f64::from(token_x)));
                    self.dy.push(y - T::of(f64::from(token_y)));
                }
            }
            first_token += level.tokens() as u32;
        }
        self.starts.push(self.tokens.len());
        self.fill_inverse(simd, shared.power);

        self.shares.clear();
        self.factors.clear();
        let weights = &shared.weights[place * count..][..count];
        for (range, &weight) in self.starts.windows(2).zip(weights) {
            let inverse = &self.inverse[range[0]..range[1]];
            let total = inverse.iter().fold(T::zero(), |total, &value| total + value).recip();
            self.shares.extend(inverse.iter().map(|&value| value * total));
            self.factors.extend(inverse.iter().map(|&value| value * total * weight));
        }
    }

    #[inline(always)]
    fn fill_inverse<S: Simd<T>>(&mut self, simd: S, power: T) {
        let floor = simd.splat(T::of(DISTANCE_FLOOR));
        self.logarithm.clear();
        self.inverse.clear();
        for (dx, dy) in self.dx.chunks(LANES).zip(self.dy.chunks(LANES)) {
            let [x, y] = [dx, dy].map(|d| simd.load_part(d, T::one()));
            let squared = simd.mul_add(x, x, simd.mul(y, y));
            let logarithm = simd.ln(simd.max(squared, simd.splat(T::of(LEAST_SQUARED_DISTANCE))));
            let raised = simd.exp(simd.mul(simd.splat(power), logarithm));
            let inverse = simd.div(simd.splat(T::one()), simd.add(raised, floor));
            self.logarithm.extend_from_slice(&simd.array(logarithm)[..dx.len()]);
            self.inverse.extend_from_slice(&simd.array(inverse)[..dx.len()]);
        }
    }
}

/// `[B,Q,C]`
pub(super) fn forward<T: Real>(shared: Shared<'_, T>) -> Vec<T> {
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
                for (place, out) in rest.iter_mut().enumerate() {
                    let of = |(&token, &factor): (&u32, &T)| {
                        factor * value[token as usize * channels + at + place]
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
