//! The backward pass. Nothing but the inputs and the output is kept from the forward pass; weights are computed again.
//!
//! With weights p of query i over its keys j (and the blank token), `g` the gradient of the output and `o` the output,
//!
//! ```text
//! ds_ij = p_ij (g_i . v_j - g_i . o_i)
//! dq_i  = D^-0.5 sum_j ds_ij k_j         dk_j += D^-0.5 ds_ij q_i         dv_j += p_ij g_i
//! dw_h += sum_ij ds_ij phi_ij            db_h += sum_ij ds_ij
//! ```
//!
//! Each image and head is a task of its own, so that no two threads add to the same number and sums have one order.

use rayon::prelude::*;

use super::blocks::{Blocks, pack, pack_positions};
use super::{Inputs, Shared, View, lane_products, weighted_rows};
use crate::cluster_attention::{AttentionGeometry, Sizes};
use crate::kernel::simd::{Kernel, LANES, Real, Simd, add_scaled, dot, sum};

/// Gradients in the shapes of the inputs.
pub(crate) struct Gradients<T> {
    pub(crate) query: Vec<T>,
    pub(crate) key_value: Vec<T>,
    /// `[5H + H + C + C]`
    pub(crate) parameters: Vec<T>,
}

pub(crate) fn backward<T: Real>(
    inputs: Inputs<'_, T>,
    sizes: Sizes,
    geometry: AttentionGeometry<'_>,
    out: &[T],
    grad: &[T],
) -> Gradients<T> {
    let Sizes { batch, tokens, channels, heads } = sizes;
    let width = channels / heads;
    let (blocks, positions) = (Blocks::new(geometry), geometry.positions);
    let keys = pack(inputs.key_value, 0, sizes, &blocks);
    let values = pack(inputs.key_value, 1, sizes, &blocks);
    let key_positions = pack_positions(positions, &blocks);
    let shared = Shared { inputs, sizes, positions, blocks, keys: &keys, key_positions: &key_positions };

    let tasks: Vec<HeadGradients<T>> = (0..batch * heads)
        .into_par_iter()
        .map(|task| {
            let (image, head) = (task / heads, task % heads);
            T::dispatch(Backward { shared, values: &values, out, grad, image, head })
        })
        .collect();

    let mut query = vec![T::zero(); batch * tokens * channels];
    let mut key_value = vec![T::zero(); 2 * query.len()];
    if !query.is_empty() {
        query
            .par_chunks_exact_mut(channels)
            .zip(key_value.par_chunks_exact_mut(2 * channels))
            .enumerate()
            .for_each(|(row, (query, key_value))| {
                let (image, token) = (row / tokens, row % tokens);
                for head in 0..heads {
                    let task = &tasks[image * heads + head];
                    query[head * width..][..width].copy_from_slice(&task.query[token * width..][..width]);
                    key_value[2 * head * width..][..2 * width]
                        .copy_from_slice(&task.key_value[token * 2 * width..][..2 * width]);
                }
            });
    }

    let mut parameters = vec![T::zero(); 6 * heads + 2 * channels];
    for (index, task) in tasks.iter().enumerate() {
        let head = index % heads;
        let parts = [
            (5 * head, &task.position_weight[..]),
            (5 * heads + head, &[task.position_bias][..]),
            (6 * heads + head * width, &task.blank_key[..]),
            (6 * heads + channels + head * width, &task.blank_value[..]),
        ];
        for (start, part) in parts {
            parameters[start..].iter_mut().zip(part).for_each(|(total, &part)| *total += part);
        }
    }
    Gradients { query, key_value, parameters }
}

/// What a head of an image adds.
struct HeadGradients<T> {
    /// `[N,D]`
    query: Vec<T>,
    /// `[N,{key,value},D]`
    key_value: Vec<T>,
    position_weight: [T; 5],
    position_bias: T,
    /// `[D]`
    blank_key: Vec<T>,
    /// `[D]`
    blank_value: Vec<T>,
}

struct Backward<'a, T> {
    shared: Shared<'a, T>,
    /// `[B, blocks, H, D, LANES]`
    values: &'a [T],
    out: &'a [T],
    grad: &'a [T],
    image: usize,
    head: usize,
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Output = HeadGradients<T>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> HeadGradients<T> {
        let Self { shared, head, image, .. } = &self;
        let Sizes { tokens, channels, heads, .. } = shared.sizes;
        let (head, width) = (*head, channels / heads);
        let scale = T::of((width as f64).powf(-0.5));
        let blank_key = &shared.inputs.parameters.blank_key[head * width..][..width];
        let blank_value = &shared.inputs.parameters.blank_value[head * width..][..width];
        let key_value = &shared.inputs.key_value[image * tokens * 2 * channels..];
        let values = &self.values[image * shared.blocks.count() * channels * LANES..];
        let zero = simd.splat(T::zero());

        let mut gradients = HeadGradients {
            query: vec![T::zero(); tokens * width],
            key_value: vec![T::zero(); tokens * 2 * width],
            position_weight: [T::zero(); 5],
            position_bias: T::zero(),
            blank_key: vec![T::zero(); width],
            blank_value: vec![T::zero(); width],
        };
        let mut position_sums = [zero; 5];
        let mut bias_sum = zero;
        let mut view = View::new(shared);
        for token in 0..tokens {
            let row = image * tokens + token;
            view.look(simd, shared, row);
            let blank = view.attend(simd, shared, row, head);
            let inverse = blank.total.recip();
            let grad = &self.grad[row * channels + head * width..][..width];
            let out = &self.out[row * channels + head * width..][..width];
            let mean = dot(simd, grad, out);

            // Values first, while the view still holds the weights.
            for (index, weights) in view.logits.iter_mut().enumerate() {
                let block = view.blocks[index] as usize;
                let (start, count) = shared.blocks.keys(block);
                let [slopes] =
                    lane_products::<T, S, 1>(simd, grad, values, [block], shared.sizes, head, [zero]);
                let shares = simd.mul(simd.vector(*weights), simd.splat(inverse));
                let mut logit_grads = simd.array(simd.mul(shares, simd.sub(slopes, simd.splat(mean))));
                logit_grads[count..].fill(T::zero());
                let shares = simd.array(shares);
                for lane in 0..count {
                    let row = &mut gradients.key_value[(start + lane) * 2 * width..][..2 * width];
                    let (key, value) = row.split_at_mut(width);
                    // The query of the view is scaled already.
                    add_scaled(simd, logit_grads[lane], &view.query, key);
                    add_scaled(simd, shares[lane], grad, value);
                }
                let wide = simd.vector(logit_grads);
                bias_sum = simd.add(bias_sum, wide);
                for (sums, feature) in position_sums.iter_mut().zip(&view.features) {
                    *sums = simd.mul_add(wide, simd.vector(feature[index]), *sums);
                }
                *weights = logit_grads;
            }
            let query = &mut gradients.query[token * width..][..width];
            weighted_rows(simd, &view, &shared.blocks, key_value, (2 * channels, 2 * head * width), query);

            let blank_share = blank.weight * inverse;
            let blank_grad = blank_share * (dot(simd, grad, blank_value) - mean);
            add_scaled(simd, blank_grad, blank_key, query);
            query.iter_mut().for_each(|value| *value *= scale);
            add_scaled(simd, blank_grad, &view.query, &mut gradients.blank_key);
            add_scaled(simd, blank_share, grad, &mut gradients.blank_value);
        }
        gradients.position_weight = position_sums.map(|sums| sum(simd, sums));
        gradients.position_bias = sum(simd, bias_sum);
        gradients
    }
}
