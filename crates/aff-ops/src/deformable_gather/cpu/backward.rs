//! The backward pass.
//!
//! With shares `s_t = u_t / sum u`, `u = 1 / (e + floor)`, `e = (d^2)^power` and `g` the gradient of a query's output,
//!
//! ```text
//! dvalue_t += weight s_t g        dweight = sum_t s_t (g . x_t)        ds_t = weight (g . x_t)
//! du_t = (ds_t - sum_r s_r ds_r) / sum u        de_t = -u_t^2 du_t
//! dpower += de_t e_t ln d^2        dlocation += de_t e_t power / d^2 * 2 (location - p_t)
//! ```
//!
//! Each image and head is a task of its own, so that no two threads add to the same number and sums have one order.

use rayon::prelude::*;

use super::{Sample, Shared};
use crate::deformable_gather::{LEAST_SQUARED_DISTANCE, Sizes};
use crate::kernel::simd::{Kernel, Real, Simd, add_scaled, dot};
use crate::shepard::DISTANCE_FLOOR;

/// Gradients in the shapes of the inputs.
pub(crate) struct Gradients<T> {
    pub(crate) value: Vec<T>,
    /// Of locations and weights together: `[B,Q,H,L,P,3]`.
    pub(crate) samples: Vec<[T; 3]>,
    pub(crate) power: T,
}

pub(crate) fn backward<T: Real>(shared: Shared<'_, T>, grad: &[T]) -> Gradients<T> {
    let Sizes { batch, queries, tokens, channels, heads, points } = shared.sizes;
    let width = channels / heads;
    let count = shared.levels.len() * points;
    let tasks: Vec<HeadGradients<T>> = (0..batch * heads)
        .into_par_iter()
        .map(|task| T::dispatch(Backward { shared, grad, image: task / heads, head: task % heads }))
        .collect();

    let mut value = vec![T::zero(); batch * tokens * channels];
    if channels > 0 {
        value.par_chunks_exact_mut(channels).enumerate().for_each(|(row, value)| {
            let (image, token) = (row / tokens, row % tokens);
            for (head, value) in value.chunks_exact_mut(width).enumerate() {
                value.copy_from_slice(&tasks[image * heads + head].value[token * width..][..width]);
            }
        });
    }
    let mut samples = Vec::with_capacity(batch * queries * heads * count);
    for image in 0..batch {
        for query in 0..queries {
            for head in 0..heads {
                samples.extend_from_slice(&tasks[image * heads + head].samples[query * count..][..count]);
            }
        }
    }
    let power = tasks.iter().fold(T::zero(), |total, task| total + task.power);
    Gradients { value, samples, power }
}

/// What a head of an image adds.
struct HeadGradients<T> {
    /// `[N,D]`
    value: Vec<T>,
    /// `[Q,L,P,3]`
    samples: Vec<[T; 3]>,
    power: T,
}

struct Backward<'a, T> {
    shared: Shared<'a, T>,
    grad: &'a [T],
    image: usize,
    head: usize,
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Output = HeadGradients<T>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> HeadGradients<T> {
        let Self { shared, image, head, .. } = &self;
        let Sizes { queries, tokens, channels, heads, points, .. } = shared.sizes;
        let (image, head, width) = (*image, *head, channels / heads);
        let count = shared.levels.len() * points;
        let value = &shared.value[image * tokens * channels..][..tokens * channels];
        let (floor, least) = (T::of(DISTANCE_FLOOR), T::of(LEAST_SQUARED_DISTANCE));
        let mut gradients = HeadGradients {
            value: vec![T::zero(); tokens * width],
            samples: Vec::with_capacity(queries * count),
            power: T::zero(),
        };
        let mut sample = Sample::new();
        let mut products = Vec::new();
        for query in 0..queries {
            let row = (image * queries + query) * heads + head;
            let grad = &self.grad[row * width..][..width];
            sample.look(simd, shared, row);
            products.clear();
            for (&token, &factor) in sample.tokens.iter().zip(&sample.factors) {
                let value = &value[token as usize * channels + head * width..][..width];
                products.push(dot(simd, grad, value));
                add_scaled(simd, factor, grad, &mut gradients.value[token as usize * width..][..width]);
            }
            let samples = &shared.samples[row * count..][..count];
            for (range, &[_, _, weight]) in sample.starts.windows(2).zip(samples) {
                let slots = range[0]..range[1];
                let total = sample.inverse[slots.clone()].iter().fold(T::zero(), |total, &u| total + u);
                let mean =
                    slots.clone().fold(T::zero(), |mean, slot| mean + sample.shares[slot] * products[slot]);
                let mut grads = [T::zero(), T::zero(), mean];
                for slot in slots {
                    let inverse = sample.inverse[slot];
                    let grad_inverse = weight * (products[slot] - mean) / total;
                    // u = 1 / (e + floor), so that e = 1 / u - floor.
                    let raised = (inverse.recip() - floor).greater(T::zero());
                    let slope = T::zero() - inverse * inverse * grad_inverse * raised;
                    gradients.power += slope * sample.logarithm[slot];
                    let (dx, dy) = (sample.dx[slot], sample.dy[slot]);
                    let squared = dx * dx + dy * dy;
                    if squared > least {
                        let factor = T::of(2.0) * slope * shared.power / squared;
                        grads[0] += factor * dx;
                        grads[1] += factor * dy;
                    }
                }
                gradients.samples.push(grads);
            }
        }
        gradients
    }
}
