//! COCO's average precision of masks and of boxes.
//!
//! Within a class, what was found is sorted by score over all images, and each is right if it overlaps an object of the truth that no
//! better one has taken. The precision at 101 recalls is averaged, then over ten overlaps from 0.50 to 0.95, then over the classes.

mod curve;
mod matching;

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use serde::Serialize;

use self::curve::mean_precision;
use self::matching::{AREA_RANGES, Judged, OVERLAPS, judge};
use super::shape::check_objects;
use super::{FoundObject, MetricError, Shape, TrueObject, mean};

/// COCO's average precision, of masks ([`Rle`](aff_vision::Rle)) or of boxes ([`PixelBox`](super::PixelBox)); equal to pycocotools.
///
/// Kept are 40 bytes for each object that was found. Where pycocotools answers -1 (no object of such a size), this answers `None`.
/// Of equal scores those of the image with the lower number come first, and in an image the one given first. Unlike in pycocotools an
/// annotation may have the number 0.
///
/// ```
/// use aff_train::{AveragePrecision, FoundObject, PixelBox, TrueObject};
///
/// let shape = PixelBox { left: 1.0, top: 1.0, width: 4.0, height: 5.0 };
/// let mut precision = AveragePrecision::new(1);
/// precision.add(7, &[TrueObject::new(0, shape)], &[FoundObject { class: 0, shape, score: 0.9 }])?;
/// let report = precision.report(&["nucleus".to_owned()]);
/// assert!(report.ap.is_some_and(|ap| (ap - 1.0).abs() < 1e-9));
/// assert!(report.ap_small.is_some() && report.ap_large.is_none());
/// # Ok::<(), aff_train::MetricError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AveragePrecision<S> {
    /// The most of a class that count in an image.
    max_detections: usize,
    classes: Vec<ClassRecord>,
    images: BTreeSet<u64>,
    shape: PhantomData<fn(S)>,
}

/// What an image has of a class: truth and predictions.
type OfClass<'a, S> = (Vec<&'a TrueObject<S>>, Vec<&'a FoundObject<S>>);

/// What is kept of a class.
#[derive(Debug, Clone, Default)]
struct ClassRecord {
    /// Objects of the truth that are not ignored, by the range of areas.
    positives: [u64; AREA_RANGES.len()],
    found: Vec<Judged>,
}

impl<S: Shape> AveragePrecision<S> {
    /// No images yet; of an image the 100 best of each class count, as in COCO.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self {
            max_detections: 100,
            classes: vec![ClassRecord::default(); classes],
            images: BTreeSet::new(),
            shape: PhantomData,
        }
    }

    /// Lets the best `max_detections` of each class count in an image, where there are more objects than in COCO.
    #[must_use]
    pub fn with_max_detections(mut self, max_detections: usize) -> Self {
        self.max_detections = max_detections;
        self
    }

    /// Counts an image. `image_id` is its number in the data set.
    ///
    /// # Errors
    /// If the image was counted already, or an object has a class that there is not, a shape that is none or of a picture of another
    /// size, an area below 0, or a score that is not a number.
    pub fn add(
        &mut self,
        image_id: u64,
        truths: &[TrueObject<S>],
        found: &[FoundObject<S>],
    ) -> Result<(), MetricError> {
        check_objects(truths, found, self.classes.len())?;
        if !self.images.insert(image_id) {
            return Err(MetricError::RepeatedImage { image_id });
        }
        let mut by_class: BTreeMap<usize, OfClass<'_, S>> = BTreeMap::new();
        for truth in truths {
            by_class.entry(truth.class).or_default().0.push(truth);
        }
        for object in found {
            by_class.entry(object.class).or_default().1.push(object);
        }
        for (class, (truths, mut found)) in by_class {
            // Stable: of equal scores the one given first.
            found.sort_by(|a, b| (b.score + 0.0).total_cmp(&(a.score + 0.0)));
            found.truncate(self.max_detections);
            let judgement = judge(image_id, &truths, &found);
            let record = &mut self.classes[class];
            record.found.extend(judgement.found);
            for (sum, count) in record.positives.iter_mut().zip(judgement.positives) {
                *sum += count;
            }
        }
        Ok(())
    }

    /// All figures with the names of the classes.
    #[must_use]
    pub fn report(&self, names: &[String]) -> InstanceReport {
        let by_class: Vec<[Figures; AREA_RANGES.len()]> =
            self.classes.iter().map(ClassRecord::figures).collect();
        let over_classes = |range: usize, figure: fn(&Figures) -> Option<f64>| {
            mean(by_class.iter().map(|ranges| figure(&ranges[range])))
        };
        let class = |(name, (ranges, record)): (&String, (&[Figures; AREA_RANGES.len()], &ClassRecord))| {
            ApClassReport {
                name: name.clone(),
                ap: ranges[0].all,
                ap_50: ranges[0].at_50,
                objects: record.positives[0],
            }
        };
        InstanceReport {
            images: self.images.len(),
            ap: over_classes(0, |figures| figures.all),
            ap_50: over_classes(0, |figures| figures.at_50),
            ap_75: over_classes(0, |figures| figures.at_75),
            ap_small: over_classes(1, |figures| figures.all),
            ap_medium: over_classes(2, |figures| figures.all),
            ap_large: over_classes(3, |figures| figures.all),
            accuracy_at_iou: BTreeMap::new(),
            classes: names.iter().zip(by_class.iter().zip(&self.classes)).map(class).collect(),
        }
    }
}

/// Figures of a class in a range of areas; `None` without an object.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    all: Option<f64>,
    at_50: Option<f64>,
    at_75: Option<f64>,
}

impl ClassRecord {
    fn figures(&self) -> [Figures; AREA_RANGES.len()] {
        let mut found = self.found.clone();
        // Stable: within an image they are in order.
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.image_id.cmp(&b.image_id)));
        std::array::from_fn(|range| {
            if self.positives[range] == 0 {
                return Figures::default();
            }
            let at = |overlap| mean_precision(&found, range, overlap, self.positives[range]);
            Figures {
                all: mean((0..OVERLAPS).map(|overlap| Some(at(overlap)))),
                at_50: Some(at(0)),
                at_75: Some(at(5)),
            }
        })
    }
}

/// What an evaluation of objects found. A figure is `None` (`null`) where the truth has no object to judge by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceReport {
    /// Images looked at.
    pub images: usize,
    /// Average precision, over overlaps of 0.50 to 0.95.
    pub ap: Option<f64>,
    /// At an overlap of 0.50.
    pub ap_50: Option<f64>,
    /// At an overlap of 0.75.
    pub ap_75: Option<f64>,
    /// [`ap`](Self::ap) of objects of at most 32 x 32 pixels.
    pub ap_small: Option<f64>,
    /// Of 32 x 32 to 96 x 96 pixels.
    pub ap_medium: Option<f64>,
    /// Of 96 x 96 pixels and more.
    pub ap_large: Option<f64>,
    /// [`ObjectAccuracy::figures`](super::ObjectAccuracy::figures), where it was measured.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub accuracy_at_iou: BTreeMap<String, f64>,
    /// By class.
    pub classes: Vec<ApClassReport>,
}

/// What was found for a class of objects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ApClassReport {
    /// Its name.
    pub name: String,
    /// Average precision, over overlaps of 0.50 to 0.95.
    pub ap: Option<f64>,
    /// At an overlap of 0.50.
    pub ap_50: Option<f64>,
    /// Objects of the truth, without crowds.
    pub objects: u64,
}
