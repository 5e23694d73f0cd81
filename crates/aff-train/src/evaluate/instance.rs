//! Objects: average precision by the rules of the data set, and the share of right objects.

use aff_model::config::SegmentationTask;
use aff_vision::{InstanceMask, Rle};
use autofocusformer::{Segmenter, Segments};

use super::{
    ClassMap, Evaluation, Evaluator, LabelledImage, SHOWN, detections_that_count, is_thing, other_task,
};
use crate::TrainError;
use crate::data::{DataSet, Protocol, ResultFiles};
use crate::metrics::{
    AveragePrecision, CityscapesAp, FoundObject, InstanceReport, ObjectAccuracy, RegionKind, TrueObject,
};
use crate::targets::SegmentTarget;

pub(super) struct InstanceEvaluator {
    segmenter: Segmenter,
    classes: ClassMap,
    precision: Precision,
    accuracy: ObjectAccuracy,
}

/// By whose rules objects are right.
enum Precision {
    Coco(AveragePrecision<Rle>),
    Cityscapes(Box<CityscapesAp>),
}

impl InstanceEvaluator {
    /// For the first images of a data set. Where one of them has more objects than COCO counts, as many are asked for and counted.
    pub(super) fn new(
        mut segmenter: Segmenter,
        classes: ClassMap,
        data: &dyn DataSet,
        images: usize,
    ) -> Result<Self, TrainError> {
        let precision = match data.protocol() {
            Protocol::Coco => {
                let detections = detections_that_count(data, images)?;
                let asked = segmenter.options().max_instances.max(detections);
                segmenter.options_mut().max_instances = asked;
                let precision = AveragePrecision::new(data.categories().len());
                Precision::Coco(precision.with_max_detections(detections))
            }
            Protocol::Cityscapes => Precision::Cityscapes(Box::default()),
        };
        segmenter.options_mut().task = SegmentationTask::Instance;
        segmenter.options_mut().set_threshold(0.0)?;
        Ok(Self { segmenter, classes, precision, accuracy: ObjectAccuracy::new(SHOWN) })
    }

    /// The objects in the classes of the data.
    fn renamed(&self, found: &[InstanceMask]) -> Vec<InstanceMask> {
        let object = |object: &InstanceMask| {
            Some(InstanceMask { label_id: self.classes.of(object.label_id)?, ..object.clone() })
        };
        found.iter().filter_map(object).collect()
    }
}

impl Evaluator for InstanceEvaluator {
    fn add(
        &mut self,
        image: &LabelledImage<'_>,
        results: Option<&mut ResultFiles>,
    ) -> Result<(), TrainError> {
        let truths = true_objects(&image.sample.target.to_segments()?, image.data)?;
        let segmentation = self.segmenter.segment(&image.sample.image)?;
        let Segments::Instance(found) = segmentation.result() else { return Err(other_task()) };
        let found = self.renamed(found);
        let objects: Vec<_> = found
            .iter()
            .map(|object| FoundObject {
                class: object.label_id as usize,
                shape: object.mask.clone(),
                score: f64::from(object.score),
            })
            .collect();
        // The place in the data set: numbers of its own may repeat.
        let number = image.index as u64;
        match &mut self.precision {
            Precision::Coco(precision) => precision.add(number, &truths, &objects)?,
            Precision::Cityscapes(precision) => {
                let truth = image.data.cityscapes_truth(image.index)?;
                let missing =
                    || TrainError::evaluation("the data set has no truth as Cityscapes' figures need it");
                precision.add(number, &truth.ok_or_else(missing)?, &objects)?;
            }
        }
        self.accuracy.add(&truths, &objects)?;
        match results {
            Some(results) => results.add_instances(image.data, image.index, &found),
            None => Ok(()),
        }
    }

    fn finish(self: Box<Self>) -> Evaluation {
        let report = match &self.precision {
            Precision::Coco(precision) => precision.report(self.classes.names()),
            Precision::Cityscapes(precision) => precision.report(),
        };
        Evaluation::Instance(InstanceReport { accuracy_at_iou: self.accuracy.figures(), ..report })
    }
}

/// The countable segments of a target.
fn true_objects(target: &SegmentTarget, data: &dyn DataSet) -> Result<Vec<TrueObject<Rle>>, TrainError> {
    let objects = target.segments().iter().enumerate().filter(|(_, segment)| is_thing(data, segment.class));
    objects
        .map(|(index, segment)| {
            Ok(TrueObject {
                class: segment.class as usize,
                shape: target.mask(index)?.into_owned(),
                area: target.area(index),
                kind: RegionKind::from(segment.crowd),
            })
        })
        .collect()
}
