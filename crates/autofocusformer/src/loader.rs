//! How a model is loaded by its name.

use std::path::{Path, PathBuf};

use aff_weights::TensorOptions;
#[cfg(feature = "hub")]
use aff_weights::{DownloadObserver, Hub, ModelName, Published, PublishedCheckpoint, published_checkpoint};
use candle_core::{DType, Device};

use crate::{BuiltInModel, Error, Model};

/// What the name of a model with random weights starts with.
pub(crate) const RANDOM: &str = "random:";

/// A model by what a user calls it, and how to load it: made by [`Model::loader`].
///
/// ```
/// use autofocusformer::{DType, Model};
///
/// let model = Model::loader("random:aff-mini").dtype(DType::F64).load()?;
/// assert_eq!(model.tensor_options().dtype, DType::F64);
/// # Ok::<(), autofocusformer::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a loader does nothing until `load` is called"]
pub struct ModelLoader {
    name: PathBuf,
    #[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "only the hub has revisions"))]
    revision: String,
    options: TensorOptions,
}

impl ModelLoader {
    pub(crate) fn new(name: &Path) -> Self {
        Self { name: name.to_path_buf(), revision: "main".to_owned(), options: TensorOptions::default() }
    }

    /// Branch, tag or commit of a model on the hub; folders have none.
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Device to compute on; the CPU unless set.
    pub fn device(mut self, device: &Device) -> Self {
        self.options.device = device.clone();
        self
    }

    /// Type of the numbers to compute in; `F32` unless set.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.options.dtype = dtype;
        self
    }

    /// Loads a model of this build ([`BuiltInModel`]), a folder, a published model with random weights (`random:NAME`) or, with
    /// the feature `hub`, a published model that was fetched before (by its plain name, see [`Published`]) or a model of the
    /// Hugging Face hub (`organisation/name`).
    ///
    /// # Errors
    /// As [`Model::load`] and [`Model::random`], if the published model was not fetched, or if the hub has no such model.
    #[cfg(feature = "hub")]
    pub fn load(self) -> Result<Model, Error> {
        self.load_observed(&mut ())
    }

    /// As [`Self::load`], with someone who watches the download from the hub.
    ///
    /// # Errors
    /// The same.
    #[cfg(feature = "hub")]
    pub fn load_observed(self, observer: &mut dyn DownloadObserver) -> Result<Model, Error> {
        if let Some(preset) = self.preset() {
            return Model::random(preset, &self.options);
        }
        if let Some(model) = self.built_in() {
            return model.load(&self.options);
        }
        if let Some(checkpoint) = self.published() {
            return Model::load(Published::from_env().kept(&checkpoint)?, &self.options);
        }
        match ModelName::of(&self.name)? {
            ModelName::Hub(id) => {
                let folder = Hub::from_env().fetch_observed(id, &self.revision, observer)?;
                Model::load(folder, &self.options)
            }
            _ => Model::load(&self.name, &self.options),
        }
    }

    /// Loads a model of this build, a folder, or a published model with random weights (`random:NAME`). Models of the Hugging Face hub take the
    /// feature `hub`.
    ///
    /// # Errors
    /// As [`Model::load`] and [`Model::random`].
    #[cfg(not(feature = "hub"))]
    pub fn load(self) -> Result<Model, Error> {
        match (self.preset(), self.built_in()) {
            (Some(preset), _) => Model::random(preset, &self.options),
            (None, Some(model)) => model.load(&self.options),
            (None, None) => Model::load(&self.name, &self.options),
        }
    }

    /// The model in this build that is asked for: its name alone, not a path that ends in it.
    fn built_in(&self) -> Option<BuiltInModel> {
        self.name.to_str().and_then(BuiltInModel::named)
    }

    /// The published model that is asked for by its plain name; a folder of that name is preferred.
    #[cfg(feature = "hub")]
    fn published(&self) -> Option<PublishedCheckpoint> {
        self.name.to_str().filter(|_| !self.name.exists()).and_then(published_checkpoint)
    }

    /// The published model that is asked for with random weights.
    fn preset(&self) -> Option<&str> {
        self.name.to_str().and_then(|name| name.strip_prefix(RANDOM))
    }
}
