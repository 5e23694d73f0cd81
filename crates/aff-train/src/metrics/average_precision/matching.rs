//! Which of what was found in an image is right.

use crate::metrics::shape::intersections;
use crate::metrics::{FoundObject, RegionKind, Shape, TrueObject};

/// Overlaps at which precision is taken: 0.50 to 0.95.
pub(super) const OVERLAPS: usize = 10;

/// Areas in pixels, both ends included: all, small, medium, large.
pub(super) const AREA_RANGES: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// An object that was found, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    pub(super) image_id: u64,
    pub(super) score: f64,
    /// By range of areas a bit for each overlap: it has a region of the truth.
    matched: [u16; AREA_RANGES.len()],
    /// It counts neither as right nor as wrong.
    ignored: [u16; AREA_RANGES.len()],
}

impl Judged {
    /// Whether it is right (`Some(true)`), wrong, or left out at an overlap.
    pub(super) fn verdict(&self, range: usize, overlap: usize) -> Option<bool> {
        let bit = 1 << overlap;
        (self.ignored[range] & bit == 0).then_some(self.matched[range] & bit != 0)
    }
}

/// A class in an image.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) positives: [u64; AREA_RANGES.len()],
    /// In the order of the scores.
    pub(super) found: Vec<Judged>,
}

/// The overlap of a step; in floating point as COCO's tool has it, which decides ties.
fn overlap_threshold(step: usize) -> f64 {
    const STEP: f64 = (0.95 - 0.5) / 9.0;
    if step + 1 == OVERLAPS { 0.95 } else { 0.5 + step as f64 * STEP }
}

/// Judges the objects of a class in an image; `found` is sorted, best first.
pub(super) fn judge<S: Shape>(
    image_id: u64,
    truths: &[&TrueObject<S>],
    found: &[&FoundObject<S>],
) -> Judgement {
    let overlaps = overlaps(truths, found);
    let areas: Vec<f64> = found.iter().map(|object| object.shape.area()).collect();
    let mut judged: Vec<Judged> = found
        .iter()
        .map(|object| Judged { image_id, score: object.score + 0.0, matched: [0; 4], ignored: [0; 4] })
        .collect();
    let mut positives = [0; AREA_RANGES.len()];
    for (range, &[least, most]) in AREA_RANGES.iter().enumerate() {
        let is_outside = |area: f64| area < least || area > most;
        let candidates = Candidates::new(truths, is_outside);
        positives[range] = candidates.wanted as u64;
        for step in 0..OVERLAPS {
            let matches = candidates.matches(&overlaps, overlap_threshold(step));
            for ((judged, partner), &area) in judged.iter_mut().zip(matches).zip(&areas) {
                let is_ignored = partner.map_or(is_outside(area), |place| place >= candidates.wanted);
                judged.matched[range] |= u16::from(partner.is_some()) << step;
                judged.ignored[range] |= u16::from(is_ignored) << step;
            }
        }
    }
    Judgement { positives, found: judged }
}

/// Intersection over union of each found object (row) with each of the truth (column); with a crowd, over the found object's area.
fn overlaps<S: Shape>(truths: &[&TrueObject<S>], found: &[&FoundObject<S>]) -> Vec<Vec<f64>> {
    let true_areas: Vec<f64> = truths.iter().map(|truth| truth.shape.area()).collect();
    let mut rows = intersections(found, truths);
    for (row, object) in rows.iter_mut().zip(found) {
        let area = object.shape.area();
        for ((value, truth), true_area) in row.iter_mut().zip(truths).zip(&true_areas) {
            if *value > 0.0 {
                *value /= match truth.kind {
                    RegionKind::Crowd => area,
                    RegionKind::Object => area + true_area - *value,
                };
            }
        }
    }
    rows
}

/// The truth of a class in the order in which partners are looked for: what counts, then what is ignored.
struct Candidates {
    /// Place in the list of the truth, and whether it is a crowd.
    order: Vec<(usize, RegionKind)>,
    /// So many of them count.
    wanted: usize,
}

impl Candidates {
    fn new<S: Shape>(truths: &[&TrueObject<S>], is_outside: impl Fn(f64) -> bool) -> Self {
        let is_ignored = |truth: &TrueObject<S>| truth.kind == RegionKind::Crowd || is_outside(truth.area);
        let mut order: Vec<usize> = (0..truths.len()).collect();
        order.sort_by_key(|&index| is_ignored(truths[index]));
        let wanted = truths.iter().filter(|truth| !is_ignored(truth)).count();
        Self { order: order.into_iter().map(|index| (index, truths[index].kind)).collect(), wanted }
    }

    /// The place in `order` that each found object gets, best object first.
    fn matches(&self, overlaps: &[Vec<f64>], threshold: f64) -> Vec<Option<usize>> {
        let mut is_taken = vec![false; self.order.len()];
        let mut partner = |row: &Vec<f64>| {
            let (mut best, mut least) = (None, threshold.min(1.0 - 1e-10));
            for (place, &(index, kind)) in self.order.iter().enumerate() {
                if is_taken[place] && kind == RegionKind::Object {
                    continue;
                }
                // What counts goes before what is ignored, however large the overlap.
                if best.is_some_and(|best| best < self.wanted) && place >= self.wanted {
                    break;
                }
                // Of equal overlaps the last.
                if row[index] >= least {
                    (best, least) = (Some(place), row[index]);
                }
            }
            if let Some(place) = best {
                is_taken[place] = true;
            }
            best
        };
        overlaps.iter().map(&mut partner).collect()
    }
}
