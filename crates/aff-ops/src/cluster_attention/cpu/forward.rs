//! The forward pass: for each query its logits, their softmax and the weighted values, head by head.
//!
//! Only the logits of one query and head are held at a time. Tokens are divided among threads; the result of a token depends on
//! nothing but its own inputs.

use rayon::prelude::*;

use super::blocks::{Blocks, pack, pack_positions};
use super::{Inputs, Shared, View, weighted_rows};
use crate::cluster_attention::{AttentionGeometry, Sizes};
use crate::kernel::ROWS;
use crate::kernel::simd::{Kernel, Real, Simd};

/// `[B,N,C]`
pub(crate) fn forward<T: Real>(
    inputs: Inputs<'_, T>,
    sizes: Sizes,
    geometry: AttentionGeometry<'_>,
) -> Vec<T> {
    let (blocks, positions) = (Blocks::new(geometry), geometry.positions);
    let keys = pack(inputs.key_value, 0, sizes, &blocks);
    let key_positions = pack_positions(positions, &blocks);
    let shared = Shared { inputs, sizes, positions, blocks, keys: &keys, key_positions: &key_positions };
    let mut out = vec![T::zero(); inputs.query.len()];
    if !out.is_empty() {
        out.par_chunks_mut(ROWS * sizes.channels).enumerate().for_each(|(chunk, out)| {
            T::dispatch(Forward { shared, first: chunk * ROWS, out });
        });
    }
    out
}

struct Forward<'a, T> {
    shared: Shared<'a, T>,
    /// First of the tokens of `out`, counted over all images.
    first: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let shared = &self.shared;
        let Sizes { tokens, channels, heads, .. } = shared.sizes;
        let width = channels / heads;
        let mut view = View::new(shared);
        for (row, out) in (self.first..).zip(self.out.chunks_exact_mut(channels)) {
            view.look(simd, shared, row);
            let key_value = &shared.inputs.key_value[row / tokens * tokens * 2 * channels..];
            for (head, out) in out.chunks_exact_mut(width).enumerate() {
                let blank = view.attend(simd, shared, row, head);
                let values = (2 * channels, (2 * head + 1) * width);
                weighted_rows(simd, &view, &shared.blocks, key_value, values, out);
                let blank_value = &shared.inputs.parameters.blank_value[head * width..][..width];
                let inverse = blank.total.recip();
                for (out, &value) in out.iter_mut().zip(blank_value) {
                    *out = (*out + blank.weight * value) * inverse;
                }
            }
        }
    }
}
