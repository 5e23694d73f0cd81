//! What networks are trained for.

mod classification;
mod detection;
mod mask_classification;
mod task;
mod trainee;
mod validation;

use std::fmt;

use aff_model::config::SegmentationTask;
use serde::{Deserialize, Serialize};

use crate::TrainError;

pub use classification::Classification;
pub use detection::Detection;
pub use mask_classification::MaskClassification;
pub use task::{Task, TaskSetup, Update};
pub use validation::{Better, Validation};

/// What a network is trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TaskName {
    /// A label for an image.
    Classification,
    /// A class for every pixel.
    #[default]
    Semantic,
    /// A mask for every object.
    Instance,
    /// A segment for every pixel, each object its own.
    Panoptic,
    /// A box for every object.
    Detection,
}

impl TaskName {
    /// The same in the words of a model's configuration; `None` for classification and detection.
    pub fn segmentation(self) -> Option<SegmentationTask> {
        match self {
            Self::Classification | Self::Detection => None,
            Self::Semantic => Some(SegmentationTask::Semantic),
            Self::Instance => Some(SegmentationTask::Instance),
            Self::Panoptic => Some(SegmentationTask::Panoptic),
        }
    }

    /// The task of a recipe.
    ///
    /// # Errors
    /// If the recipe describes no such model, or data cannot be read.
    pub fn build(self, setup: &TaskSetup<'_>) -> Result<Box<dyn Task>, TrainError> {
        Ok(match self {
            Self::Classification => Box::new(Classification::new(setup)?),
            Self::Detection => Box::new(Detection::new(setup)?),
            Self::Semantic | Self::Instance | Self::Panoptic => Box::new(MaskClassification::new(setup)?),
        })
    }
}

impl From<SegmentationTask> for TaskName {
    fn from(task: SegmentationTask) -> Self {
        match task {
            SegmentationTask::Semantic => Self::Semantic,
            SegmentationTask::Instance => Self::Instance,
            SegmentationTask::Panoptic => Self::Panoptic,
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classification => "classification",
            Self::Semantic => "semantic",
            Self::Instance => "instance",
            Self::Panoptic => "panoptic",
            Self::Detection => "detection",
        })
    }
}
