//! Which neighbours a resized row or column is made of, and how much of each.

use crate::Resample;

/// Bits behind the point of a weight: 32 less 8 for the value and 2 for the sums of bicubic weights, which exceed 1 before the negative
/// ones are taken off.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// For each output place a run of input places, with weights that sum to about 1 << [`PRECISION_BITS`].
#[derive(Debug)]
pub(super) struct Taps {
    /// First input place and number of weights before this output place; one entry more than there are output places.
    runs: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Taps {
    /// To resize `from` places to `to` places, both more than none.
    pub(super) fn new(filter: Resample, from: usize, to: usize) -> Self {
        let (curve, reach): (fn(f64) -> f64, f64) = match filter {
            Resample::Bilinear => (triangle, 1.0),
            Resample::Bicubic => (cubic, 2.0),
        };
        // The order of the operations decides the last bit: it is Pillow's.
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = reach * stretch;
        let inverse = 1.0 / stretch;
        let mut taps = Self { runs: Vec::with_capacity(to + 1), weights: Vec::new() };
        let mut exact = Vec::new();
        for place in 0..to {
            let center = (place as f64 + 0.5) * scale;
            // Truncated towards zero, as C does it.
            let first = ((center - reach + 0.5) as i64).max(0) as usize;
            let end = ((center + reach + 0.5) as i64).max(0) as usize;
            exact.clear();
            exact.extend((first..end.min(from)).map(|from| curve((from as f64 - center + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            taps.runs.push((first, taps.weights.len()));
            taps.weights
                .extend(exact.iter().map(|&weight| fixed(if sum == 0.0 { weight } else { weight / sum })));
        }
        taps.runs.push((0, taps.weights.len()));
        taps
    }

    /// First input place and weights of an output place.
    pub(super) fn of(&self, place: usize) -> (usize, &[i32]) {
        let (first, start) = self.runs[place];
        (first, &self.weights[start..self.runs[place + 1].1])
    }

    /// Number of output places.
    pub(super) fn len(&self) -> usize {
        self.runs.len() - 1
    }
}

/// Half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// Linear interpolation.
fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic convolution with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
