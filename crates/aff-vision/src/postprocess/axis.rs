//! Bilinear interpolation along one axis, and the composition of two of them.
//!
//! Masks are upsampled to the padded input, cropped to the content, and resized to the source. Bilinear interpolation
//! is separable and linear, so along each axis the two steps are one weighted sum of at most four values, and nothing
//! of the padded input's size is ever held.

use std::ops::Range;

/// Most values that one output value depends on along an axis.
const MOST: usize = 4;

/// One output coordinate: which input coordinates, ascending, with which weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Taps {
    index: [usize; MOST],
    weight: [f32; MOST],
    count: usize,
}

impl Taps {
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.index[..self.count].iter().copied().zip(self.weight[..self.count].iter().copied())
    }
}

/// The output coordinates of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis(Vec<Taps>);

impl Axis {
    /// Bilinear resize from `from` to `to` values (`align_corners=False`, no antialiasing), of which the first `keep`
    /// are wanted.
    pub(super) fn bilinear(from: u32, to: u32, keep: u32) -> Self {
        let exact = (0..keep).map(|at| pair(from, to, at));
        Self(exact.map(|pair| gather(&pair)).collect())
    }

    /// Resize from `canvas` to `padded`, crop to `content`, resize to `source`.
    pub(super) fn composed(canvas: u32, padded: u32, content: u32, source: u32) -> Self {
        let exact = (0..source).map(|at| {
            let [first, second] = pair(content, source, at).map(|(middle, outer)| {
                pair(canvas, padded, middle as u32).map(|(index, inner)| (index, inner * outer))
            });
            [first[0], first[1], second[0], second[1]]
        });
        Self(exact.map(|four| gather(&four)).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn taps(&self, at: usize) -> &Taps {
        &self.0[at]
    }

    /// Input coordinates that the outputs `range` depend on.
    pub(super) fn inputs(&self, range: Range<usize>) -> Range<usize> {
        let all = || self.0[range.clone()].iter().flat_map(Taps::iter).map(|(index, _)| index);
        all().min().unwrap_or(0)..all().max().map_or(0, |last| last + 1)
    }

    /// `out[i] = sum of weight * input[index]`.
    pub(super) fn stretch(&self, input: &[f32], out: &mut [f32]) {
        for (out, taps) in out.iter_mut().zip(&self.0) {
            let mut sum = taps.weight[0] * input[taps.index[0]];
            for (index, weight) in taps.iter().skip(1) {
                sum += weight * input[index];
            }
            *out = sum;
        }
    }
}

/// `out = sum of weight * row`, rows of equal length.
pub(super) fn combine<'a>(mut rows: impl Iterator<Item = (&'a [f32], f32)>, out: &mut [f32]) {
    let Some((row, weight)) = rows.next() else { return };
    for (out, &value) in out.iter_mut().zip(row) {
        *out = weight * value;
    }
    for (row, weight) in rows {
        for (out, &value) in out.iter_mut().zip(row) {
            *out += weight * value;
        }
    }
}

/// The two neighbours of an output coordinate and their weights.
fn pair(from: u32, to: u32, at: u32) -> [(usize, f64); 2] {
    let last = from as usize - 1;
    let position = ((f64::from(at) + 0.5) * f64::from(from) / f64::from(to) - 0.5).max(0.0);
    let low = (position as usize).min(last);
    let fraction = if low == last { 0.0 } else { position - low as f64 };
    [(low, 1.0 - fraction), ((low + 1).min(last), fraction)]
}

/// Adds up the weights of equal coordinates and drops those without weight.
fn gather(parts: &[(usize, f64)]) -> Taps {
    let mut sums: Vec<(usize, f64)> = Vec::with_capacity(MOST);
    for &(index, weight) in parts {
        match sums.iter_mut().find(|(known, _)| *known == index) {
            Some((_, sum)) => *sum += weight,
            None => sums.push((index, weight)),
        }
    }
    sums.retain(|&(_, weight)| weight != 0.0);
    sums.sort_unstable_by_key(|&(index, _)| index);
    let mut taps = Taps { count: sums.len(), ..Taps::default() };
    for (slot, (index, weight)) in sums.into_iter().enumerate() {
        taps.index[slot] = index;
        taps.weight[slot] = weight as f32;
    }
    taps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubling_takes_quarters() {
        let mut out = [0.0; 4];
        Axis::bilinear(2, 4, 4).stretch(&[0.0, 4.0], &mut out);
        assert_eq!(out, [0.0, 1.0, 3.0, 4.0]);
    }

    proptest! {
        #[test]
        fn one_composed_step_equals_two(
            values in prop::collection::vec(-10f32..10.0, 1..12),
            padded in 1u32..50, content in 1u32..50, source in 1u32..80,
        ) {
            let content = content.min(padded);
            let canvas = values.len() as u32;
            let mut middle = vec![0.0; content as usize];
            Axis::bilinear(canvas, padded, content).stretch(&values, &mut middle);
            let (mut two, mut one) = (vec![0.0; source as usize], vec![0.0; source as usize]);
            Axis::bilinear(content, source, source).stretch(&middle, &mut two);
            Axis::composed(canvas, padded, content, source).stretch(&values, &mut one);
            for (one, two) in one.iter().zip(&two) {
                prop_assert!((one - two).abs() < 1e-5, "{} {}", one, two);
            }
        }

        #[test]
        fn weights_add_up_to_one(canvas in 1u32..40, padded in 1u32..90, content in 1u32..90, source in 1u32..90) {
            let axis = Axis::composed(canvas, padded, content.min(padded), source);
            for at in 0..axis.len() {
                let sum: f32 = axis.taps(at).iter().map(|(_, weight)| weight).sum();
                prop_assert!((sum - 1.0).abs() < 1e-6);
            }
        }
    }
}
