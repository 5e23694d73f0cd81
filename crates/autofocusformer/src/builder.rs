//! Settings of a segmenter, before it is built.

use std::path::{Path, PathBuf};

use aff_model::config::SegmentationTask;

use crate::{Error, Model, ModelLoader, Segmenter};

/// What a [`SegmenterBuilder`] builds on: a model in memory, or one that is still to be loaded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ModelSource {
    /// A model in memory.
    Loaded(Box<Model>),
    /// A model by name, with how to load it.
    Named(ModelLoader),
}

impl From<Model> for ModelSource {
    fn from(model: Model) -> Self {
        Self::Loaded(Box::new(model))
    }
}

impl From<ModelLoader> for ModelSource {
    fn from(loader: ModelLoader) -> Self {
        Self::Named(loader)
    }
}

impl From<&Path> for ModelSource {
    fn from(name: &Path) -> Self {
        Self::Named(Model::loader(name))
    }
}

impl From<PathBuf> for ModelSource {
    fn from(name: PathBuf) -> Self {
        Self::from(name.as_path())
    }
}

impl From<&str> for ModelSource {
    fn from(name: &str) -> Self {
        Self::from(Path::new(name))
    }
}

impl From<String> for ModelSource {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

/// Settings that a [`Segmenter`] is built with; what is not set is as the model's folder says.
///
/// ```
/// use autofocusformer::{DType, Model, Segmenter, models::config::SegmentationTask};
///
/// // Random weights: the segments mean nothing.
/// let segmenter = Segmenter::builder("random:aff-mini-coco-instance")
///     .task(SegmentationTask::Panoptic)
///     .threshold(0.7)
///     .shortest_edge(320)
///     .classes(["person", "car"])
///     .build()?;
/// assert_eq!(segmenter.options().threshold(), Some(0.7));
/// assert_eq!(segmenter.image_size().shortest_edge, 320);
/// assert_eq!(segmenter.options().classes(), Some([0, 2].as_slice()));
///
/// // What is wrong is found before anything is loaded.
/// let error = Segmenter::builder("no/such/folder").threshold(7.0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`threshold` is 7; expected a number from 0 to 1");
///
/// // A model that is in memory, or one that is loaded in another way.
/// let model = Model::loader("random:aff-mini-coco-instance").dtype(DType::F64).load()?;
/// let segmenter = Segmenter::builder(model).mask_threshold(0.4).build()?;
/// assert_eq!(segmenter.options().mask_threshold(), 0.4);
/// # Ok::<(), autofocusformer::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct SegmenterBuilder {
    model: ModelSource,
    task: Option<SegmentationTask>,
    threshold: Option<f32>,
    mask_threshold: Option<f32>,
    overlap_threshold: Option<f32>,
    shortest_edge: Option<u32>,
    classes: Option<Vec<String>>,
    /// The first setting that was refused.
    refused: Option<(&'static str, f32)>,
}

impl SegmenterBuilder {
    pub(crate) fn new(model: ModelSource) -> Self {
        Self {
            model,
            task: None,
            threshold: None,
            mask_threshold: None,
            overlap_threshold: None,
            shortest_edge: None,
            classes: None,
            refused: None,
        }
    }

    /// What is asked for.
    pub fn task(mut self, task: SegmentationTask) -> Self {
        self.task = Some(task);
        self
    }

    /// Least score of an instance or panoptic segment, 0 to 1.
    pub fn threshold(mut self, threshold: f32) -> Self {
        self.threshold = self.probability("threshold", threshold);
        self
    }

    /// Mask probability from which a pixel belongs to an instance or panoptic segment, 0 to 1.
    pub fn mask_threshold(mut self, threshold: f32) -> Self {
        self.mask_threshold = self.probability("mask_threshold", threshold);
        self
    }

    /// Least share of its mask that a panoptic segment must win, 0 to 1.
    pub fn overlap_threshold(mut self, threshold: f32) -> Self {
        self.overlap_threshold = self.probability("overlap_threshold", threshold);
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

    /// Loads the model, unless it is in memory, and applies the settings.
    ///
    /// # Errors
    /// [`Error::Option`] for a threshold outside 0 to 1, before anything is loaded; what [`Segmenter::from_pretrained`]
    /// returns; [`Error::UnknownClass`] for a class that the model does not know, [`Error::Vision`] for an edge without
    /// pixels.
    pub fn build(self) -> Result<Segmenter, Error> {
        if let Some((name, value)) = self.refused {
            return Err(Error::not_a_probability(name, value));
        }
        let model = match self.model {
            ModelSource::Loaded(model) => *model,
            ModelSource::Named(loader) => loader.load()?,
        };
        let mut segmenter = Segmenter::try_from(model)?;
        if let Some(pixels) = self.shortest_edge {
            segmenter.set_shortest_edge(pixels)?;
        }
        if let Some(names) = &self.classes {
            segmenter.set_classes(names)?;
        }
        let options = segmenter.options_mut();
        options.task = self.task.unwrap_or(options.task);
        if let Some(threshold) = self.threshold {
            options.set_threshold(threshold)?;
        }
        if let Some(threshold) = self.mask_threshold {
            options.set_mask_threshold(threshold)?;
        }
        if let Some(threshold) = self.overlap_threshold {
            options.set_overlap_threshold(threshold)?;
        }
        Ok(segmenter)
    }

    /// Notes a value that is none for [`Self::build`] to refuse.
    fn probability(&mut self, name: &'static str, value: f32) -> Option<f32> {
        if self.refused.is_none() && !(0.0..=1.0).contains(&value) {
            self.refused = Some((name, value));
        }
        Some(value)
    }
}
