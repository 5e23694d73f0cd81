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

/// The resolution at which the class sums are taken.
///
/// The reference takes them at the source when `SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE` is set (and always for models that
/// also do instances or panoptic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SumResolution {
    /// That of the source: masks are resized to it, then classes are summed at every pixel of it. Edges are sharper; the
    /// cost grows with the source.
    #[default]
    Source,
    /// That of the network's input: classes are summed there, then the class maps are resized to the source.
    Input,
}

/// The class of each pixel, and how sure the network is of each class.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredLabelMap {
    /// The class of each pixel.
    pub map: LabelMap,
    /// For each class the mean, over the pixels it won, of its share in the sums of all classes there, 0 to 1; 0 for a class
    /// that won no pixel.
    pub scores: Vec<f32>,
}

/// The most probable class of each pixel of the source: the class c with the highest
/// sum over q of softmax(class)\[q, c\] * sigmoid(mask)\[q\], ties to the lower class.
///
/// Memory: the result, and per thread a few rows. The result does not depend on the number of threads.
///
/// ```
/// use aff_vision::{ImageSize, Prediction, PredictionParts, SumResolution, semantic};
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
/// let found = semantic(&prediction, SumResolution::Source);
/// assert_eq!(found.map.labels(), [0, 0, 1, 1]);
/// assert!(found.scores.iter().all(|&score| score > 0.9));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn semantic(prediction: &Prediction<'_>, resolution: SumResolution) -> ScoredLabelMap {
    let sums = ClassSums::new(prediction);
    let mut labels = vec![0u16; prediction.source().pixels()];
    let shares = match resolution {
        SumResolution::Source => at_source(prediction, &sums, &mut labels),
        SumResolution::Input => at_input(prediction, &sums, &mut labels),
    };
    let map = LabelMap::from_labels(prediction.source(), labels);
    let mut scores = vec![0.0; sums.num_classes];
    for (class, pixels) in map.areas() {
        // In the order of the bands, whichever thread did which.
        let sum: f64 = shares.iter().map(|shares| shares[usize::from(class)]).sum();
        scores[usize::from(class)] = (sum / pixels as f64) as f32;
    }
    ScoredLabelMap { map, scores }
}

/// For each band of rows and each class, the sum of the shares that the class has where it won.
type Shares = Vec<Vec<f64>>;

fn at_source(prediction: &Prediction<'_>, sums: &ClassSums, labels: &mut [u16]) -> Shares {
    let upsampling = Upsampling::to_source(prediction);
    let width = prediction.source().columns();
    let band_rows = upsampling.band_rows(prediction.parts().canvas.rows());
    let label_band = |(index, labels): (usize, &mut [u16])| {
        let first = index * band_rows;
        let band = Band::new(prediction, &upsampling, &sums.queries, first..first + labels.len() / width);
        let mut tile = Tile::new(sums);
        let mut winners = Winners::new(sums, TILE);
        for (row, labels) in (first..).zip(labels.chunks_exact_mut(width)) {
            for (number, labels) in labels.chunks_mut(TILE).enumerate() {
                tile.fill(&band, row, number * TILE, labels.len());
                tile.sum(sums);
                for (class, sums) in tile.sums.chunks_exact(TILE).take(sums.num_classes).enumerate() {
                    winners.add(class, sums, labels);
                }
                winners.finish(labels);
            }
        }
        winners.shares
    };
    labels.par_chunks_mut(band_rows * width).enumerate().map(label_band).collect()
}

fn at_input(prediction: &Prediction<'_>, sums: &ClassSums, labels: &mut [u16]) -> Shares {
    let parts = prediction.parts();
    let upsampling = Upsampling::to_content(prediction);
    let rows = Axis::bilinear(parts.content.height, parts.source.height, parts.source.height);
    let columns = Axis::bilinear(parts.content.width, parts.source.width, parts.source.width);
    let (content_width, width) = (parts.content.columns(), parts.source.columns());
    let class_map_rows = upsampling.band_rows(parts.canvas.rows());
    let band_rows = (class_map_rows * parts.source.rows()).div_ceil(parts.content.rows()).clamp(1, 256);

    let label_band = |(index, labels): (usize, &mut [u16])| {
        let first = index * band_rows;
        let content_rows = rows.inputs(first..first + labels.len() / width);
        let band = Band::new(prediction, &upsampling, &sums.queries, content_rows);
        let mut class_rows = ClassRows::new(content_width, sums);
        let (mut narrow, mut wide) = (vec![0.0; content_width], vec![0.0; width]);
        let mut winners = Winners::new(sums, width);
        for (row, labels) in (first..).zip(labels.chunks_exact_mut(width)) {
            let taps = rows.taps(row);
            for (content_row, _) in taps.iter() {
                class_rows.prepare(content_row, taps.iter().map(|(row, _)| row), |out| {
                    class_row(&band, sums, content_row, content_width, out);
                });
            }
            for class in 0..prediction.num_classes() {
                let lines = taps.iter().map(|(row, weight)| (class_rows.line(row, class), weight));
                combine(lines, &mut narrow);
                columns.stretch(&narrow, &mut wide);
                winners.add(class, &wide, labels);
            }
            winners.finish(labels);
        }
        winners.shares
    };
    labels.par_chunks_mut(band_rows * width).enumerate().map(label_band).collect()
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

/// The contest of the classes for some pixels of a row.
struct Winners {
    /// Highest class sum of each pixel so far.
    best: Vec<f32>,
    /// Sum of all classes of each pixel so far.
    total: Vec<f32>,
    /// For each class the sum of the shares that it has where it won, over all pixels that are finished.
    shares: Vec<f64>,
}

impl Winners {
    fn new(sums: &ClassSums, pixels: usize) -> Self {
        Self {
            best: vec![f32::NEG_INFINITY; pixels],
            total: vec![0.0; pixels],
            shares: vec![0.0; sums.num_classes],
        }
    }

    /// Where `sums` exceeds the best so far, the label becomes `class`.
    fn add(&mut self, class: usize, sums: &[f32], labels: &mut [u16]) {
        let so_far = self.best.iter_mut().zip(&mut self.total);
        for ((label, (best, total)), &sum) in labels.iter_mut().zip(so_far).zip(sums) {
            *label = if sum > *best { class as u16 } else { *label };
            *best = best.max(sum);
            *total += sum;
        }
    }

    /// Counts the winners of `labels`, and begins anew for the next pixels.
    fn finish(&mut self, labels: &[u16]) {
        for ((&label, best), total) in labels.iter().zip(&mut self.best).zip(&mut self.total) {
            if *total > 0.0 {
                self.shares[usize::from(label)] += f64::from(*best) / f64::from(*total);
            }
            (*best, *total) = (f32::NEG_INFINITY, 0.0);
        }
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

    /// Makes `row` available, instead of a row that is not among `wanted`.
    fn prepare(&mut self, row: usize, wanted: impl Iterator<Item = usize>, compute: impl FnOnce(&mut [f32])) {
        if self.rows.contains(&Some(row)) {
            return;
        }
        let first_is_wanted = wanted.into_iter().any(|wanted| self.rows[0] == Some(wanted));
        let slot = usize::from(first_is_wanted);
        compute(&mut self.sums[slot]);
        self.rows[slot] = Some(row);
    }

    fn line(&self, row: usize, class: usize) -> &[f32] {
        let slot = usize::from(self.rows[1] == Some(row));
        &self.sums[slot][class * self.width..][..self.width]
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
