//! CamVid: street scenes filmed from a car (Brostow et al. 2008), in the 11 classes that SegNet was published with.

use std::path::Path;

use super::files::photos;
use super::label_maps::{LabelTable, LabelledPhotos};
use super::{Category, DataSet, DataSource, Layout};
use crate::TrainError;
use crate::tasks::TaskName;

/// Names of the classes, by class. Label 11 is "unlabelled" and ignored.
pub const CAMVID_CLASSES: [&str; 11] = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
];

/// Photos in `SPLIT/`, label maps in `SPLITannot/`.
#[derive(Debug)]
pub(super) struct CamvidLayout;

impl Layout for CamvidLayout {
    fn name(&self) -> &'static str {
        "camvid"
    }

    fn description(&self) -> &'static str {
        "CamVid in 11 classes: photos in SPLIT/, label maps of the same names (0 to 11) in SPLITannot/"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Semantic]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        folder.join("trainannot").is_dir() && !folder.join("classes.txt").exists()
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        let photos = photos(&source.folder.join(&source.split))?;
        let label_folder = source.folder.join(format!("{}annot", source.split));
        Ok(Box::new(LabelledPhotos {
            categories: (0..).zip(CAMVID_CLASSES).map(|(id, name)| Category::stuff(id, name)).collect(),
            labels: LabelTable::new((0..11).map(|class| (class, class)), [11]),
            files: LabelledPhotos::pairs(photos, &label_folder),
            suffix: "",
        }))
    }
}
