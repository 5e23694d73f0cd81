//! Network outputs to segments at the size of the source.
//!
//! Masks come at stride 4 of the padded input. They are upsampled bilinearly to the padded input, cropped to the content
//! and resized to the source, here in one step (see [`axis`]) and never for all queries at once.

mod axis;
mod band;
mod boxes;
mod instance;
mod panoptic;
mod prediction;
mod semantic;
mod sigmoid;

#[cfg(test)]
mod reference;

pub use boxes::{BoxParts, DetectedBox, DetectionOptions, detections};
pub use instance::{InstanceMask, InstanceOptions, instances};
pub use panoptic::{PanopticOptions, panoptic};
pub use prediction::{Prediction, PredictionParts};
pub use semantic::{ScoredLabelMap, SumResolution, semantic};

use crate::VisionError;

fn check_probability(name: &'static str, value: f32) -> Result<(), VisionError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(VisionError::option(name, &value, "0 to 1")) }
}
