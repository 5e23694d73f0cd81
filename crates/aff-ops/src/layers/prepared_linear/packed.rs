//! Weights in the order in which the product reads them.

use rayon::prelude::*;

use crate::kernel::simd::{LANES, Real};

/// Outputs that are computed at a time: two vectors, so that one number of the input serves both.
pub(super) const STRIP: usize = 2 * LANES;

/// One number for each output of a strip.
pub(super) type Lanes<T> = [[T; LANES]; 2];

/// A layer's weights: strip after strip, and in a strip input after input. Zeros fill the last strip.
#[derive(Debug)]
pub(super) struct Packed<T> {
    /// `[strips, I]`
    weights: Vec<Lanes<T>>,
    /// `[strips]`
    bias: Vec<Lanes<T>>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
}

impl<T: Real> Packed<T> {
    /// `weight [O,I]`, `bias [O]`
    pub(super) fn new(weight: &[T], bias: Option<&[T]>, outputs: usize, inputs: usize) -> Self {
        let strips = outputs.div_ceil(STRIP);
        let mut weights = vec![[[T::zero(); LANES]; 2]; strips * inputs];
        if inputs > 0 {
            weights.par_chunks_exact_mut(inputs).zip(weight.par_chunks(STRIP * inputs)).for_each(
                |(strip, rows)| {
                    for (output, row) in rows.chunks_exact(inputs).enumerate() {
                        for (lanes, &value) in strip.iter_mut().zip(row) {
                            lanes[output / LANES][output % LANES] = value;
                        }
                    }
                },
            );
        }
        let mut starts = vec![[[T::zero(); LANES]; 2]; strips];
        for (output, &value) in bias.into_iter().flatten().enumerate() {
            starts[output / STRIP][output % STRIP / LANES][output % LANES] = value;
        }
        Self { weights, bias: starts, outputs, inputs }
    }

    pub(super) fn strips(&self) -> usize {
        self.bias.len()
    }

    /// Weights `[I]` and bias of a strip.
    #[inline(always)]
    pub(super) fn strip(&self, strip: usize) -> (&[Lanes<T>], &Lanes<T>) {
        (&self.weights[strip * self.inputs..][..self.inputs], &self.bias[strip])
    }
}
