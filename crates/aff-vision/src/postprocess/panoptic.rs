//! Every pixel in at most one segment: objects one by one, background by class.

use rayon::prelude::*;

use super::band::{Band, Upsampling};
use super::prediction::Prediction;
use super::sigmoid::sigmoid_in_place;
use crate::{PanopticMap, SegmentInfo, VisionError};

/// What [`panoptic`] keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct PanopticOptions {
    /// A query takes part if the probability of its class exceeds this.
    pub threshold: f32,
    /// A pixel belongs to a mask if the mask's probability there is at least this.
    pub mask_threshold: f32,
    /// A segment survives if at least this share of its mask is not covered by others.
    pub overlap_threshold: f32,
    /// Classes that are countable objects. Segments of any other class ("stuff") are merged into one a class.
    pub thing_ids: Vec<u32>,
}

impl Default for PanopticOptions {
    /// The thresholds of the published models; every class is stuff.
    fn default() -> Self {
        Self { threshold: 0.8, mask_threshold: 0.5, overlap_threshold: 0.8, thing_ids: Vec::new() }
    }
}

/// Splits the source into segments.
///
/// Queries whose most probable class is "no object", or not above `threshold`, are dropped before anything is upsampled.
/// Each pixel goes to the query with the highest probability of class times mask (ties to the lower query), and is void
/// if that query's mask is below `mask_threshold` there, or if the query as a whole does not survive: it must have such
/// a pixel, and (pixels it won) / (pixels of its mask) must be at least `overlap_threshold`.
///
/// Memory: the result, and per thread a few rows. The result does not depend on the number of threads.
///
/// # Errors
/// A threshold that is not within 0 to 1.
///
/// ```
/// use aff_vision::{ImageSize, PanopticOptions, Prediction, PredictionParts, panoptic};
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
/// let map = panoptic(&prediction, &PanopticOptions { thing_ids: vec![0], ..PanopticOptions::default() })?;
/// assert_eq!(map.ids(), [1, 1, 2, 2]);
/// assert_eq!(map.segments()[1].label_id, 1);
/// # Ok(())
/// # }
/// ```
pub fn panoptic(prediction: &Prediction<'_>, options: &PanopticOptions) -> Result<PanopticMap, VisionError> {
    super::check_probability("threshold", options.threshold)?;
    super::check_probability("mask_threshold", options.mask_threshold)?;
    super::check_probability("overlap_threshold", options.overlap_threshold)?;
    let candidates = candidates(prediction, options.threshold);
    let (mut ids, areas) = compete(prediction, &candidates, options.mask_threshold);

    let mut segments: Vec<SegmentInfo> = Vec::new();
    let mut id_of_slot = vec![0u32; candidates.len()];
    for ((candidate, areas), id) in candidates.iter().zip(&areas).zip(&mut id_of_slot) {
        let share = areas.won as f64 / areas.mask as f64;
        if areas.won_inside == 0 || share < f64::from(options.overlap_threshold) {
            continue;
        }
        let was_fused = !options.thing_ids.contains(&candidate.label_id);
        let same_stuff = segments.iter_mut().find(|known| was_fused && known.label_id == candidate.label_id);
        if let Some(known) = same_stuff {
            known.area += areas.won_inside;
            known.score = known.score.max(candidate.score);
            *id = known.id;
        } else {
            *id = segments.len() as u32 + 1;
            segments.push(SegmentInfo {
                id: *id,
                label_id: candidate.label_id,
                score: candidate.score,
                was_fused,
                area: areas.won_inside,
            });
        }
    }
    // So far `ids` holds slots, counted from 1.
    ids.par_iter_mut().for_each(|id| {
        if let Some(slot) = id.checked_sub(1) {
            *id = id_of_slot[slot as usize];
        }
    });
    Ok(PanopticMap::from_parts(prediction.source(), ids, segments))
}

/// A query that takes part.
struct Candidate {
    query: usize,
    label_id: u32,
    score: f32,
}

fn candidates(prediction: &Prediction<'_>, threshold: f32) -> Vec<Candidate> {
    let no_object = prediction.num_classes();
    let mut candidates = Vec::new();
    for (query, probabilities) in prediction.class_probabilities().iter().enumerate() {
        let mut best = 0;
        for (class, &probability) in probabilities.iter().enumerate() {
            if probability > probabilities[best] {
                best = class;
            }
        }
        let score = probabilities[best];
        if best != no_object && score > threshold {
            candidates.push(Candidate { query, label_id: best as u32, score });
        }
    }
    candidates
}

/// Pixels of a candidate.
#[derive(Debug, Clone, Copy, Default)]
struct Areas {
    /// Where its mask reaches the threshold.
    mask: u64,
    /// Where it is the most probable candidate.
    won: u64,
    /// Where it is both.
    won_inside: u64,
}

/// For each pixel the candidate that wins it, counted from 1, or 0 where its mask is below the threshold.
fn compete(
    prediction: &Prediction<'_>,
    candidates: &[Candidate],
    mask_threshold: f32,
) -> (Vec<u32>, Vec<Areas>) {
    let mut slots = vec![0u32; prediction.source().pixels()];
    if candidates.is_empty() {
        return (slots, Vec::new());
    }
    let queries: Vec<usize> = candidates.iter().map(|candidate| candidate.query).collect();
    let upsampling = Upsampling::to_source(prediction);
    let width = prediction.source().columns();
    let band_rows = upsampling.band_rows(prediction.parts().canvas.rows());

    let areas_of_bands: Vec<Vec<Areas>> = slots
        .par_chunks_mut(band_rows * width)
        .enumerate()
        .map(|(index, slots)| {
            let first = index * band_rows;
            let band = Band::new(prediction, &upsampling, &queries, first..first + slots.len() / width);
            let mut areas = vec![Areas::default(); candidates.len()];
            let mut row_buffers = RowBuffers::new(width, mask_threshold);
            for (row, slots) in (first..).zip(slots.chunks_exact_mut(width)) {
                row_buffers.compete(&band, row, candidates, &mut areas);
                for (slot, (&winner, &mask)) in
                    slots.iter_mut().zip(row_buffers.winner.iter().zip(&row_buffers.winner_mask))
                {
                    let areas = &mut areas[winner as usize];
                    areas.won += 1;
                    if mask >= mask_threshold {
                        areas.won_inside += 1;
                        *slot = winner + 1;
                    }
                }
            }
            areas
        })
        .collect();

    let mut areas = vec![Areas::default(); candidates.len()];
    for band in &areas_of_bands {
        for (sum, part) in areas.iter_mut().zip(band) {
            sum.mask += part.mask;
            sum.won += part.won;
            sum.won_inside += part.won_inside;
        }
    }
    (slots, areas)
}

/// State of the competition along one row.
struct RowBuffers {
    mask_threshold: f32,
    mask: Vec<f32>,
    best: Vec<f32>,
    winner: Vec<u32>,
    winner_mask: Vec<f32>,
}

impl RowBuffers {
    fn new(width: usize, mask_threshold: f32) -> Self {
        Self {
            mask_threshold,
            mask: vec![0.0; width],
            best: vec![0.0; width],
            winner: vec![0; width],
            winner_mask: vec![0.0; width],
        }
    }

    /// Finds the winner of each pixel of a row, and counts the pixels of each mask.
    fn compete(&mut self, band: &Band<'_>, row: usize, candidates: &[Candidate], areas: &mut [Areas]) {
        let Self { mask_threshold, mask, best, winner, winner_mask } = self;
        best.fill(f32::NEG_INFINITY);
        for (slot, (candidate, areas)) in candidates.iter().zip(areas).enumerate() {
            band.logits(slot, row, 0..mask.len(), mask);
            sigmoid_in_place(mask);
            areas.mask += mask.iter().map(|&mask| u32::from(mask >= *mask_threshold)).sum::<u32>() as u64;
            let pixels = mask.iter().zip(best.iter_mut()).zip(winner.iter_mut()).zip(winner_mask.iter_mut());
            for (((&mask, best), winner), winner_mask) in pixels {
                let value = candidate.score * mask;
                let wins = value > *best;
                *best = if wins { value } else { *best };
                *winner = if wins { slot as u32 } else { *winner };
                *winner_mask = if wins { mask } else { *winner_mask };
            }
        }
    }
}
