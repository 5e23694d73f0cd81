//! The two passes: integer sums over rows of bytes, for every vector width that the processor has.

use rayon::prelude::*;

use super::CHANNELS;
use super::taps::{PRECISION_BITS, Taps};
use crate::ImageSize;

/// Half of the last place, so that shifting rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);
/// Bytes of a row that the pass along the columns sums at a time: their sums fill half the registers of AVX2.
const BLOCK: usize = 64;
/// Rows that the other pass takes at a time: their bytes fill an SSE register.
const ROWS: usize = 16;
/// Bytes of a pixel of each of these rows.
const PLACE: usize = ROWS * CHANNELS;

/// To 8 bits.
#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resamples each row of `width` pixels.
///
/// Rows are taken [`ROWS`] at a time and laid out byte beside byte, so that neighbours are summed as along the columns: every lane of a
/// vector has work, whatever the number of channels.
pub(super) fn along_rows(source: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let (from, to) = (width * CHANNELS, taps.len() * CHANNELS);
    let mut out = vec![0; source.len() / from * to];
    let groups = out.par_chunks_mut(to * ROWS).zip(source.par_chunks(from * ROWS));
    groups.for_each_init(
        || (vec![0; from * ROWS], vec![0; to * ROWS]),
        |(beside, resampled), (to_rows, rows)| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    lay_beside(rows, from, beside);
                    for (place, to) in resampled.chunks_exact_mut(PLACE).enumerate() {
                        let (first, weights) = taps.of(place);
                        weighted_sum::<PLACE>(&beside[first * PLACE..], PLACE, weights, to);
                    }
                    lay_back(resampled, to, to_rows);
                },
            );
        },
    );
    out
}

/// `beside[at * ROWS + row]` becomes byte `at` of each row; rows that are missing are the last one again.
#[inline(always)]
fn lay_beside(rows: &[u8], stride: usize, beside: &mut [u8]) {
    let last = rows.len() / stride - 1;
    let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &rows[row.min(last) * stride..][..stride]);
    for (at, to) in beside.chunks_exact_mut(ROWS).enumerate() {
        for (to, row) in to.iter_mut().zip(rows) {
            *to = row[at];
        }
    }
}

/// The reverse, of as many rows as there are.
#[inline(always)]
fn lay_back(beside: &[u8], stride: usize, rows: &mut [u8]) {
    for (row, to) in rows.chunks_exact_mut(stride).enumerate() {
        for (to, from) in to.iter_mut().zip(beside.chunks_exact(ROWS)) {
            *to = from[row];
        }
    }
}

/// Resamples the columns of a picture of the given size.
pub(super) fn along_columns(source: &[u8], size: ImageSize, taps: &Taps) -> Vec<u8> {
    let stride = size.columns() * CHANNELS;
    let mut out = vec![0; taps.len() * stride];
    out.par_chunks_exact_mut(stride).enumerate().for_each(|(row, to)| {
        let (first, weights) = taps.of(row);
        let rows = &source[first * stride..(first + weights.len()) * stride];
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || weighted_sums(rows, stride, weights, to),
        );
    });
    out
}

/// `to`, of any length, becomes the sum of the rows, each times its weight.
#[inline(always)]
fn weighted_sums(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    let mut at = 0;
    let mut blocks = to.chunks_exact_mut(BLOCK);
    for to in &mut blocks {
        weighted_sum::<BLOCK>(&rows[at..], stride, weights, to);
        at += BLOCK;
    }
    for to in blocks.into_remainder().chunks_mut(1) {
        weighted_sum::<1>(&rows[at..], stride, weights, to);
        at += 1;
    }
}

/// The first `N` bytes of rows that begin `stride` bytes apart, each times its weight, summed.
#[inline(always)]
fn weighted_sum<const N: usize>(rows: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    let mut sums = [HALF; N];
    for (&weight, row) in weights.iter().zip(rows.chunks(stride)) {
        for (sum, &value) in sums.iter_mut().zip(&row[..N]) {
            *sum += i32::from(value) * weight;
        }
    }
    for (to, &sum) in to.iter_mut().zip(&sums) {
        *to = clip(sum);
    }
}
