//! Panoptic quality, things and stuff, by the rule of COCO's panoptic API.

use std::collections::{BTreeMap, BTreeSet};

use aff_vision::PanopticMap;
use serde::Serialize;

use super::{MetricError, RegionKind, mean};

/// The id of pixels that belong to no segment.
const VOID: u32 = 0;

/// A segment of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrueSegment {
    /// Its id in the map; not 0.
    pub id: u32,
    /// Its class.
    pub class: usize,
    /// Number of pixels, as the data set states it.
    pub area: u64,
    /// One segment, or a crowd that nobody told apart.
    pub kind: RegionKind,
}

/// The truth of an image.
#[derive(Debug, Clone, Copy)]
pub struct PanopticTruth<'a> {
    /// A segment for each pixel in raster order; 0 is void.
    pub ids: &'a [u32],
    /// The segments.
    pub segments: &'a [TrueSegment],
}

/// Panoptic quality: equal to the panoptic API of COCO, and of Cityscapes, which is the same.
///
/// A segment is found if one of its class overlaps it by more than half (pixels that are void in truth do not count); at most one can. What
/// lies by more than half in void, or in a crowd of its class, is neither right nor wrong. Of several crowds of a class in an image the last
/// counts, as in the API.
///
/// ```
/// use aff_train::{PanopticQuality, PanopticTruth, RegionKind, TrueSegment};
/// use aff_vision::{ImageSize, PanopticMap, SegmentInfo};
///
/// let segments = [TrueSegment { id: 9, class: 0, area: 3, kind: RegionKind::Object }];
/// let info = SegmentInfo { id: 1, label_id: 0, score: 1.0, was_fused: false, area: 2 };
/// let found = PanopticMap::new(ImageSize::new(1, 4), vec![1, 1, 0, 0], vec![info])?;
///
/// let mut quality = PanopticQuality::new(vec![true]);
/// quality.add(PanopticTruth { ids: &[9, 9, 9, 0], segments: &segments }, &found)?;
/// let report = quality.report(&["person".to_owned()]);
/// assert_eq!((report.rq, report.sq, report.pq_stuff), (Some(1.0), Some(2.0 / 3.0), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PanopticQuality {
    /// Whether each class is things.
    is_thing: Vec<bool>,
    counts: Vec<Counts>,
    images: usize,
}

/// What is kept of a class.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    iou_sum: f64,
    found: u64,
    wrong: u64,
    missed: u64,
}

impl PanopticQuality {
    /// No images yet. `is_thing` says of each class whether it is things (told apart one by one) or stuff.
    #[must_use]
    pub fn new(is_thing: Vec<bool>) -> Self {
        let counts = vec![Counts::default(); is_thing.len()];
        Self { is_thing, counts, images: 0 }
    }

    /// Counts an image.
    ///
    /// # Errors
    /// If the maps differ in size, a segment has a class that there is not, or a segment of the truth has the id 0, an id twice or an area
    /// below that of its pixels.
    pub fn add(&mut self, truth: PanopticTruth<'_>, predicted: &PanopticMap) -> Result<(), MetricError> {
        self.check(truth, predicted)?;
        let overlaps = overlaps(truth.ids, predicted.ids());
        let overlap = |true_id, id| overlaps.get(&(true_id, id)).copied().unwrap_or(0);
        let true_segments: BTreeMap<u32, &TrueSegment> =
            truth.segments.iter().map(|segment| (segment.id, segment)).collect();
        let (mut found, mut used) = (BTreeSet::new(), BTreeSet::new());
        for segment in predicted.segments() {
            let class = segment.label_id as usize;
            let candidates = overlaps_of(&overlaps, segment.id, true_segments.values().copied(), class);
            for (own, intersection) in candidates {
                let union = segment.area + own.area - intersection - overlap(VOID, segment.id);
                let iou = intersection as f64 / union as f64;
                if iou > 0.5 {
                    self.counts[class].found += 1;
                    self.counts[class].iou_sum += iou;
                    found.insert(own.id);
                    used.insert(segment.id);
                }
            }
        }
        let mut crowds = BTreeMap::new();
        for segment in truth.segments.iter().filter(|segment| !found.contains(&segment.id)) {
            match segment.kind {
                RegionKind::Crowd => _ = crowds.insert(segment.class, segment.id),
                RegionKind::Object => self.counts[segment.class].missed += 1,
            }
        }
        for segment in predicted.segments().iter().filter(|segment| !used.contains(&segment.id)) {
            let class = segment.label_id as usize;
            let in_crowd = crowds.get(&class).map_or(0, |&crowd| overlap(crowd, segment.id));
            let excused = overlap(VOID, segment.id) + in_crowd;
            self.counts[class].wrong += u64::from(excused as f64 / segment.area as f64 <= 0.5);
        }
        self.images += 1;
        Ok(())
    }

    fn check(&self, truth: PanopticTruth<'_>, predicted: &PanopticMap) -> Result<(), MetricError> {
        let (found, expected) = (predicted.ids().len(), truth.ids.len());
        if found != expected {
            return Err(MetricError::Pixels { found, expected });
        }
        let classes = self.counts.len();
        let refuse = |list, index, problem| Err(MetricError::Object { list, index, problem });
        let mut ids = BTreeSet::from([VOID]);
        let areas = areas(truth.ids);
        for (index, segment) in truth.segments.iter().enumerate() {
            if segment.class >= classes {
                let problem = format!("its class is {}; expected one below {classes}", segment.class);
                return refuse("truth", index, problem);
            }
            if !ids.insert(segment.id) {
                return refuse(
                    "truth",
                    index,
                    format!("its id is {}; expected each id once, from 1", segment.id),
                );
            }
            let pixels = areas.get(&segment.id).copied().unwrap_or(0);
            if segment.area < pixels {
                let problem = format!("its area is {}; {pixels} pixels have its id", segment.area);
                return refuse("truth", index, problem);
            }
        }
        for (index, segment) in predicted.segments().iter().enumerate() {
            if segment.label_id as usize >= classes {
                let problem = format!("its class is {}; expected one below {classes}", segment.label_id);
                return refuse("prediction", index, problem);
            }
        }
        Ok(())
    }

    /// All figures with the names of the classes.
    #[must_use]
    pub fn report(&self, names: &[String]) -> PanopticReport {
        let average = |figure: fn(&Counts) -> Option<f64>, of: &dyn Fn(bool) -> bool| {
            let classes = self.counts.iter().zip(&self.is_thing).filter(|&(_, &is_thing)| of(is_thing));
            mean(classes.map(|(counts, _)| figure(counts)))
        };
        let class = |((name, counts), &is_thing): ((&String, &Counts), &bool)| PanopticClassReport {
            name: name.clone(),
            is_thing,
            pq: counts.pq(),
            sq: counts.sq(),
            rq: counts.rq(),
        };
        PanopticReport {
            images: self.images,
            pq: average(Counts::pq, &|_| true),
            sq: average(Counts::sq, &|_| true),
            rq: average(Counts::rq, &|_| true),
            pq_things: average(Counts::pq, &|is_thing| is_thing),
            pq_stuff: average(Counts::pq, &|is_thing| !is_thing),
            classes: names.iter().zip(&self.counts).zip(&self.is_thing).map(class).collect(),
        }
    }
}

impl Counts {
    /// What the quality is divided by; `None` if the class was neither there nor predicted.
    fn weight(&self) -> Option<f64> {
        let weight = self.found as f64 + 0.5 * self.wrong as f64 + 0.5 * self.missed as f64;
        (weight > 0.0).then_some(weight)
    }

    fn pq(&self) -> Option<f64> {
        self.weight().map(|weight| self.iou_sum / weight)
    }

    fn sq(&self) -> Option<f64> {
        self.weight().map(|_| if self.found == 0 { 0.0 } else { self.iou_sum / self.found as f64 })
    }

    fn rq(&self) -> Option<f64> {
        self.weight().map(|weight| self.found as f64 / weight)
    }
}

/// Pixels by their true and their predicted segment.
fn overlaps(truth: &[u32], predicted: &[u32]) -> BTreeMap<(u32, u32), u64> {
    let mut overlaps = BTreeMap::new();
    let mut at = 0;
    for run in truth.chunk_by(|a, b| a == b) {
        for part in predicted[at..at + run.len()].chunk_by(|a, b| a == b) {
            *overlaps.entry((run[0], part[0])).or_insert(0) += part.len() as u64;
        }
        at += run.len();
    }
    overlaps
}

/// Pixels of each id.
fn areas(ids: &[u32]) -> BTreeMap<u32, u64> {
    let mut areas = BTreeMap::new();
    for run in ids.chunk_by(|a, b| a == b) {
        *areas.entry(run[0]).or_insert(0) += run.len() as u64;
    }
    areas
}

/// The segments of the truth of a class, crowds left out, that a predicted one overlaps, with the overlap.
fn overlaps_of<'a>(
    overlaps: &BTreeMap<(u32, u32), u64>,
    id: u32,
    truths: impl Iterator<Item = &'a TrueSegment>,
    class: usize,
) -> impl Iterator<Item = (&'a TrueSegment, u64)> {
    truths
        .filter(move |truth| truth.class == class && truth.kind == RegionKind::Object)
        .filter_map(move |truth| overlaps.get(&(truth.id, id)).map(|&overlap| (truth, overlap)))
}

/// What an evaluation of a panoptic segmenter found. A figure is `None` (`null`) where no class was there or predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PanopticReport {
    /// Images looked at.
    pub images: usize,
    /// Panoptic quality.
    pub pq: Option<f64>,
    /// Segmentation quality: how well those that were found overlap.
    pub sq: Option<f64>,
    /// Recognition quality: how many were found.
    pub rq: Option<f64>,
    /// [`pq`](Self::pq) of the classes that are things.
    pub pq_things: Option<f64>,
    /// Of the classes that are stuff.
    pub pq_stuff: Option<f64>,
    /// By class.
    pub classes: Vec<PanopticClassReport>,
}

/// What was found for a class of a panoptic segmenter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PanopticClassReport {
    /// Its name.
    pub name: String,
    /// Whether it is things.
    pub is_thing: bool,
    /// Panoptic quality; `None` if it was neither there nor predicted.
    pub pq: Option<f64>,
    /// Segmentation quality.
    pub sq: Option<f64>,
    /// Recognition quality.
    pub rq: Option<f64>,
}
