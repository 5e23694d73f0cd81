//! Data sets of images with a class for every pixel.

mod augment;
mod camvid;
mod loader;

use std::path::Path;

use aff_vision::{ImageSize, LabelMap, RgbImage};
use serde::{Deserialize, Serialize};

use crate::TrainError;

pub use augment::{Augmentation, ColorJitter, Crop};
pub use camvid::{CAMVID_CLASSES, Camvid};
pub use loader::{Batch, Loader, LoaderOptions};

/// The label of pixels that neither losses nor metrics look at.
pub const IGNORED: u16 = u16::MAX;

/// An image and the class of each of its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    /// The picture.
    pub image: RgbImage,
    /// Of the same size; [`IGNORED`] where nothing is known.
    pub labels: LabelMap,
}

impl LabelledImage {
    /// Joins a picture with its labels.
    ///
    /// # Errors
    /// [`TrainError::Data`] if they differ in size; `path` is named then.
    pub fn new(image: RgbImage, labels: LabelMap, path: &Path) -> Result<Self, TrainError> {
        if ImageSize::of(&image) == labels.size() {
            return Ok(Self { image, labels });
        }
        let problem = format!("is {}; its label map is {}", ImageSize::of(&image), labels.size());
        Err(TrainError::Data { path: path.to_path_buf(), problem })
    }
}

/// A data set for semantic segmentation: a list of labelled images that can be read in any order, by any thread.
pub trait DataSet: std::fmt::Debug + Send + Sync {
    /// Names of the classes, by class.
    fn classes(&self) -> Vec<String>;

    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of an image, for messages and for files that are named after it.
    fn name(&self, index: usize) -> String;

    /// Reads an image and its labels.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a label is none of the classes.
    fn load(&self, index: usize) -> Result<LabelledImage, TrainError>;

    /// Reads the labels of an image alone, which a data set may do faster than reading both.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn load_labels(&self, index: usize) -> Result<LabelMap, TrainError> {
        Ok(self.load(index)?.labels)
    }
}

/// The data sets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSetName {
    /// CamVid in 11 classes: see [`Camvid`].
    Camvid,
}

impl DataSetName {
    /// Names of the classes of the data set, by class.
    pub fn classes(self) -> Vec<String> {
        match self {
            Self::Camvid => Camvid::class_names(),
        }
    }

    /// Opens a split of the data set in a folder.
    ///
    /// # Errors
    /// If the folder is not laid out as the data set is.
    pub fn open(self, folder: &Path, split: &str) -> Result<Box<dyn DataSet>, TrainError> {
        match self {
            Self::Camvid => Ok(Box::new(Camvid::open(folder, split)?)),
        }
    }
}
