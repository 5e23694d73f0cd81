//! The product with packed weights.
//!
//! Up to [`TILE`] rows by one strip of outputs are summed in registers: of the 16 vectors that AVX2 has, 12 hold sums, two weights and
//! one a number of the input. Every sum runs over the inputs in their order, whatever the number of rows: neither
//! batch mates nor threads change a bit.

use rayon::prelude::*;

use super::Activation;
use super::packed::{Lanes, Packed, STRIP};
use crate::kernel::simd::{Kernel, LANES, Real, Simd};
use crate::layers::gelu_lanes;

/// Rows that are computed at a time.
const TILE: usize = 6;
/// Most rows that a thread takes at a time: with 256 inputs they fill a tenth of a second-level cache, while each strip of weights is
/// read once for all of them.
const MOST_ROWS: usize = 8 * TILE;

/// What follows the product, as slices.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a, T> {
    pub(super) activation: Activation,
    /// `[O]`
    pub(super) scale: Option<&'a [T]>,
    /// `[rows,O]`
    pub(super) residual: Option<&'a [T]>,
}

/// `x [rows,I]` -> `[rows,O]`, `count` numbers.
pub(super) fn forward<T: Real>(
    x: &[T],
    weights: &Packed<T>,
    epilogue: Epilogue<'_, T>,
    count: usize,
) -> Vec<T> {
    let mut out = vec![T::zero(); count];
    let (outputs, inputs) = (weights.outputs, weights.inputs);
    if out.is_empty() {
        return out;
    }
    let rows = count / outputs;
    let threads = rayon::current_num_threads();
    let parts = threads * rows.div_ceil(threads * MOST_ROWS);
    let rows_of_part = rows.div_ceil(parts).next_multiple_of(TILE);
    out.par_chunks_mut(rows_of_part * outputs).enumerate().for_each(|(part, out)| {
        let first = part * rows_of_part;
        let rows = out.len() / outputs;
        let x = &x[first * inputs..][..rows * inputs];
        let residual = epilogue.residual.map(|residual| &residual[first * outputs..][..rows * outputs]);
        T::dispatch(Forward { x, weights, epilogue: Epilogue { residual, ..epilogue }, out });
    });
    out
}

struct Forward<'a, T> {
    x: &'a [T],
    weights: &'a Packed<T>,
    epilogue: Epilogue<'a, T>,
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { x, weights, epilogue, out } = self;
        let rows = out.len() / weights.outputs;
        for strip in 0..weights.strips() {
            let (strip_weights, bias) = weights.strip(strip);
            for first in (0..rows).step_by(TILE) {
                let x = &x[first * weights.inputs..];
                let mut sums = [[[T::zero(); LANES]; 2]; TILE];
                let count = TILE.min(rows - first);
                match count {
                    6 => add_products::<T, S, 6>(simd, x, strip_weights, &mut sums),
                    5 => add_products::<T, S, 5>(simd, x, strip_weights, &mut sums),
                    4 => add_products::<T, S, 4>(simd, x, strip_weights, &mut sums),
                    3 => add_products::<T, S, 3>(simd, x, strip_weights, &mut sums),
                    2 => add_products::<T, S, 2>(simd, x, strip_weights, &mut sums),
                    _ => add_products::<T, S, 1>(simd, x, strip_weights, &mut sums),
                }
                for (row, sums) in sums[..count].iter().enumerate() {
                    let at = (first + row) * weights.outputs;
                    finish(simd, sums, bias, &epilogue, (at, strip * STRIP, weights.outputs), out);
                }
            }
        }
    }
}

/// Sums of products of `R` rows with the weights of a strip.
#[inline(always)]
fn add_products<T: Real, S: Simd<T>, const R: usize>(
    simd: S,
    x: &[T],
    weights: &[Lanes<T>],
    out: &mut [Lanes<T>; TILE],
) {
    let inputs = weights.len();
    let rows: [&[T]; R] = std::array::from_fn(|row| &x[row * inputs..][..inputs]);
    let mut sums = [[simd.splat(T::zero()); 2]; R];
    for (input, weights) in weights.iter().enumerate() {
        let weights = [simd.vector(weights[0]), simd.vector(weights[1])];
        for row in 0..R {
            let value = simd.splat(rows[row][input]);
            sums[row][0] = simd.mul_add(value, weights[0], sums[row][0]);
            sums[row][1] = simd.mul_add(value, weights[1], sums[row][1]);
        }
    }
    for row in 0..R {
        out[row] = [simd.array(sums[row][0]), simd.array(sums[row][1])];
    }
}

/// Adds the bias, applies the epilogue, and writes the outputs of a strip in a row that starts at `at`.
#[inline(always)]
fn finish<T: Real, S: Simd<T>>(
    simd: S,
    sums: &Lanes<T>,
    bias: &Lanes<T>,
    epilogue: &Epilogue<'_, T>,
    (at, first, outputs): (usize, usize, usize),
    out: &mut [T],
) {
    for half in 0..2 {
        let start = first + half * LANES;
        if start >= outputs {
            return;
        }
        let width = LANES.min(outputs - start);
        let mut values = simd.add(simd.vector(sums[half]), simd.vector(bias[half]));
        values = match epilogue.activation {
            Activation::Identity => values,
            Activation::Relu => simd.max(values, simd.splat(T::zero())),
            Activation::Gelu => gelu_lanes(simd, values),
        };
        if let Some(scale) = epilogue.scale {
            values = simd.mul(values, load(simd, &scale[start..][..width]));
        }
        if let Some(residual) = epilogue.residual {
            values = simd.add(values, load(simd, &residual[at + start..][..width]));
        }
        let values = simd.array(values);
        let out = &mut out[at + start..][..width];
        match out.first_chunk_mut::<LANES>() {
            Some(whole) => *whole = values,
            None => out.copy_from_slice(&values[..width]),
        }
    }
}

#[inline(always)]
fn load<T: Real, S: Simd<T>>(simd: S, values: &[T]) -> S::Vector {
    match values.first_chunk::<LANES>() {
        Some(whole) => simd.vector(*whole),
        None => simd.load_part(values, T::zero()),
    }
}
