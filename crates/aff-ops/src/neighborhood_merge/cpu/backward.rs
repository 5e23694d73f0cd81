//! The backward pass.
//!
//! First, query by query, from the gradients of the sums to those of the weights and back through the weight network; then the
//! features, whose gradients threads add up channel by channel.

use rayon::prelude::*;

use super::{Shared, View};
use crate::kernel::ROWS;
use crate::kernel::simd::{Kernel, LANES, Real, Simd, sum};
use crate::kernel::sums::{feat_gradients, of_image, weight_gradients};
use crate::layers::gelu_slope_lanes;
use crate::points::{EMPTY, Slots};

/// Gradients in the shapes of the inputs.
pub(crate) struct Gradients<T> {
    pub(crate) feat: Vec<T>,
    pub(crate) score: Vec<T>,
    /// `[5W + W + W + W]`
    pub(crate) net: Vec<T>,
}

pub(crate) fn backward<T: Real>(shared: Shared<'_, T>, grad: &[T]) -> Gradients<T> {
    let (slots, width) = (shared.neighborhood.slots(), shared.net.width());
    let rows = shared.sizes.batch * shared.sizes.queries;
    let mut weights = vec![T::zero(); rows * slots * width];
    let mut slot_scores = vec![T::zero(); rows * slots];
    let mut net = vec![T::zero(); 8 * width];
    if !weights.is_empty() {
        let parts: Vec<Vec<T>> = weights
            .par_chunks_mut(ROWS * slots * width)
            .zip(slot_scores.par_chunks_mut(ROWS * slots))
            .enumerate()
            .map(|(chunk, (weights, slot_scores))| {
                T::dispatch(Backward { shared, grad, first: chunk * ROWS, weights, slot_scores })
            })
            .collect();
        for part in parts {
            net.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
    let mut score = vec![T::zero(); shared.score.len()];
    let mut keys = Vec::with_capacity(slots);
    for (row, slot_scores) in slot_scores.chunks_exact(slots.max(1)).enumerate() {
        shared.neighborhood.keys_of(row, &mut keys);
        let score = &mut score[row / shared.sizes.queries * shared.sizes.keys..];
        for (&key, &grad) in keys.iter().zip(slot_scores).filter(|(key, _)| **key != EMPTY) {
            score[key as usize] += grad;
        }
    }
    let feat = feat_gradients(shared.neighborhood, &weights, grad, shared.sizes.channels, width);
    Gradients { feat, score, net }
}

struct Backward<'a, T> {
    shared: Shared<'a, T>,
    /// `[B,Q,W,C]`
    grad: &'a [T],
    first: usize,
    /// `[rows,M,W]`, filled with the weights.
    weights: &'a mut [T],
    /// `[rows,M]`, filled with the gradients of the scores.
    slot_scores: &'a mut [T],
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    /// Gradients of the weight network.
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Vec<T> {
        let shared = &self.shared;
        let (slots, width) = (shared.neighborhood.slots(), shared.net.width());
        let channels = shared.sizes.channels;
        let zero = simd.splat(T::zero());
        let mut sums = NetSums { linear: vec![[zero; 6]; width], norm: vec![[zero; 2]; width] };
        let mut view = View::new(shared);
        let mut grads = vec![T::zero(); slots * width];
        let rows = self.weights.chunks_exact_mut(slots * width).zip(self.slot_scores.chunks_exact_mut(slots));
        for (row, (weights, slot_scores)) in (self.first..).zip(rows) {
            view.look(simd, shared, row);
            weights.copy_from_slice(&view.weights);
            let feat = of_image(shared.feat, shared.neighborhood, channels, row);
            let grad = &self.grad[row * width * channels..][..width * channels];
            weight_gradients(simd, feat, &view.keys, grad, width, &mut grads);

            let score = &shared.score[row / shared.sizes.queries * shared.sizes.keys..];
            let plain = view.plain.chunks_exact(width).zip(grads.chunks_exact_mut(width));
            for ((slot_score, &key), (plain, grads)) in slot_scores.iter_mut().zip(&view.keys).zip(plain) {
                *slot_score = plain.iter().zip(&*grads).map(|(&plain, &grad)| plain * grad).sum();
                let score = if key == EMPTY { T::zero() } else { score[key as usize] };
                grads.iter_mut().for_each(|grad| *grad *= score);
            }
            for first in (0..slots).step_by(LANES) {
                sums.add(simd, shared, &mut view, row, first, &grads);
            }
        }
        let mut net = Vec::with_capacity(8 * width);
        net.extend(sums.linear.iter().flat_map(|sums| sums[..5].iter()).map(|&lanes| sum(simd, lanes)));
        net.extend(sums.linear.iter().map(|sums| sum(simd, sums[5])));
        net.extend(sums.norm.iter().map(|sums| sum(simd, sums[0])));
        net.extend(sums.norm.iter().map(|sums| sum(simd, sums[1])));
        net
    }
}

/// Sums of the gradients of the weight network, lane by lane.
struct NetSums<V> {
    /// For each weight channel, of the five features and of the bias.
    linear: Vec<[V; 6]>,
    /// For each weight channel, of the norm's weight and bias.
    norm: Vec<[V; 2]>,
}

impl<V: Copy> NetSums<V> {
    /// Adds the slots from `first`, given the gradients `[M,W]` of the network's output.
    #[inline(always)]
    fn add<T: Real, S: Simd<T, Vector = V>>(
        &mut self,
        simd: S,
        shared: &Shared<'_, T>,
        view: &mut View<T>,
        row: usize,
        first: usize,
        grads: &[T],
    ) {
        let width = shared.net.width();
        let features = view.features(simd, shared, row, first);
        let normal = &mut view.lanes;
        let scale = shared.net.normalised(simd, &features, normal);
        let count = simd.splat(T::of(width as f64).recip());
        // Gradients of the normalised values, then of what was normalised.
        let (mut mean, mut mean_product) = (simd.splat(T::zero()), simd.splat(T::zero()));
        for (w, normal) in normal.iter().enumerate() {
            let normal = simd.vector(*normal);
            let (grad, of_normal) = normal_gradients(simd, shared, grads, (first, w), normal);
            self.norm[w][0] = simd.mul_add(grad, normal, self.norm[w][0]);
            self.norm[w][1] = simd.add(grad, self.norm[w][1]);
            mean = simd.mul_add(of_normal, count, mean);
            mean_product = simd.mul_add(simd.mul(of_normal, normal), count, mean_product);
        }
        for (w, normal) in normal.iter().enumerate() {
            let normal = simd.vector(*normal);
            let (_, of_normal) = normal_gradients(simd, shared, grads, (first, w), normal);
            let centred = simd.sub(simd.sub(of_normal, mean), simd.mul(normal, mean_product));
            let grad = simd.mul(centred, scale);
            for (sums, feature) in self.linear[w].iter_mut().zip(features) {
                *sums = simd.mul_add(grad, feature, *sums);
            }
            self.linear[w][5] = simd.add(grad, self.linear[w][5]);
        }
    }
}

/// Gradients after and before the scale of the norm, of weight channel `w` in the slots from `first`.
#[inline(always)]
fn normal_gradients<T: Real, S: Simd<T>>(
    simd: S,
    shared: &Shared<'_, T>,
    grads: &[T],
    (first, w): (usize, usize),
    normal: S::Vector,
) -> (S::Vector, S::Vector) {
    let (weight, bias) = (simd.splat(shared.net.norm_weight[w]), simd.splat(shared.net.norm_bias[w]));
    let slope = gelu_slope_lanes(simd, simd.mul_add(normal, weight, bias));
    let mut grad = [T::zero(); LANES];
    for (grad, grads) in grad.iter_mut().zip(grads.chunks_exact(shared.net.width()).skip(first)) {
        *grad = grads[w];
    }
    let grad = simd.mul(slope, simd.vector(grad));
    (grad, simd.mul(grad, weight))
}
