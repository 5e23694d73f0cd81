//! Settings of a segmenter, before it is loaded.

use std::path::{Path, PathBuf};

use aff_model::config::SegmentationTask;
use candle_core::{DType, Device};

use crate::{Error, Model, Place, Segmenter};

/// Settings that a [`Segmenter`] is built with; what is not set is as the model's folder says.
///
/// ```
/// use autofocusformer::{Segmenter, models::config::SegmentationTask};
///
/// // Random weights: the segments mean nothing.
/// let segmenter = Segmenter::builder("random:aff-mini-coco-instance")
///     .task(SegmentationTask::Panoptic)
///     .threshold(0.7)
///     .shortest_edge(320)
///     .classes(["person", "car"])
///     .build()?;
/// assert_eq!(segmenter.options().threshold, Some(0.7));
/// assert_eq!(segmenter.image_size().shortest_edge, 320);
/// assert_eq!(segmenter.options().classes.as_deref(), Some([0, 2].as_slice()));
/// # Ok::<(), autofocusformer::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct SegmenterBuilder {
    model: PathBuf,
    revision: String,
    place: Place,
    task: Option<SegmentationTask>,
    threshold: Option<f32>,
    mask_threshold: Option<f32>,
    overlap_threshold: Option<f32>,
    shortest_edge: Option<u32>,
    classes: Option<Vec<String>>,
}

impl SegmenterBuilder {
    pub(crate) fn new(model: &Path) -> Self {
        Self {
            model: model.to_path_buf(),
            revision: "main".to_owned(),
            place: Place::from(&Device::Cpu),
            task: None,
            threshold: None,
            mask_threshold: None,
            overlap_threshold: None,
            shortest_edge: None,
            classes: None,
        }
    }

    /// Branch, tag or commit of a model on the hub.
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Device to compute on; the CPU unless set.
    pub fn device(mut self, device: &Device) -> Self {
        self.place.device = device.clone();
        self
    }

    /// Type of the numbers to compute in; `F32` unless set.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.place.dtype = dtype;
        self
    }

    /// What is asked for.
    pub fn task(mut self, task: SegmentationTask) -> Self {
        self.task = Some(task);
        self
    }

    /// Least score of an instance or panoptic segment, 0 to 1.
    pub fn threshold(mut self, threshold: f32) -> Self {
        self.threshold = Some(threshold);
        self
    }

    /// Mask probability from which a pixel belongs to an instance or panoptic segment, 0 to 1.
    pub fn mask_threshold(mut self, threshold: f32) -> Self {
        self.mask_threshold = Some(threshold);
        self
    }

    /// Least share of its mask that a panoptic segment must win, 0 to 1.
    pub fn overlap_threshold(mut self, threshold: f32) -> Self {
        self.overlap_threshold = Some(threshold);
        self
    }

    /// Pixels of the shorter edge of what the network sees. The longest edge allowed grows in proportion.
    pub fn shortest_edge(mut self, pixels: u32) -> Self {
        self.shortest_edge = Some(pixels);
        self
    }

    /// Names of the classes to show; all unless set.
    pub fn classes(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.classes = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// What [`Segmenter::from_pretrained`] returns; [`Error::UnknownClass`] for a class that the model does not know,
    /// [`Error::Vision`] for an edge without pixels.
    pub fn build(self) -> Result<Segmenter, Error> {
        let model = Model::from_pretrained_at(&self.model, &self.revision, &self.place)?;
        let mut segmenter = Segmenter::try_from(model)?;
        if let Some(pixels) = self.shortest_edge {
            segmenter.set_shortest_edge(pixels)?;
        }
        if let Some(names) = &self.classes {
            segmenter.set_classes(names)?;
        }
        let options = segmenter.options_mut();
        options.task = self.task.unwrap_or(options.task);
        options.threshold = self.threshold.or(options.threshold);
        options.mask_threshold = self.mask_threshold.unwrap_or(options.mask_threshold);
        options.overlap_threshold = self.overlap_threshold.unwrap_or(options.overlap_threshold);
        Ok(segmenter)
    }
}
