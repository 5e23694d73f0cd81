//! Boxes: COCO's average precision, and the share of right boxes.

use autofocusformer::Detector;

use super::{ClassMap, Evaluation, Evaluator, LabelledImage, SHOWN, detections_that_count, is_thing};
use crate::TrainError;
use crate::data::{DataSet, ResultFiles};
use crate::metrics::{
    AveragePrecision, FoundObject, InstanceReport, ObjectAccuracy, PixelBox, RegionKind, TrueObject,
};
use crate::targets::TargetBox;

pub(super) struct DetectionEvaluator {
    detector: Detector,
    classes: ClassMap,
    precision: AveragePrecision<PixelBox>,
    accuracy: ObjectAccuracy,
}

impl DetectionEvaluator {
    /// For the first images of a data set. Where one of them has more objects than COCO counts, as many are asked for and counted.
    pub(super) fn new(
        mut detector: Detector,
        classes: ClassMap,
        data: &dyn DataSet,
        images: usize,
    ) -> Result<Self, TrainError> {
        let detections = detections_that_count(data, images)?;
        let options = detector.options_mut();
        options.max_detections = options.max_detections.max(detections);
        options.set_threshold(0.0)?;
        let precision = AveragePrecision::new(data.categories().len()).with_max_detections(detections);
        Ok(Self { detector, classes, precision, accuracy: ObjectAccuracy::new(SHOWN) })
    }
}

impl Evaluator for DetectionEvaluator {
    fn add(
        &mut self,
        image: &LabelledImage<'_>,
        results: Option<&mut ResultFiles>,
    ) -> Result<(), TrainError> {
        let target = image.sample.target.to_boxes()?;
        let things = target.boxes().iter().filter(|object| is_thing(image.data, object.class));
        let truths: Vec<_> = things.map(true_object).collect();
        let detections = self.detector.detect(&image.sample.image)?;
        let found = detections.objects().iter().filter_map(|object| {
            Some(FoundObject {
                class: self.classes.of(object.label_id)? as usize,
                shape: pixel_box(object.bbox.map(f64::from)),
                score: f64::from(object.score),
            })
        });
        let found: Vec<_> = found.collect();
        // The place in the data set: numbers of its own may repeat.
        self.precision.add(image.index as u64, &truths, &found)?;
        self.accuracy.add(&truths, &found)?;
        match results {
            Some(results) => results.add_boxes(image.data, image.index, &found),
            None => Ok(()),
        }
    }

    fn finish(self: Box<Self>) -> Evaluation {
        let report = self.precision.report(self.classes.names());
        Evaluation::Detection(InstanceReport { accuracy_at_iou: self.accuracy.figures(), ..report })
    }
}

fn true_object(object: &TargetBox) -> TrueObject<PixelBox> {
    TrueObject {
        class: object.class as usize,
        shape: pixel_box(object.bbox),
        area: object.area,
        kind: RegionKind::from(object.crowd),
    }
}

fn pixel_box([left, top, width, height]: [f64; 4]) -> PixelBox {
    PixelBox { left, top, width, height }
}
