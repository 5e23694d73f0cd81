//! Cluster attention on the CPU: what a query sees, its logits and their softmax, for the forward and the backward pass.

mod backward;
mod blocks;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;

use super::Sizes;
use crate::Positions;
use crate::kernel::simd::{LANES, Real, Simd, dot, greatest, sum};
use crate::points::feature_lanes;
use blocks::Blocks;

/// The inputs as slices.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a, T> {
    /// `[B,N,C]`
    pub(super) query: &'a [T],
    /// `[B,N,2C]`
    pub(super) key_value: &'a [T],
    pub(super) parameters: Parameters<'a, T>,
}

/// The parameters, which travel as one tensor `[5H + H + C + C]`.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a, T> {
    /// `[H,5]`
    pub(super) position_weight: &'a [T],
    /// `[H]`
    pub(super) position_bias: &'a [T],
    /// `[C]`
    pub(super) blank_key: &'a [T],
    /// `[C]`
    pub(super) blank_value: &'a [T],
}

impl<'a, T> Parameters<'a, T> {
    pub(super) fn split(all: &'a [T], sizes: Sizes) -> Self {
        let (position_weight, rest) = all.split_at(5 * sizes.heads);
        let (position_bias, rest) = rest.split_at(sizes.heads);
        let (blank_key, blank_value) = rest.split_at(sizes.channels);
        Self { position_weight, position_bias, blank_key, blank_value }
    }
}

/// Everything that the kernels of all threads share.
#[derive(Clone, Copy)]
struct Shared<'a, T> {
    inputs: Inputs<'a, T>,
    sizes: Sizes,
    positions: &'a Positions,
    blocks: Blocks<'a>,
    /// `[B, blocks, H, D, LANES]`
    keys: &'a [T],
    /// `[B, blocks][2][LANES]`
    key_positions: &'a [[[T; LANES]; 2]],
}

/// What one query sees: kept between queries to save allocations.
struct View<T> {
    blocks: Vec<u32>,
    /// The five features of the relative position of each slot, `[5][blocks][LANES]`.
    features: [Vec<[T; LANES]>; 5],
    /// Logits, then weights, `[blocks][LANES]`; a lane without a key has the logit -inf.
    logits: Vec<[T; LANES]>,
    /// The query of a head, scaled: `[D]`.
    query: Vec<T>,
}

/// The part of a softmax that is not in [`View::logits`].
struct Blank<T> {
    /// Weight of the blank token, not yet divided by the total.
    weight: T,
    /// Sum of all weights.
    total: T,
}

impl<T: Real> View<T> {
    fn new(shared: &Shared<'_, T>) -> Self {
        let slots = shared.blocks.per_query();
        Self {
            blocks: Vec::with_capacity(slots),
            features: std::array::from_fn(|_| Vec::with_capacity(slots)),
            logits: Vec::with_capacity(slots),
            query: vec![T::zero(); shared.sizes.channels / shared.sizes.heads],
        }
    }

    /// Turns to a query: which blocks it sees, and from where. `row` counts over all images.
    #[inline(always)]
    fn look<S: Simd<T>>(&mut self, simd: S, shared: &Shared<'_, T>, row: usize) {
        shared.blocks.of_query(row, &mut self.blocks);
        let key_positions = &shared.key_positions[row / shared.sizes.tokens * shared.blocks.count()..];
        let [x, y] = shared.positions.as_slice()[row].map(|c| simd.splat(T::of(f64::from(c))));
        self.features.iter_mut().for_each(Vec::clear);
        for &block in &self.blocks {
            let [key_x, key_y] = &key_positions[block as usize];
            let dx = simd.sub(simd.vector(*key_x), x);
            let dy = simd.sub(simd.vector(*key_y), y);
            for (slots, feature) in self.features.iter_mut().zip(feature_lanes(simd, dx, dy)) {
                slots.push(simd.array(feature));
            }
        }
    }

    /// The softmax of a head over what was looked at: weights, not yet divided by their total.
    #[inline(always)]
    fn attend<S: Simd<T>>(&mut self, simd: S, shared: &Shared<'_, T>, row: usize, head: usize) -> Blank<T> {
        let Sizes { tokens, channels, heads, .. } = shared.sizes;
        let width = channels / heads;
        let query = &shared.inputs.query[row * channels + head * width..][..width];
        let scale = T::of((width as f64).powf(-0.5));
        for (scaled, &value) in self.query.iter_mut().zip(query) {
            *scaled = value * scale;
        }
        let image = row / tokens;
        let keys = &shared.keys[image * shared.blocks.count() * channels * LANES..];
        self.fill_logits(simd, shared, keys, head);

        let blank_logit =
            dot(simd, &self.query, &shared.inputs.parameters.blank_key[head * width..][..width]);
        let mut most = simd.splat(blank_logit);
        for logits in &self.logits {
            most = simd.max(most, simd.vector(*logits));
        }
        let most = greatest(simd, most);
        let wide = simd.splat(most);
        let mut total = simd.splat(T::zero());
        for logits in &mut self.logits {
            let weights = simd.exp(simd.sub(simd.vector(*logits), wide));
            total = simd.add(total, weights);
            *logits = simd.array(weights);
        }
        let weight = simd.array(simd.exp(simd.splat(blank_logit - most)))[0];
        Blank { weight, total: sum(simd, total) + weight }
    }

    #[inline(always)]
    fn fill_logits<S: Simd<T>>(&mut self, simd: S, shared: &Shared<'_, T>, keys: &[T], head: usize) {
        self.logits.clear();
        let mut first = 0;
        while first < self.blocks.len() {
            // Several blocks at once hide the latency of the sums.
            match self.blocks.len() - first {
                6.. => first += self.push_logits::<S, 6>(simd, shared, keys, head, first),
                3..6 => first += self.push_logits::<S, 3>(simd, shared, keys, head, first),
                _ => first += self.push_logits::<S, 1>(simd, shared, keys, head, first),
            }
        }
    }

    /// Appends the logits of `G` blocks.
    #[inline(always)]
    fn push_logits<S: Simd<T>, const G: usize>(
        &mut self,
        simd: S,
        shared: &Shared<'_, T>,
        keys: &[T],
        head: usize,
        first: usize,
    ) -> usize {
        let Parameters { position_weight, position_bias, .. } = shared.inputs.parameters;
        let blocks: [usize; G] = std::array::from_fn(|g| self.blocks[first + g] as usize);
        let mut logits = [simd.splat(position_bias[head]); G];
        for (feature, &weight) in self.features.iter().zip(&position_weight[5 * head..5 * head + 5]) {
            let weight = simd.splat(weight);
            for g in 0..G {
                logits[g] = simd.mul_add(weight, simd.vector(feature[first + g]), logits[g]);
            }
        }
        let products = lane_products::<T, S, G>(simd, &self.query, keys, blocks, shared.sizes, head, logits);
        for (block, logits) in blocks.into_iter().zip(products) {
            let mut logits = simd.array(logits);
            let (_, count) = shared.blocks.keys(block);
            if let Some(shift) = shared.blocks.logit_shift(block) {
                logits[0] += T::of(shift);
            }
            logits[count..].fill(T::neg_infinity());
            self.logits.push(logits);
        }
        G
    }
}

/// `start_g + sum_d vector_d packed_g,d` for `G` blocks of [`pack`]ed keys or values.
#[inline(always)]
fn lane_products<T: Real, S: Simd<T>, const G: usize>(
    simd: S,
    vector: &[T],
    packed: &[T],
    blocks: [usize; G],
    sizes: Sizes,
    head: usize,
    start: [S::Vector; G],
) -> [S::Vector; G] {
    let width = sizes.channels / sizes.heads;
    let of_block = |block: usize| {
        packed[(block * sizes.channels + head * width) * LANES..][..width * LANES].as_chunks::<LANES>().0
    };
    let rows: [&[[T; LANES]]; G] = std::array::from_fn(|g| of_block(blocks[g]));
    let mut sums = start;
    for (d, &value) in vector[..width].iter().enumerate() {
        let value = simd.splat(value);
        for g in 0..G {
            sums[g] = simd.mul_add(value, simd.vector(rows[g][d]), sums[g]);
        }
    }
    sums
}

/// `out_d = sum_j weights_j row_j,d` over the keys of the blocks, where row j starts at `offset` within the token's `stride`
/// numbers.
#[inline(always)]
fn weighted_rows<T: Real, S: Simd<T>>(
    simd: S,
    view: &View<T>,
    blocks: &Blocks<'_>,
    rows: &[T],
    (stride, offset): (usize, usize),
    out: &mut [T],
) {
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let mut at = offset;
    let mut whole = whole;
    while !whole.is_empty() {
        let count = if whole.len() >= 4 { 4 } else { whole.len() };
        let (now, later) = whole.split_at_mut(count);
        match now.len() {
            4 => sum_rows::<T, S, 4>(simd, view, blocks, rows, (stride, at), now),
            3 => sum_rows::<T, S, 3>(simd, view, blocks, rows, (stride, at), now),
            2 => sum_rows::<T, S, 2>(simd, view, blocks, rows, (stride, at), now),
            _ => sum_rows::<T, S, 1>(simd, view, blocks, rows, (stride, at), now),
        }
        at += now.len() * LANES;
        whole = later;
    }
    for (channel, out) in rest.iter_mut().enumerate() {
        *out = T::zero();
        for (&block, weights) in view.blocks.iter().zip(&view.logits) {
            let (start, count) = blocks.keys(block as usize);
            for (lane, &weight) in weights[..count].iter().enumerate() {
                *out += weight * rows[(start + lane) * stride + at + channel];
            }
        }
    }
}

/// `sums += weight * row`
#[inline(always)]
fn add_row<T: Real, S: Simd<T>, const V: usize>(simd: S, weight: T, row: &[T], sums: &mut [S::Vector; V]) {
    let row = row[..V * LANES].as_chunks::<LANES>().0;
    let weight = simd.splat(weight);
    for v in 0..V {
        sums[v] = simd.mul_add(weight, simd.vector(row[v]), sums[v]);
    }
}

/// [`weighted_rows`] for `V` vectors of channels.
#[inline(always)]
fn sum_rows<T: Real, S: Simd<T>, const V: usize>(
    simd: S,
    view: &View<T>,
    blocks: &Blocks<'_>,
    rows: &[T],
    (stride, offset): (usize, usize),
    out: &mut [[T; LANES]],
) {
    // Two sums for each vector, by turns, hide the latency of adding.
    let mut sums = [[simd.splat(T::zero()); V]; 2];
    for (&block, weights) in view.blocks.iter().zip(&view.logits) {
        let (start, count) = blocks.keys(block as usize);
        let rows = &rows[start * stride..];
        if count == LANES {
            for (lane, &weight) in weights.iter().enumerate() {
                add_row(simd, weight, &rows[lane * stride + offset..], &mut sums[lane % 2]);
            }
        } else {
            for (lane, &weight) in weights[..count].iter().enumerate() {
                add_row(simd, weight, &rows[lane * stride + offset..], &mut sums[lane % 2]);
            }
        }
    }
    for v in 0..V {
        out[v] = simd.array(simd.add(sums[0][v], sums[1][v]));
    }
}
