//! One class for each pixel.

use rayon::prelude::*;

use super::axis::{Axis, combine};
use super::band::{Band, Upsampling};
use super::prediction::Prediction;
use super::sigmoid::sigmoid_in_place;
use crate::LabelMap;

/// Pixels that are worked on together: their class sums fit into the second-level cache.
const TILE: usize = 128;
/// Pixels and classes of one inner kernel: their sums fit into the registers of any x86-64.
const LANES: usize = 8;
const CLASSES: usize = 4;

/// Which comes first: resizing to the source, or the sum over the queries.
///
/// The reference resizes first when `SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE` is set (and always for models that also
/// do instances or panoptic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SemanticOrder {
    /// Masks are resized to the source, then classes are summed at every pixel of it. Edges are sharper; the cost
    /// grows with the source.
    #[default]
    ResizeThenSum,
    /// Classes are summed at the resolution of the resized image, then the class maps are resized to the source.
    SumThenResize,
}

/// The most probable class of each pixel of the source: the class c with the highest
/// sum over q of softmax(class)\[q, c\] * sigmoid(mask)\[q\], ties to the lower class.
///
/// Memory: the result, and per thread a few rows. The result does not depend on the number of threads.
///
/// ```
/// use aff_vision::{ImageSize, Prediction, PredictionParts, SemanticOrder, semantic};
///
/// # fn main() -> Result<(), aff_vision::VisionError> {
/// let prediction = Prediction::new(PredictionParts {
///     class_logits: &[9.0, 0.0, 0.0, /* second query */ 0.0, 9.0, 0.0],
///     mask_logits: &[5.0, -5.0, /* second query */ -5.0, 5.0],
///     num_queries: 2,
///     num_classes: 2,
///     canvas: ImageSize::new(1, 2),
///     padded: ImageSize::new(4, 8),
///     content: ImageSize::new(4, 8),
///     source: ImageSize::new(1, 4),
/// })?;
/// let map = semantic(&prediction, SemanticOrder::ResizeThenSum);
/// assert_eq!(map.labels(), [0, 0, 1, 1]);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn semantic(prediction: &Prediction<'_>, order: SemanticOrder) -> LabelMap {
    let sums = ClassSums::new(prediction);
    let mut labels = vec![0u16; prediction.source().pixels()];
    match order {
        SemanticOrder::ResizeThenSum => resize_then_sum(prediction, &sums, &mut labels),
        SemanticOrder::SumThenResize => sum_then_resize(prediction, &sums, &mut labels),
    }
    LabelMap::from_labels(prediction.source(), labels)
}

fn resize_then_sum(prediction: &Prediction<'_>, sums: &ClassSums, labels: &mut [u16]) {
    let upsampling = Upsampling::to_source(prediction);
    let width = prediction.source().columns();
    let band_rows = upsampling.band_rows(prediction.parts().canvas.rows());
    labels.par_chunks_mut(band_rows * width).enumerate().for_each(|(index, labels)| {
        let first = index * band_rows;
        let band = Band::new(prediction, &upsampling, &sums.queries, first..first + labels.len() / width);
        let mut tile = Tile::new(sums);
        for (row, labels) in (first..).zip(labels.chunks_exact_mut(width)) {
            for (number, labels) in labels.chunks_mut(TILE).enumerate() {
                tile.fill(&band, row, number * TILE, labels.len());
                tile.sum(sums);
                let mut best = [f32::NEG_INFINITY; TILE];
                for (class, sums) in (0u16..).zip(tile.sums.chunks_exact(TILE)) {
                    keep_best(class, sums, &mut best, labels);
                }
            }
        }
    });
}

fn sum_then_resize(prediction: &Prediction<'_>, sums: &ClassSums, labels: &mut [u16]) {
    let parts = prediction.parts();
    let upsampling = Upsampling::to_content(prediction);
    let rows = Axis::bilinear(parts.content.height, parts.source.height, parts.source.height);
    let columns = Axis::bilinear(parts.content.width, parts.source.width, parts.source.width);
    let (content_width, width) = (parts.content.columns(), parts.source.columns());
    let class_map_rows = upsampling.band_rows(parts.canvas.rows());
    let band_rows = (class_map_rows * parts.source.rows()).div_ceil(parts.content.rows()).clamp(1, 256);

    labels.par_chunks_mut(band_rows * width).enumerate().for_each(|(index, labels)| {
        let first = index * band_rows;
        let content_rows = rows.inputs(first..first + labels.len() / width);
        let band = Band::new(prediction, &upsampling, &sums.queries, content_rows);
        let mut class_rows = ClassRows::new(content_width, sums);
        let (mut narrow, mut wide) = (vec![0.0; content_width], vec![0.0; width]);
        let mut best = vec![0.0; width];
        for (row, labels) in (first..).zip(labels.chunks_exact_mut(width)) {
            let taps = rows.taps(row);
            for (content_row, _) in taps.iter() {
                class_rows.prepare(content_row, taps.iter().map(|(row, _)| row), |out| {
                    class_row(&band, sums, content_row, content_width, out);
                });
            }
            best.fill(f32::NEG_INFINITY);
            for class in 0..prediction.num_classes() {
                let lines = taps.iter().map(|(row, weight)| (class_rows.line(row, class), weight));
                combine(lines, &mut narrow);
                columns.stretch(&narrow, &mut wide);
                keep_best(class as u16, &wide, &mut best, labels);
            }
        }
    });
}

/// Class sums of one content row, `[classes, width]`.
fn class_row(band: &Band<'_>, sums: &ClassSums, row: usize, width: usize, out: &mut [f32]) {
    let mut tile = Tile::new(sums);
    for start in (0..width).step_by(TILE) {
        let length = TILE.min(width - start);
        tile.fill(band, row, start, length);
        tile.sum(sums);
        for (line, sums) in out.chunks_exact_mut(width).zip(tile.sums.chunks_exact(TILE)) {
            line[start..start + length].copy_from_slice(&sums[..length]);
        }
    }
}

/// Where `sums` exceeds `best`, the label becomes `class`.
fn keep_best(class: u16, sums: &[f32], best: &mut [f32], labels: &mut [u16]) {
    for ((label, best), &sum) in labels.iter_mut().zip(best).zip(sums) {
        *label = if sum > *best { class } else { *label };
        *best = best.max(sum);
    }
}

/// The class sums of the two content rows that a source row lies between; each is used by many source rows.
struct ClassRows {
    rows: [Option<usize>; 2],
    /// For each of the two, `[classes, width]`.
    sums: [Vec<f32>; 2],
    width: usize,
}

impl ClassRows {
    fn new(width: usize, sums: &ClassSums) -> Self {
        let empty = vec![0.0; sums.num_classes * width];
        Self { rows: [None; 2], sums: [empty.clone(), empty], width }
    }

    /// Makes `row` available, in the place of a row that is not among `wanted`.
    fn prepare(&mut self, row: usize, wanted: impl Iterator<Item = usize>, compute: impl FnOnce(&mut [f32])) {
        if self.rows.contains(&Some(row)) {
            return;
        }
        let first_is_wanted = wanted.into_iter().any(|wanted| self.rows[0] == Some(wanted));
        let place = usize::from(first_is_wanted);
        compute(&mut self.sums[place]);
        self.rows[place] = Some(row);
    }

    fn line(&self, row: usize, class: usize) -> &[f32] {
        let place = usize::from(self.rows[1] == Some(row));
        &self.sums[place][class * self.width..][..self.width]
    }
}

/// Class probabilities in the order that the kernel reads.
struct ClassSums {
    /// All of them: every query adds to the sum.
    queries: Vec<usize>,
    num_classes: usize,
    /// `[ceil(num_classes / CLASSES), queries, CLASSES]`, zeros at the end.
    probabilities: Vec<f32>,
}

impl ClassSums {
    fn new(prediction: &Prediction<'_>) -> Self {
        let by_query = prediction.class_probabilities();
        let num_classes = prediction.num_classes();
        let mut probabilities = Vec::with_capacity(num_classes.next_multiple_of(CLASSES) * by_query.len());
        for first in (0..num_classes).step_by(CLASSES) {
            for query in &by_query {
                let of = |class| if class < num_classes { query[class] } else { 0.0 };
                probabilities.extend((first..first + CLASSES).map(of));
            }
        }
        Self { queries: (0..by_query.len()).collect(), num_classes, probabilities }
    }
}

/// Up to [`TILE`] neighbouring pixels of a row.
struct Tile {
    /// Mask probabilities `[queries, TILE]`.
    masks: Vec<f32>,
    /// Class sums `[classes (padded to CLASSES), TILE]`; the classes past the last are zero.
    sums: Vec<f32>,
}

impl Tile {
    fn new(sums: &ClassSums) -> Self {
        Self {
            masks: vec![0.0; sums.queries.len() * TILE],
            sums: vec![0.0; sums.num_classes.next_multiple_of(CLASSES) * TILE],
        }
    }

    fn fill(&mut self, band: &Band<'_>, row: usize, start: usize, length: usize) {
        for (slot, mask) in self.masks.chunks_exact_mut(TILE).enumerate() {
            band.logits(slot, row, start..start + length, &mut mask[..length]);
            sigmoid_in_place(&mut mask[..length]);
        }
    }

    /// A small matrix product, in blocks of `CLASSES` x `LANES` sums that stay in registers.
    fn sum(&mut self, sums: &ClassSums) {
        let queries = sums.queries.len();
        if queries == 0 {
            return;
        }
        let blocks = sums.probabilities.chunks_exact(queries * CLASSES);
        for (probabilities, out) in blocks.zip(self.sums.chunks_exact_mut(CLASSES * TILE)) {
            for start in (0..TILE).step_by(LANES) {
                let mut block = [[0.0f32; LANES]; CLASSES];
                for (mask, probabilities) in
                    self.masks.chunks_exact(TILE).zip(probabilities.chunks_exact(CLASSES))
                {
                    let mask = &mask[start..start + LANES];
                    for (sums, &probability) in block.iter_mut().zip(probabilities) {
                        for (sum, &mask) in sums.iter_mut().zip(mask) {
                            *sum += probability * mask;
                        }
                    }
                }
                for (class, sums) in block.iter().enumerate() {
                    out[class * TILE + start..][..LANES].copy_from_slice(sums);
                }
            }
        }
    }
}
