//! How predictions become segments.

use serde::{Deserialize, Serialize};

use super::{ConfigError, limits};

/// What a segmentation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentationTask {
    /// One class for every pixel.
    Semantic,
    /// One mask for every object.
    Instance,
    /// Both at once, without overlap.
    Panoptic,
}

/// How predictions become segments: section 9 of the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SegmentationConfig {
    /// The task that the weights were trained for.
    pub task: SegmentationTask,
    /// Class indices of countable objects; all others are amorphous ("stuff").
    pub thing_ids: Vec<usize>,
    /// Least class score of a panoptic segment.
    pub threshold: f64,
    /// Mask probability from which a pixel belongs to a panoptic segment.
    pub mask_threshold: f64,
    /// Least share of its mask that a panoptic segment must win.
    pub overlap_threshold: f64,
    /// Most instances that an image gets.
    pub max_instances: usize,
    /// Whether semantic masks are brought to the source size before classes are summed, or after.
    pub semantic_order: SemanticOrder,
}

/// When masks are resized in semantic segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SemanticOrder {
    /// Sum over the queries at the size of the network's input, then resize the class maps.
    SumThenResize,
    /// Resize the masks to the source, then sum over the queries.
    ResizeThenSum,
}

impl SegmentationConfig {
    /// The settings of most published segmenters for a task; no class is countable.
    pub fn new(task: SegmentationTask) -> Self {
        Self {
            task,
            thing_ids: Vec::new(),
            threshold: 0.8,
            mask_threshold: 0.5,
            overlap_threshold: 0.8,
            max_instances: 100,
            semantic_order: SemanticOrder::SumThenResize,
        }
    }

    pub(super) fn validate(&self, num_classes: usize) -> Result<(), ConfigError> {
        if let Some(id) = self.thing_ids.iter().find(|&&id| id >= num_classes) {
            let expected = format!("class indices below {num_classes}");
            return Err(ConfigError::value("segmentation_config.thing_ids", expected, id));
        }
        limits::count("segmentation_config.max_instances", self.max_instances, limits::SEGMENTS)?;
        for (name, value) in [
            ("threshold", self.threshold),
            ("mask_threshold", self.mask_threshold),
            ("overlap_threshold", self.overlap_threshold),
        ] {
            limits::number(format!("segmentation_config.{name}"), value, [0.0, 1.0])?;
        }
        Ok(())
    }
}
