//! Data sets: images and what they should be recognised as.
//!
//! A [`DataSet`] is a list of samples that can be read in any order, by any thread. Those that lie in folders are opened by their
//! [`Layout`]: [`open`] recognises it from the files.

mod ade20k;
mod camvid;
mod check;
mod cityscapes;
mod coco;
mod contact_sheet;
mod files;
mod folder;
mod imagenet;
mod label_maps;
mod layout;
mod loader;
mod results;
mod shapes;

use std::path::{Path, PathBuf};

use aff_vision::{ImageSize, RgbImage};

use crate::TrainError;
use crate::metrics::CityscapesTruth;
use crate::targets::Target;

pub use crate::targets::IGNORED;
pub use aff_model::data_sets::CITYSCAPES_CLASSES;
pub use camvid::CAMVID_CLASSES;
pub use check::{ClassCount, DataCheck, DataProblem, check};
pub use contact_sheet::contact_sheet;
pub use layout::{DataSource, Layout, layout_of, layouts, open, open_unchecked};
pub use loader::{Batch, Loader, LoaderOptions};
pub use results::ResultFiles;
pub use shapes::Shapes;

/// An image and what it should be recognised as.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The picture.
    pub image: RgbImage,
    /// Its masks, if it has any, are of the same size.
    pub target: Target,
}

impl Sample {
    /// Joins a picture with its target.
    ///
    /// # Errors
    /// [`TrainError::Data`] if they differ in size; `path` is named then.
    pub fn new(image: RgbImage, target: Target, path: &Path) -> Result<Self, TrainError> {
        let size = ImageSize::of(&image);
        match target.size().filter(|of_target| *of_target != size) {
            None => Ok(Self { image, target }),
            Some(of_target) => {
                let problem = format!("is {size}; its masks are {of_target}");
                Err(TrainError::Data { path: path.to_path_buf(), problem })
            }
        }
    }
}

/// Whether a category is countable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CategoryKind {
    /// Objects, each of which is a segment: cars, people, cells.
    Thing,
    /// What has no number, all of which is one segment: sky, road, water.
    Stuff,
}

/// A category. The classes that targets and networks speak of are indices into a data set's list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Category {
    /// Its name.
    pub name: String,
    /// Whether it is countable.
    pub kind: CategoryKind,
    /// Its number in the data set's own files, which may have holes.
    pub id: u32,
}

impl Category {
    /// A countable category.
    pub fn thing(id: u32, name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: CategoryKind::Thing, id }
    }

    /// A category that has no number.
    pub fn stuff(id: u32, name: impl Into<String>) -> Self {
        Self { kind: CategoryKind::Stuff, ..Self::thing(id, name) }
    }
}

/// Whose rules objects are judged by, and whose form their files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// COCO's: [`AveragePrecision`](crate::AveragePrecision), JSON.
    #[default]
    Coco,
    /// Cityscapes': [`CityscapesAp`](crate::CityscapesAp), a text and a mask for each object.
    Cityscapes,
}

/// A list of images and their targets that can be read in any order, by any thread.
///
/// ```
/// use aff_train::TrainError;
/// use aff_train::data::{Category, DataSet, Sample};
/// use aff_train::targets::{ClassTarget, Target};
/// use aff_vision::{Rgb, RgbImage};
///
/// /// Pictures of one colour each, named after it.
/// #[derive(Debug)]
/// struct Colors(Vec<Category>);
///
/// impl DataSet for Colors {
///     fn categories(&self) -> &[Category] {
///         &self.0
///     }
///     fn len(&self) -> usize {
///         300
///     }
///     fn name(&self, index: usize) -> String {
///         format!("{} {index}", self.0[index % 3].name)
///     }
///     fn load(&self, index: usize) -> Result<Sample, TrainError> {
///         let mut color = [0; 3];
///         color[index % 3] = 255;
///         let target = Target::Class(ClassTarget::of(index as u32 % 3));
///         Ok(Sample { image: RgbImage::from_pixel(32, 32, Rgb(color)), target })
///     }
/// }
///
/// let names = ["red", "green", "blue"];
/// let data = Colors((0..).zip(names).map(|(id, name)| Category::stuff(id, name)).collect());
/// assert_eq!((data.name(4).as_str(), data.class_names()[2].as_str()), ("green 4", "blue"));
/// ```
pub trait DataSet: std::fmt::Debug + Send + Sync {
    /// The categories that targets speak of, by class.
    fn categories(&self) -> &[Category];

    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of an image, for messages and for files that are named after it: its number unless a data set knows better.
    fn name(&self, index: usize) -> String {
        index.to_string()
    }

    /// Number of an image in the data set's own files, which result files repeat.
    fn image_id(&self, index: usize) -> u64 {
        index as u64
    }

    /// Reads an image and its target.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a label is none of the categories.
    fn load(&self, index: usize) -> Result<Sample, TrainError>;

    /// Reads the target of an image alone, which a data set may do faster than reading both.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn load_target(&self, index: usize) -> Result<Target, TrainError> {
        Ok(self.load(index)?.target)
    }

    /// Number of segments or boxes of an image, objects and others, crowds among them; 0 of an image that has a label alone. A data set may know
    /// it without reading the target.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn num_objects(&self, index: usize) -> Result<usize, TrainError> {
        Ok(match self.load_target(index)? {
            Target::Segments(segments) => segments.segments().len(),
            Target::Boxes(boxes) => boxes.boxes().len(),
            Target::Class(_) | Target::Semantic(_) => 0,
        })
    }

    /// Files that the data set names and that are not there.
    fn missing_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// By whose rules objects are judged and written.
    fn protocol(&self) -> Protocol {
        Protocol::Coco
    }

    /// The truth of an image as Cityscapes' own figures need it; `None` where the [protocol](Self::protocol) is another.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn cityscapes_truth(&self, index: usize) -> Result<Option<CityscapesTruth>, TrainError> {
        let _ = index;
        Ok(None)
    }

    /// Names of the categories, by class.
    fn class_names(&self) -> Vec<String> {
        self.categories().iter().map(|category| category.name.clone()).collect()
    }
}
