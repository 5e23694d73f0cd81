//! Cityscapes (Cordts et al. 2016): 19 classes of pixels, 8 of objects.

use std::path::{Path, PathBuf};

use aff_model::data_sets::{CITYSCAPES_CLASSES, CITYSCAPES_STUFF};
use aff_vision::{CITYSCAPES_LABEL_IDS, LabelMap};

use super::files::{folders, is_photo, missing, refuse, stem};
use super::label_maps::{LabelTable, LabelledPhotos};
use super::{Category, DataSet, DataSource, IGNORED, Layout, Protocol, Sample};
use crate::TrainError;
use crate::metrics::{CITYSCAPES_INSTANCE_IDS, CityscapesTruth};
use crate::targets::{SegmentTarget, Target, TargetSegment};
use crate::tasks::TaskName;

/// The greatest number of a label.
const LAST_LABEL: u16 = 33;
const PHOTO_SUFFIX: &str = "_leftImg8bit";

/// `leftImg8bit/SPLIT/CITY/` and `gtFine/SPLIT/CITY/`.
#[derive(Debug)]
pub(super) struct CityscapesLayout;

impl Layout for CityscapesLayout {
    fn name(&self) -> &'static str {
        "cityscapes"
    }

    fn description(&self) -> &'static str {
        "Cityscapes: photos in leftImg8bit/SPLIT/CITY/, labels in gtFine/SPLIT/CITY/ (*_labelIds.png or *_labelTrainIds.png for classes, \
         *_instanceIds.png for objects and panoptic)"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Semantic, TaskName::Instance, TaskName::Panoptic]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        folder.join("leftImg8bit").is_dir() && folder.join("gtFine").is_dir()
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        let photos = photos_of_cities(&source.folder.join("leftImg8bit").join(&source.split))?;
        let with_labels = |ending: &str| -> Vec<(PathBuf, PathBuf)> {
            photos
                .iter()
                .map(|photo| (photo.clone(), labels_of(&source.folder, &source.split, photo, ending)))
                .collect()
        };
        if source.task != TaskName::Semantic {
            let files = with_labels("instanceIds");
            return Ok(Box::new(CityscapesObjects {
                categories: categories(source.task),
                files,
                task: source.task,
            }));
        }
        let label_ids = with_labels("labelIds");
        let train_ids = with_labels("labelTrainIds");
        let (files, labels) = if label_ids[0].1.exists() || !train_ids[0].1.exists() {
            (label_ids, LabelTable::new(CITYSCAPES_LABEL_IDS.into_iter().zip(0..), 0..=LAST_LABEL))
        } else {
            (train_ids, LabelTable::new((0..19).map(|class| (class, class)), [255]))
        };
        Ok(Box::new(LabelledPhotos {
            categories: categories(source.task),
            labels,
            files,
            suffix: PHOTO_SUFFIX,
        }))
    }
}

/// The photos of all cities, at least one.
fn photos_of_cities(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut photos = Vec::new();
    for city in folders(folder) {
        photos.extend(super::files::entries(&city)?.into_iter().filter(|path| is_photo(path)));
    }
    if let Some(other) = photos.iter().find(|photo| !stem(photo).ends_with(PHOTO_SUFFIX)) {
        return Err(refuse(
            other,
            format!("is not named as a photo of Cityscapes; expected *{PHOTO_SUFFIX}.png"),
        ));
    }
    if photos.is_empty() {
        return Err(refuse(folder, format!("there are no photos in it; expected CITY/*{PHOTO_SUFFIX}.png")));
    }
    Ok(photos)
}

fn labels_of(folder: &Path, split: &str, photo: &Path, ending: &str) -> PathBuf {
    let city = photo.parent().and_then(Path::file_name).unwrap_or_default();
    let name = stem(photo);
    let name = name.strip_suffix(PHOTO_SUFFIX).unwrap_or(&name);
    folder.join("gtFine").join(split).join(city).join(format!("{name}_gtFine_{ending}.png"))
}

fn categories(task: TaskName) -> Vec<Category> {
    let category = |(class, (name, &id)): (usize, (&str, &u16))| {
        if class < CITYSCAPES_STUFF {
            Category::stuff(id.into(), name)
        } else {
            Category::thing(id.into(), name)
        }
    };
    let all = CITYSCAPES_CLASSES.into_iter().zip(&CITYSCAPES_LABEL_IDS).enumerate().map(category);
    all.skip(if task == TaskName::Instance { CITYSCAPES_STUFF } else { 0 }).collect()
}

/// Photos with a picture of the objects each.
#[derive(Debug)]
struct CityscapesObjects {
    categories: Vec<Category>,
    /// Photo and `instanceIds`.
    files: Vec<(PathBuf, PathBuf)>,
    task: TaskName,
}

impl CityscapesObjects {
    /// The values of the pixels: a label, or of an object 1000 times the label and its number.
    fn instance_ids(&self, index: usize) -> Result<LabelMap, TrainError> {
        let path = &self.files[index].1;
        let map = LabelMap::read(path)?;
        let is_known =
            |value: u16| if value < 1000 { value <= LAST_LABEL } else { value / 1000 <= LAST_LABEL };
        match map.labels().iter().find(|&&value| !is_known(value)) {
            None => Ok(map),
            Some(value) => {
                let expected = format!(
                    "a label from 0 to {LAST_LABEL}, or 1000 times the label and the number of an object"
                );
                Err(refuse(path, format!("has the value {value}; expected {expected}")))
            }
        }
    }

    /// What a value stands for; `None` if it is no segment.
    fn segment(&self, value: u16) -> Option<TargetSegment> {
        let (label, is_object) = if value < 1000 { (value, false) } else { (value / 1000, true) };
        let class = self.categories.iter().position(|category| category.id == u32::from(label))? as u32;
        // What has objects and is none of them is a group that nobody told apart; stuff is one segment.
        let is_crowd = !is_object && CITYSCAPES_INSTANCE_IDS.contains(&label);
        Some(if is_crowd { TargetSegment::crowd(class) } else { TargetSegment::new(class) })
    }
}

impl DataSet for CityscapesObjects {
    fn categories(&self) -> &[Category] {
        &self.categories
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        let name = stem(&self.files[index].0);
        name.strip_suffix(PHOTO_SUFFIX).map(str::to_owned).unwrap_or(name)
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let (photo, _) = &self.files[index];
        Sample::new(aff_vision::open(photo)?, self.load_target(index)?, photo)
    }

    fn load_target(&self, index: usize) -> Result<Target, TrainError> {
        let ids = self.instance_ids(index)?;
        let mut place = vec![None; 1 << 16];
        let mut segments = Vec::new();
        for (value, _) in ids.areas() {
            if let Some(segment) = self.segment(value) {
                place[usize::from(value)] = Some(segments.len() as u16);
                segments.push(segment);
            }
        }
        let map = ids.labels().iter().map(|&value| place[usize::from(value)].unwrap_or(IGNORED)).collect();
        Ok(Target::Segments(SegmentTarget::from_map(LabelMap::new(ids.size(), map)?, segments)?))
    }

    fn missing_files(&self) -> Vec<PathBuf> {
        missing(self.files.iter().flat_map(|(photo, labels)| [photo, labels]))
    }

    fn protocol(&self) -> Protocol {
        Protocol::Cityscapes
    }

    fn cityscapes_truth(&self, index: usize) -> Result<Option<CityscapesTruth>, TrainError> {
        if self.task != TaskName::Instance {
            return Ok(None);
        }
        Ok(Some(CityscapesTruth::new(&self.instance_ids(index)?)?))
    }
}
