//! A model on labelled data, through the pipeline that users run.

use aff_model::config::SegmentationTask;
use aff_vision::{LabelMap, Rle};
use autofocusformer::{Classifier, Segmenter, Segments};
use serde::Serialize;

use crate::TrainError;
use crate::data::{CategoryKind, DataSet};
use crate::metrics::{
    AveragePrecision, ClassificationReport, ConfusionMatrix, FoundObject, InstanceReport, ObjectAccuracy,
    PanopticQuality, PanopticReport, PanopticTruth, RegionKind, SemanticReport, TopK, TrueObject,
    TrueSegment,
};
use crate::targets::{Crowd, IGNORED, SegmentTarget};
use crate::tasks::{Better, Validation};

/// Least score of an object that counts in TP / (TP + FP + FN).
const SHOWN: f64 = 0.5;

/// What an evaluation found, by its task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Evaluation {
    /// Of classifiers.
    Classification(ClassificationReport),
    /// Of semantic segmentation.
    Semantic(SemanticReport),
    /// Of instance segmentation.
    Instance(InstanceReport),
    /// Of panoptic segmentation.
    Panoptic(PanopticReport),
}

/// Segments every image of a data set at its own size and compares; `observe` is told the number of each image that is done.
///
/// # Errors
/// If an image cannot be read, the network fails, or the segmenter's classes are not the data set's.
pub fn evaluate(
    segmenter: &Segmenter,
    data_set: &dyn DataSet,
    mut observe: impl FnMut(usize),
) -> Result<SemanticReport, TrainError> {
    let names = class_names(segmenter, data_set)?;
    let segmenter = for_task(segmenter, SegmentationTask::Semantic);
    let mut counts = ConfusionMatrix::new(names.len());
    for index in 0..data_set.len() {
        let sample = data_set.load(index)?;
        if let Segments::Semantic(map) = segmenter.segment(&sample.image)?.result() {
            counts.add(sample.target.to_label_map()?.labels(), map.labels());
        }
        observe(index);
    }
    Ok(counts.report(&names, data_set.len()))
}

/// As [`evaluate`], of any of the three segmentation tasks.
///
/// # Errors
/// The same; or if the data have no targets for the task.
pub fn evaluate_segmenter(
    segmenter: &Segmenter,
    data_set: &dyn DataSet,
    task: SegmentationTask,
    observe: impl FnMut(usize),
) -> Result<Evaluation, TrainError> {
    Ok(match task {
        SegmentationTask::Semantic => Evaluation::Semantic(evaluate(segmenter, data_set, observe)?),
        SegmentationTask::Instance => Evaluation::Instance(evaluate_instances(segmenter, data_set, observe)?),
        SegmentationTask::Panoptic => Evaluation::Panoptic(evaluate_panoptic(segmenter, data_set, observe)?),
    })
}

/// Classifies every image of a data set; `observe` is told the number of each image that is done.
///
/// # Errors
/// If an image cannot be read, the network fails, or there are more classes in the data than the classifier has.
pub fn evaluate_classifier(
    classifier: &Classifier,
    data_set: &dyn DataSet,
    mut observe: impl FnMut(usize),
) -> Result<ClassificationReport, TrainError> {
    let classes = data_set.categories().len();
    let mut counts = TopK::default();
    for index in 0..data_set.len() {
        let sample = data_set.load(index)?;
        let mut scores = vec![0.0; classes];
        for found in classifier.classify(&sample.image, usize::MAX)? {
            match scores.get_mut(found.label_id as usize) {
                Some(score) => *score = found.score,
                None => {
                    let expected = format!("the {classes} classes of the data set");
                    return Err(TrainError::value("id2label", found.label_id, expected));
                }
            }
        }
        counts.add(&scores, sample.target.class()?.most_probable() as usize);
        observe(index);
    }
    Ok(counts.report())
}

fn evaluate_instances(
    segmenter: &Segmenter,
    data_set: &dyn DataSet,
    mut observe: impl FnMut(usize),
) -> Result<InstanceReport, TrainError> {
    let names = class_names(segmenter, data_set)?;
    let mut segmenter = for_task(segmenter, SegmentationTask::Instance);
    segmenter.options_mut().set_threshold(0.0)?;
    let mut precision = AveragePrecision::<Rle>::new(names.len());
    let mut accuracy = ObjectAccuracy::new(SHOWN);
    for index in 0..data_set.len() {
        let sample = data_set.load(index)?;
        let truths = true_objects(&sample.target.to_segments()?, data_set)?;
        if let Segments::Instance(found) = segmenter.segment(&sample.image)?.result() {
            let found: Vec<_> = found
                .iter()
                .map(|object| FoundObject {
                    class: object.label_id as usize,
                    shape: object.mask.clone(),
                    score: f64::from(object.score),
                })
                .collect();
            // The place in the data set: numbers of its own may repeat.
            precision.add(index as u64, &truths, &found)?;
            accuracy.add(&truths, &found)?;
        }
        observe(index);
    }
    Ok(InstanceReport { accuracy_at_iou: accuracy.figures(), ..precision.report(&names) })
}

/// The countable segments of a target.
fn true_objects(target: &SegmentTarget, data_set: &dyn DataSet) -> Result<Vec<TrueObject<Rle>>, TrainError> {
    let is_thing = |class: u32| {
        let category = data_set.categories().get(class as usize);
        category.is_none_or(|category| category.kind == CategoryKind::Thing)
    };
    let objects = target.segments().iter().enumerate().filter(|(_, segment)| is_thing(segment.class));
    objects
        .map(|(index, segment)| {
            Ok(TrueObject {
                class: segment.class as usize,
                shape: target.mask(index)?.into_owned(),
                area: target.area(index),
                kind: kind(segment.crowd),
            })
        })
        .collect()
}

fn kind(crowd: Crowd) -> RegionKind {
    match crowd {
        Crowd::Single => RegionKind::Object,
        Crowd::Crowd => RegionKind::Crowd,
    }
}

fn evaluate_panoptic(
    segmenter: &Segmenter,
    data_set: &dyn DataSet,
    mut observe: impl FnMut(usize),
) -> Result<PanopticReport, TrainError> {
    let names = class_names(segmenter, data_set)?;
    let segmenter = for_task(segmenter, SegmentationTask::Panoptic);
    let is_thing = data_set.categories().iter().map(|category| category.kind == CategoryKind::Thing);
    let mut quality = PanopticQuality::new(is_thing.collect());
    for index in 0..data_set.len() {
        let sample = data_set.load(index)?;
        let target = sample.target.to_segments()?;
        let ids = segment_ids(target.map().ok_or_else(|| TrainError::Target {
            problem: "has masks that may overlap; expected one segment at most for each pixel".to_owned(),
        })?);
        let segments = target.segments().iter().enumerate().map(|(index, segment)| TrueSegment {
            id: index as u32 + 1,
            class: segment.class as usize,
            area: target.area(index) as u64,
            kind: kind(segment.crowd),
        });
        let segments: Vec<_> = segments.collect();
        if let Segments::Panoptic(found) = segmenter.segment(&sample.image)?.result() {
            quality.add(PanopticTruth { ids: &ids, segments: &segments }, found)?;
        }
        observe(index);
    }
    Ok(quality.report(&names))
}

/// Numbers from 1; 0 where there is no segment.
fn segment_ids(map: &LabelMap) -> Vec<u32> {
    map.labels().iter().map(|&label| if label == IGNORED { 0 } else { u32::from(label) + 1 }).collect()
}

/// The data set's classes, which must be the segmenter's.
fn class_names(segmenter: &Segmenter, data_set: &dyn DataSet) -> Result<Vec<String>, TrainError> {
    let classes = data_set.class_names();
    if segmenter.labels() == classes {
        return Ok(classes);
    }
    let found = format!("{} classes, {:?} ...", segmenter.labels().len(), segmenter.labels().first());
    let expected = format!("those of the data set: {}", classes.join(", "));
    Err(TrainError::value("id2label", found, expected))
}

fn for_task(segmenter: &Segmenter, task: SegmentationTask) -> Segmenter {
    let mut segmenter = segmenter.clone();
    segmenter.options_mut().task = task;
    segmenter
}

impl Evaluation {
    /// The figures of a validation, and the one that decides: mean IoU, AP, PQ, or top-1.
    pub fn validation(&self) -> Validation {
        let some = |metrics: &[(&str, Option<f64>)]| {
            metrics
                .iter()
                .filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?)))
                .collect::<Vec<_>>()
        };
        let (decides, metrics, details) = match self {
            Self::Classification(report) => {
                let metrics = [("top1", Some(report.top1)), ("top5", Some(report.top5))];
                ("top1", some(&metrics), serde_json::Value::Null)
            }
            Self::Semantic(report) => {
                let metrics = [
                    ("mean_iou", Some(report.mean_iou)),
                    ("pixel_accuracy", Some(report.pixel_accuracy)),
                    ("mean_accuracy", Some(report.mean_accuracy)),
                ];
                ("mean_iou", some(&metrics), serde_json::json!({ "classes": report.classes }))
            }
            Self::Instance(report) => {
                let metrics = [("ap", report.ap), ("ap_50", report.ap_50), ("ap_75", report.ap_75)];
                let details = serde_json::json!({
                    "classes": report.classes, "accuracy_at_iou": report.accuracy_at_iou
                });
                ("ap", some(&metrics), details)
            }
            Self::Panoptic(report) => {
                let metrics = [
                    ("pq", report.pq),
                    ("sq", report.sq),
                    ("rq", report.rq),
                    ("pq_things", report.pq_things),
                    ("pq_stuff", report.pq_stuff),
                ];
                ("pq", some(&metrics), serde_json::json!({ "classes": report.classes }))
            }
        };
        Validation { details, ..Validation::new(decides, Better::Higher, metrics) }
    }
}
