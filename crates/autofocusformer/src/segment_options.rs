//! What a photo is segmented into.

use aff_model::config::{SegmentationConfig, SegmentationTask};

use crate::Error;
use crate::settings::probability;

/// What a photo is segmented into. Starts as the model's folder says; thresholds are checked when they are set.
///
/// ```
/// use autofocusformer::Segmenter;
///
/// let mut segmenter = Segmenter::builder("random:aff-mini-coco-instance").build()?;
/// let options = segmenter.options_mut();
/// options.set_threshold(0.7)?;
/// let error = options.set_mask_threshold(f32::NAN).unwrap_err();
/// assert_eq!(error.to_string(), "`mask_threshold` is NaN; expected a number from 0 to 1");
/// assert_eq!(options.threshold(), Some(0.7));
/// # Ok::<(), autofocusformer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SegmentOptions {
    /// What is asked for; any model can do all three, and does best what it was trained for.
    pub task: SegmentationTask,
    /// Most instances of a photo.
    pub max_instances: usize,
    threshold: Option<f32>,
    mask_threshold: f32,
    overlap_threshold: f32,
    pub(crate) classes: Option<Vec<u32>>,
}

impl SegmentOptions {
    pub(crate) fn new(config: &SegmentationConfig) -> Self {
        Self {
            task: config.task,
            max_instances: config.max_instances,
            threshold: None,
            mask_threshold: config.mask_threshold as f32,
            overlap_threshold: config.overlap_threshold as f32,
            classes: None,
        }
    }

    /// Least score of an instance or panoptic segment. Where it was not set, 0.5 counts for instances and what the
    /// model's folder says for panoptic segments.
    pub fn threshold(&self) -> Option<f32> {
        self.threshold
    }

    /// Sets the least score of an instance or panoptic segment.
    ///
    /// # Errors
    /// [`Error::Option`] for a number outside 0 to 1.
    pub fn set_threshold(&mut self, threshold: f32) -> Result<(), Error> {
        self.threshold = Some(probability("threshold", threshold)?);
        Ok(())
    }

    /// Mask probability from which a pixel belongs to an instance or panoptic segment.
    pub fn mask_threshold(&self) -> f32 {
        self.mask_threshold
    }

    /// Sets the mask probability from which a pixel belongs to an instance or panoptic segment.
    ///
    /// # Errors
    /// [`Error::Option`] for a number outside 0 to 1.
    pub fn set_mask_threshold(&mut self, threshold: f32) -> Result<(), Error> {
        self.mask_threshold = probability("mask_threshold", threshold)?;
        Ok(())
    }

    /// Least share of its mask that a panoptic segment must win.
    pub fn overlap_threshold(&self) -> f32 {
        self.overlap_threshold
    }

    /// Sets the least share of its mask that a panoptic segment must win.
    ///
    /// # Errors
    /// [`Error::Option`] for a number outside 0 to 1.
    pub fn set_overlap_threshold(&mut self, threshold: f32) -> Result<(), Error> {
        self.overlap_threshold = probability("overlap_threshold", threshold)?;
        Ok(())
    }

    /// The classes that are shown, by index; all without them. Set by name with
    /// [`Segmenter::set_classes`](crate::Segmenter::set_classes). In a semantic map the pixels of all others become
    /// [`Segmentation::VOID`](crate::Segmentation::VOID).
    pub fn classes(&self) -> Option<&[u32]> {
        self.classes.as_deref()
    }
}
