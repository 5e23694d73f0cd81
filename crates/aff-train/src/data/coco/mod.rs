//! COCO 2017, and one's own data in COCO's form.

mod instances;
mod json;
mod panoptic;

use std::path::{Path, PathBuf};

use self::instances::CocoInstances;
use self::panoptic::CocoPanoptic;
use super::files::{entries, folders, refuse, stem};
use super::{DataSet, DataSource, Layout};
use crate::TrainError;
use crate::tasks::TaskName;

/// COCO 2017 as it is published.
#[derive(Debug)]
pub(super) struct CocoLayout;

impl Layout for CocoLayout {
    fn name(&self) -> &'static str {
        "coco"
    }

    fn description(&self) -> &'static str {
        "COCO 2017: photos in SPLIT2017/, annotations/instances_SPLIT2017.json, annotations/panoptic_SPLIT2017.json with \
         annotations/panoptic_SPLIT2017/*.png; splits train and val"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Instance, TaskName::Panoptic, TaskName::Semantic, TaskName::Detection]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        let is_annotation =
            |path: &PathBuf| ["instances_", "panoptic_"].iter().any(|start| stem(path).starts_with(start));
        entries(&folder.join("annotations")).is_ok_and(|entries| entries.iter().any(is_annotation))
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        let year =
            |split: &str| if split.ends_with("2017") { split.to_owned() } else { format!("{split}2017") };
        let split = year(&source.split);
        let annotations = source.folder.join("annotations");
        Files {
            photos: source.folder.join(&split),
            instances: vec![annotations.join(format!("instances_{split}.json"))],
            panoptic: vec![annotations.join(format!("panoptic_{split}.json"))],
            pictures: annotations.join(format!("panoptic_{split}")),
        }
        .open(source.task)
    }
}

/// One's own data in COCO's form.
#[derive(Debug)]
pub(super) struct CocoFolderLayout;

impl Layout for CocoFolderLayout {
    fn name(&self) -> &'static str {
        "coco-folder"
    }

    fn description(&self) -> &'static str {
        "your own data in COCO's form: photos in SPLIT/, SPLIT.json with objects (run lengths or polygons; boxes are enough for detection); or with panoptic segments, in \
         SPLIT.json or panoptic_SPLIT.json, and their pictures in panoptic_SPLIT/"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Instance, TaskName::Panoptic, TaskName::Semantic, TaskName::Detection]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        folders(folder).iter().any(|folder| folder.with_extension("json").is_file())
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        let (folder, split) = (&source.folder, &source.split);
        let pictures = folder.join(format!("panoptic_{split}"));
        let own = folder.join(format!("{split}.json"));
        let of_panoptic = folder.join(format!("panoptic_{split}.json"));
        // A file of its own goes first; SPLIT.json is panoptic if it has pictures and there is none.
        let is_panoptic = pictures.is_dir() && !of_panoptic.is_file();
        Files {
            photos: folder.join(split),
            instances: if is_panoptic { Vec::new() } else { vec![own.clone()] },
            panoptic: if is_panoptic { vec![own] } else { vec![of_panoptic] },
            pictures,
        }
        .open(source.task)
    }
}

/// Where the files of a split would be.
struct Files {
    photos: PathBuf,
    instances: Vec<PathBuf>,
    panoptic: Vec<PathBuf>,
    /// Pictures of the panoptic ids.
    pictures: PathBuf,
}

impl Files {
    fn open(self, task: TaskName) -> Result<Box<dyn DataSet>, TrainError> {
        if !self.photos.is_dir() {
            return Err(refuse(self.photos, "there is no such folder; expected the photos of the split"));
        }
        let is_of_objects = matches!(task, TaskName::Instance | TaskName::Detection);
        let instances = self.instances.iter().find(|path| path.is_file() && is_of_objects);
        if let Some(path) = instances {
            return Ok(Box::new(CocoInstances::read(path, &self.photos, task)?));
        }
        if let Some(path) = self.panoptic.iter().find(|path| path.is_file()) {
            return Ok(Box::new(CocoPanoptic::read(path, &self.photos, &self.pictures, task)?));
        }
        let of_task = if is_of_objects { self.instances } else { Vec::new() };
        let looked_for: Vec<String> =
            of_task.iter().chain(&self.panoptic).map(|path| path.display().to_string()).collect();
        let problem = format!("has no annotations for {task}; looked for {}", looked_for.join(" and "));
        Err(refuse(self.photos, problem))
    }
}
