//! Deformable gather on the CPU: the tokens that a query and head read and their shares, for the forward and the backward pass.

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;

use super::{LEAST_SQUARED_DISTANCE, Sizes};
use crate::CanvasLookup;
use crate::kernel::simd::{LANES, Real, Simd};
use crate::shepard::DISTANCE_FLOOR;

/// Everything that the kernels of all threads share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a, T> {
    /// `[B,N,C]`
    pub(super) value: &'a [T],
    /// Location and weight, `[B,Q,H,L,P][3]`.
    pub(super) samples: &'a [[T; 3]],
    pub(super) power: T,
    pub(super) sizes: Sizes,
    pub(super) levels: &'a [CanvasLookup],
}

/// What a query and head read: slots of k tokens for each location, location after location. Kept to save allocations.
struct Sample<T> {
    /// Tokens, counted over all levels of the image.
    tokens: Vec<u32>,
    /// First slot of each location, and the end of the last.
    starts: Vec<usize>,
    /// Location minus token.
    dx: Vec<T>,
    dy: Vec<T>,
    /// `ln max(d^2, floor)`
    logarithm: Vec<T>,
    /// `u = 1 / (d^(2 power) + floor)`
    inverse: Vec<T>,
    /// `u` as a share of its location's sum.
    shares: Vec<T>,
    /// Shares times the location's weight.
    factors: Vec<T>,
}

impl<T: Real> Sample<T> {
    fn new() -> Self {
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

    /// Turns to a query and head; `row` is their index in `[B,Q,H]`.
    #[inline(always)]
    fn look<S: Simd<T>>(&mut self, simd: S, shared: &Shared<'_, T>, row: usize) {
        let Sizes { queries, heads, points, .. } = shared.sizes;
        let image = row / (queries * heads);
        let count = shared.levels.len() * points;
        self.tokens.clear();
        self.starts.clear();
        self.dx.clear();
        self.dy.clear();
        let samples = &shared.samples[row * count..][..count];
        let mut first_token = 0;
        for (level, samples) in shared.levels.iter().zip(samples.chunks_exact(points)) {
            let positions = level.positions().image(image);
            for &[x, y, _] in samples {
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
        for (range, &[_, _, weight]) in self.starts.windows(2).zip(samples) {
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
