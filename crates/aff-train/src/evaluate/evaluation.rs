//! What an evaluation found, and what of it a validation shows.

use serde::Serialize;

use crate::metrics::{ClassificationReport, InstanceReport, PanopticReport, SemanticReport};
use crate::tasks::{Better, Validation};

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
    /// Of detection: the figures are of boxes.
    Detection(InstanceReport),
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
            Self::Instance(report) | Self::Detection(report) => {
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
