//! Cityscapes' average precision of masks.
//!
//! Unlike COCO's: an overlap must exceed its threshold, the curve has a point for each score and is not made to fall, groups and
//! objects of fewer than 100 pixels are ignored by the share of a prediction that lies in them, and so is void.

use std::collections::{BTreeMap, BTreeSet};

use aff_vision::{ImageSize, LabelMap, Rle};

use super::average_precision::InstanceReport;
use super::shape::check_objects;
use super::{ApClassReport, FoundObject, MetricError, RegionKind, TrueObject, mean};

/// Cityscapes' `labelIds` of the 8 classes of objects: person, rider, car, truck, bus, train, motorcycle, bicycle.
pub const CITYSCAPES_INSTANCE_IDS: [u16; 8] = [24, 25, 26, 27, 28, 31, 32, 33];

/// Values of an `instanceIds` picture whose pixels are void.
const VOID_IDS: [u16; 15] = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30];

/// Objects of fewer pixels are ignored.
const LEAST_AREA: u64 = 100;

/// Overlaps at which precision is taken: 0.50 to 0.95.
const OVERLAPS: usize = 10;

/// An overlap; in floating point as the script has it, which decides ties.
fn overlap_threshold(step: usize) -> f64 {
    0.5 + step as f64 * (0.55 - 0.5)
}

/// The truth of an image, as the `instanceIds` picture has it.
#[derive(Debug, Clone, PartialEq)]
pub struct CityscapesTruth {
    /// Objects; those that nobody told apart are crowds. Classes are places in [`CITYSCAPES_INSTANCE_IDS`].
    pub objects: Vec<TrueObject<Rle>>,
    /// Pixels that no prediction is blamed for.
    pub void: Rle,
}

impl CityscapesTruth {
    /// Reads the values of an `instanceIds` picture: the label, or of an object 1000 times the label and its number.
    ///
    /// # Errors
    /// If the picture has 2^32 pixels or more.
    ///
    /// ```
    /// use aff_train::{CityscapesTruth, RegionKind};
    /// use aff_vision::{ImageSize, LabelMap};
    ///
    /// let ids = LabelMap::new(ImageSize::new(1, 5), vec![7, 26_001, 26_001, 26, 3])?;
    /// let truth = CityscapesTruth::new(&ids)?;
    /// assert_eq!(truth.objects.len(), 2);
    /// assert_eq!((truth.objects[0].kind, truth.objects[1].area), (RegionKind::Crowd, 2.0));
    /// assert_eq!(truth.void.area(), 1);
    /// # Ok::<(), aff_vision::VisionError>(())
    /// ```
    pub fn new(instance_ids: &LabelMap) -> Result<Self, aff_vision::VisionError> {
        let size = instance_ids.size();
        let mut masks = masks_by_value(instance_ids)?;
        let mut void = Rle::from_counts(size, &outside(size))?;
        for id in VOID_IDS {
            if let Some(mask) = masks.remove(&id) {
                void = void.union(&mask)?;
            }
        }
        let object = |(id, mask): (u16, Rle)| {
            let label = if id < 1000 { id } else { id / 1000 };
            let class = CITYSCAPES_INSTANCE_IDS.iter().position(|&own| own == label)?;
            let kind = if id < 1000 { RegionKind::Crowd } else { RegionKind::Object };
            Some(TrueObject { class, area: mask.area() as f64, shape: mask, kind })
        };
        Ok(Self { objects: masks.into_iter().filter_map(object).collect(), void })
    }
}

fn outside(size: ImageSize) -> Vec<u32> {
    u32::try_from(size.area()).into_iter().collect()
}

/// The mask of each value.
fn masks_by_value(map: &LabelMap) -> Result<BTreeMap<u16, Rle>, aff_vision::VisionError> {
    let size = map.size();
    let (rows, columns) = (size.height as usize, size.width as usize);
    // End of the last run and the run lengths so far, in column-major order.
    let mut counts: BTreeMap<u16, (usize, Vec<u32>)> = BTreeMap::new();
    let (mut at, mut column) = (0, Vec::with_capacity(rows));
    for x in 0..columns {
        column.clear();
        column.extend((0..rows).map(|y| map.labels()[y * columns + x]));
        for run in column.chunk_by(|a, b| a == b) {
            let (end, counts) = counts.entry(run[0]).or_default();
            counts.extend([(at - *end) as u32, run.len() as u32]);
            at += run.len();
            *end = at;
        }
    }
    let mask = |(value, (end, mut counts)): (u16, (usize, Vec<u32>))| {
        counts.push((at - end) as u32);
        Ok((value, Rle::from_counts(size, &counts)?))
    };
    counts.into_iter().map(mask).collect()
}

/// Cityscapes' average precision: equal to `evalInstanceLevelSemanticLabeling` of cityscapesscripts, without its distances.
///
/// ```
/// use aff_train::{CityscapesAp, CityscapesTruth, FoundObject};
/// use aff_vision::{ImageSize, LabelMap};
///
/// let truth = CityscapesTruth::new(&LabelMap::new(ImageSize::new(10, 20), vec![26_001; 200])?)?;
/// let found = FoundObject { class: 2, shape: truth.objects[0].shape.clone(), score: 0.9 };
/// let mut precision = CityscapesAp::new();
/// precision.add(0, &truth, &[found])?;
/// assert_eq!(precision.report().ap, Some(1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct CityscapesAp {
    classes: [ClassRecord; CITYSCAPES_INSTANCE_IDS.len()],
    images: BTreeSet<u64>,
}

/// What is kept of a class.
#[derive(Debug, Clone, Default)]
struct ClassRecord {
    /// Objects that count.
    objects: u64,
    was_predicted: bool,
    /// Scores of what is right and of what is wrong, and how many objects were missed, by overlap.
    curves: [Curve; OVERLAPS],
}

#[derive(Debug, Clone, Default)]
struct Curve {
    /// Score, and whether it is right.
    found: Vec<(f64, bool)>,
    missed: u64,
}

impl CityscapesAp {
    /// No images yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an image. `image_id` is its number in the data set; classes are places in [`CITYSCAPES_INSTANCE_IDS`].
    ///
    /// # Errors
    /// If the image was counted already, or an object has a class that there is not, a mask of another size, or a score that is not a
    /// number.
    pub fn add(
        &mut self,
        image_id: u64,
        truth: &CityscapesTruth,
        found: &[FoundObject<Rle>],
    ) -> Result<(), MetricError> {
        check_objects(&truth.objects, found, self.classes.len())?;
        for (index, object) in found.iter().enumerate() {
            if object.shape.size() != truth.void.size() {
                let problem =
                    format!("its picture is {}; expected {}", object.shape.size(), truth.void.size());
                return Err(MetricError::Object { list: "prediction", index, problem });
            }
        }
        if !self.images.insert(image_id) {
            return Err(MetricError::RepeatedImage { image_id });
        }
        for (class, record) in self.classes.iter_mut().enumerate() {
            let truths: Vec<Truth<'_>> =
                truth.objects.iter().filter(|object| object.class == class).map(Truth::new).collect();
            let predictions: Vec<Prediction> = found
                .iter()
                .filter(|object| object.class == class && object.shape.area() > 0)
                .map(|object| Prediction::new(object, &truths, &truth.void))
                .collect();
            record.add(&truths, &predictions);
        }
        Ok(())
    }

    /// All figures; the areas of COCO have none here.
    #[must_use]
    pub fn report(&self) -> InstanceReport {
        let names = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"];
        let by_class: Vec<Option<[f64; OVERLAPS]>> =
            self.classes.iter().map(ClassRecord::precisions).collect();
        let of = |figure: fn(&[f64; OVERLAPS]) -> f64| {
            mean(by_class.iter().map(|class| class.as_ref().map(figure)))
        };
        let all = |figures: &[f64; OVERLAPS]| figures.iter().sum::<f64>() / OVERLAPS as f64;
        let classes =
            names.iter().zip(&by_class).zip(&self.classes).map(|((name, figures), record)| ApClassReport {
                name: (*name).to_owned(),
                ap: figures.as_ref().map(all),
                ap_50: figures.map(|figures| figures[0]),
                objects: record.objects,
            });
        InstanceReport {
            images: self.images.len(),
            ap: of(all),
            ap_50: of(|figures| figures[0]),
            ap_75: of(|figures| figures[5]),
            ap_small: None,
            ap_medium: None,
            ap_large: None,
            accuracy_at_iou: BTreeMap::new(),
            classes: classes.collect(),
        }
    }
}

/// A region of the truth, without its pixels.
#[derive(Debug, Clone, Copy)]
struct Truth<'a> {
    mask: &'a Rle,
    area: u64,
    kind: RegionKind,
}

impl<'a> Truth<'a> {
    fn new(object: &'a TrueObject<Rle>) -> Self {
        Self { mask: &object.shape, area: object.shape.area(), kind: object.kind }
    }

    fn is_wanted(&self) -> bool {
        self.kind == RegionKind::Object && self.area >= LEAST_AREA
    }
}

/// What was found, and what it has in common with the truth.
#[derive(Debug)]
struct Prediction {
    score: f64,
    /// Intersection over union with each object of the truth.
    overlaps: Vec<f64>,
    /// Share of it that lies in void, in groups and in small objects.
    ignored: f64,
}

impl Prediction {
    fn new(object: &FoundObject<Rle>, truths: &[Truth<'_>], void: &Rle) -> Self {
        let area = object.shape.area();
        let intersection = |mask: &Rle| object.shape.intersection_area(mask).unwrap_or(0);
        let intersections: Vec<u64> = truths.iter().map(|truth| intersection(truth.mask)).collect();
        let mut ignored = intersection(void);
        let mut overlaps = Vec::with_capacity(truths.len());
        for (truth, &common) in truths.iter().zip(&intersections) {
            overlaps.push(common as f64 / (truth.area + area - common) as f64);
            // A small group counts twice, as in the script.
            let reasons = u64::from(truth.kind == RegionKind::Crowd) + u64::from(truth.area < LEAST_AREA);
            ignored += reasons * common;
        }
        Self { score: object.score + 0.0, overlaps, ignored: ignored as f64 / area as f64 }
    }
}

impl ClassRecord {
    fn add(&mut self, truths: &[Truth<'_>], predictions: &[Prediction]) {
        self.objects += truths.iter().filter(|truth| truth.is_wanted()).count() as u64;
        self.was_predicted |= !predictions.is_empty();
        for (step, curve) in self.curves.iter_mut().enumerate() {
            let threshold = overlap_threshold(step);
            for (index, _) in truths.iter().enumerate().filter(|(_, truth)| truth.is_wanted()) {
                let overlapping =
                    predictions.iter().filter(|prediction| prediction.overlaps[index] > threshold);
                let scores: Vec<f64> = overlapping.map(|prediction| prediction.score).collect();
                let Some(best) = scores.iter().copied().max_by(f64::total_cmp) else {
                    curve.missed += 1;
                    continue;
                };
                // The best is right; all others that overlap enough are wrong.
                curve.found.push((best, true));
                let is_best = scores.iter().position(|&score| score == best);
                let others = scores.iter().enumerate().filter(|&(at, _)| Some(at) != is_best);
                curve.found.extend(others.map(|(_, &score)| (score, false)));
            }
            let is_wrong = |prediction: &&Prediction| {
                !prediction.overlaps.iter().any(|&overlap| overlap > threshold)
                    && prediction.ignored <= threshold
            };
            curve
                .found
                .extend(predictions.iter().filter(is_wrong).map(|prediction| (prediction.score, false)));
        }
    }

    /// Average precision by overlap; `None` without an object that counts.
    fn precisions(&self) -> Option<[f64; OVERLAPS]> {
        if self.objects == 0 {
            return None;
        }
        Some(std::array::from_fn(|step| if self.was_predicted { self.curves[step].area() } else { 0.0 }))
    }
}

impl Curve {
    /// Area under the curve of precision over recall, by the script's rule: half the way to the points on both sides.
    fn area(&self) -> f64 {
        let mut found = self.found.clone();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all = found.iter().filter(|pair| pair.1).count() as u64 + self.missed;
        // From the highest score down; before it precision is 1 and recall 0.
        let (mut recalls, mut precisions) = (vec![0.0], vec![1.0]);
        let (mut right, mut count) = (0u64, 0u64);
        for equal in found.chunk_by(|a, b| a.0 == b.0) {
            right += equal.iter().filter(|pair| pair.1).count() as u64;
            count += equal.len() as u64;
            recalls.push(right as f64 / all as f64);
            precisions.push(right as f64 / count as f64);
        }
        let at = |index: usize| recalls[index.min(recalls.len() - 1)];
        let width = |index: usize| 0.5 * (at(index + 1) - at(index.saturating_sub(1)));
        precisions.iter().enumerate().map(|(index, precision)| precision * width(index)).sum()
    }
}
