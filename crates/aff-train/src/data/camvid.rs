//! CamVid: street scenes filmed from a car (Brostow et al. 2008), in the 11 classes that SegNet was published with.

use std::path::{Path, PathBuf};

use aff_vision::LabelMap;

use super::{Category, DataSet, DataSource, IGNORED, Layout, Sample};
use crate::TrainError;
use crate::targets::Target;
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

/// A split of CamVid: photos in `FOLDER/SPLIT/` and label maps of the same names, as PNG, in `FOLDER/SPLITannot/`.
#[derive(Debug, Clone)]
pub struct Camvid {
    /// Photo and label map, in the order of the names.
    files: Vec<(PathBuf, PathBuf)>,
    categories: Vec<Category>,
}

/// Photos in `SPLIT/`, label maps in `SPLITannot/`.
#[derive(Debug)]
pub(super) struct CamvidLayout;

impl Layout for CamvidLayout {
    fn name(&self) -> &'static str {
        "camvid"
    }

    fn description(&self) -> &'static str {
        "CamVid in 11 classes: photos in SPLIT/, label maps of the same names in SPLITannot/"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Semantic]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        folder.join("trainannot").is_dir() && !folder.join("classes.txt").exists()
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        Ok(Box::new(Camvid::open(&source.folder, &source.split)?))
    }
}

impl Camvid {
    /// Lists the photos of a split; every one must have a label map.
    ///
    /// # Errors
    /// [`TrainError::Data`] if a folder or a label map is missing, or there is no photo.
    pub fn open(folder: impl AsRef<Path>, split: &str) -> Result<Self, TrainError> {
        let folder = folder.as_ref();
        let refuse = |path: PathBuf, problem: String| TrainError::Data { path, problem };
        let (photos, annotations) = (folder.join(split), folder.join(format!("{split}annot")));
        for folder in [&photos, &annotations] {
            if !folder.is_dir() {
                let problem =
                    "there is no such folder; expected SPLIT/ with photos and SPLITannot/ with label maps";
                return Err(refuse(folder.clone(), problem.to_owned()));
            }
        }
        let entries = std::fs::read_dir(&photos).map_err(TrainError::io(&photos, "list it"))?;
        let mut files = Vec::new();
        for entry in entries {
            let photo = entry.map_err(TrainError::io(&photos, "list it"))?.path();
            let is_photo = photo.extension().and_then(|extension| extension.to_str());
            if !is_photo.is_some_and(|extension| ["jpg", "jpeg", "png"].contains(&extension)) {
                continue;
            }
            let labels = annotations.join(photo.file_stem().unwrap_or_default()).with_extension("png");
            if !labels.is_file() {
                return Err(refuse(photo, format!("has no label map {}", labels.display())));
            }
            files.push((photo, labels));
        }
        if files.is_empty() {
            return Err(refuse(photos, "there are no photos (.jpg, .jpeg, .png) in it".to_owned()));
        }
        files.sort();
        let categories = (0..).zip(CAMVID_CLASSES).map(|(id, name)| Category::stuff(id, name)).collect();
        Ok(Self { files, categories })
    }
}

impl DataSet for Camvid {
    fn categories(&self) -> &[Category] {
        &self.categories
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.files[index].0.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let (photo, _) = &self.files[index];
        Sample::new(aff_vision::open(photo)?, self.load_target(index)?, photo)
    }

    fn load_target(&self, index: usize) -> Result<Target, TrainError> {
        let (_, labels) = &self.files[index];
        let map = LabelMap::read(labels)?;
        let classes = CAMVID_CLASSES.len() as u16;
        if let Some(label) = map.labels().iter().find(|&&label| label > classes) {
            let problem = format!("has the label {label}; expected 0 to {classes}");
            return Err(TrainError::Data { path: labels.clone(), problem });
        }
        let known = map.labels().iter().map(|&label| if label < classes { label } else { IGNORED });
        Ok(Target::Semantic(LabelMap::new(map.size(), known.collect())?))
    }
}
