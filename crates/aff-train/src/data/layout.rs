//! How the files of a data set lie in its folder.

use std::path::{Path, PathBuf};

use super::DataSet;
use super::ade20k::Ade20kLayout;
use super::camvid::CamvidLayout;
use super::cityscapes::CityscapesLayout;
use super::coco::{CocoFolderLayout, CocoLayout};
use super::folder::FolderLayout;
use super::imagenet::ImagenetLayout;
use crate::TrainError;
use crate::tasks::TaskName;

/// Data that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataSource {
    /// Folder of the data set.
    pub folder: PathBuf,
    /// Part of it, such as `train` or `val`.
    pub split: String,
    /// What the data are for: a data set may have labels for several tasks, with other categories for each.
    pub task: TaskName,
    /// Name of the layout; recognised from the files if it is `None`.
    pub layout: Option<String>,
}

impl DataSource {
    /// A split of a data set whose layout is recognised.
    pub fn new(folder: impl Into<PathBuf>, split: impl Into<String>, task: TaskName) -> Self {
        Self { folder: folder.into(), split: split.into(), task, layout: None }
    }

    /// With the layout of a name.
    #[must_use]
    pub fn with_layout(self, name: impl Into<String>) -> Self {
        Self { layout: Some(name.into()), ..self }
    }
}

/// A way that the files of a data set lie in its folder: that of a published data set, or of one's own.
pub trait Layout: std::fmt::Debug + Send + Sync {
    /// Name that recipes and `--data-set` know it by.
    fn name(&self) -> &'static str;

    /// Which files are where, in a line, for help and messages.
    fn description(&self) -> &'static str;

    /// What it has labels for.
    fn tasks(&self) -> &'static [TaskName];

    /// Whether a folder looks like it, by the names of its files alone.
    fn recognizes(&self, folder: &Path) -> bool;

    /// Opens a split.
    ///
    /// # Errors
    /// If files are missing or have other contents than expected.
    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError>;
}

/// All layouts, in the order in which folders are compared with them.
pub fn layouts() -> &'static [&'static dyn Layout] {
    &[
        &CityscapesLayout,
        &Ade20kLayout,
        &CocoLayout,
        &CamvidLayout,
        &FolderLayout,
        &CocoFolderLayout,
        &ImagenetLayout,
    ]
}

/// Opens data, by the layout that they name or else by the first that recognises the folder and has labels for the task.
///
/// # Errors
/// If there is no such layout or folder, none recognises it, the layout cannot open it, or files are missing.
pub fn open(source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
    let data = open_unchecked(source)?;
    let missing = data.missing_files();
    match missing.first() {
        None => Ok(data),
        Some(first) => {
            let problem = format!("is missing, and so are {} other files of the data set", missing.len() - 1);
            Err(TrainError::Data { path: first.clone(), problem })
        }
    }
}

/// As [`open`], but does not look for the files of every image: those that are missing are found when they are read.
///
/// # Errors
/// As [`open`], but for files that are missing.
pub fn open_unchecked(source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
    if !source.folder.is_dir() {
        let problem = "there is no such folder; expected that of a data set".to_owned();
        return Err(TrainError::Data { path: source.folder.clone(), problem });
    }
    if !super::files::is_plain(&source.split) {
        return Err(TrainError::value("split", &source.split, "a plain name such as train or val"));
    }
    let layout = match &source.layout {
        Some(name) => named(name)?,
        None => recognized(&source.folder, Some(source.task))?,
    };
    if !layout.tasks().contains(&source.task) {
        let tasks: Vec<_> = layout.tasks().iter().map(ToString::to_string).collect();
        let problem = format!(
            "a data set `{}` has labels for {}, not for {}",
            layout.name(),
            tasks.join(" and "),
            source.task
        );
        return Err(TrainError::Data { path: source.folder.clone(), problem });
    }
    layout.open(source)
}

fn named(name: &str) -> Result<&'static dyn Layout, TrainError> {
    let known = || layouts().iter().map(|layout| layout.name()).collect::<Vec<_>>().join(", ");
    layouts()
        .iter()
        .find(|layout| layout.name() == name)
        .copied()
        .ok_or_else(|| TrainError::value("data.name", name, format!("one of {}", known())))
}

/// The layout of a name, or without one the first that fits the files of a folder.
///
/// # Errors
/// If there is no such layout or folder, or none recognises it.
pub fn layout_of(folder: &Path, name: Option<&str>) -> Result<&'static dyn Layout, TrainError> {
    if !folder.is_dir() {
        let problem = "there is no such folder; expected that of a data set".to_owned();
        return Err(TrainError::Data { path: folder.to_path_buf(), problem });
    }
    name.map_or_else(|| recognized(folder, None), named)
}

/// The first layout that fits the files and has labels for the task, else the first that fits the files.
fn recognized(folder: &Path, task: Option<TaskName>) -> Result<&'static dyn Layout, TrainError> {
    let found: Vec<_> = layouts().iter().filter(|layout| layout.recognizes(folder)).collect();
    let fits = found.iter().find(|layout| task.is_none_or(|task| layout.tasks().contains(&task)));
    fits.or(found.first()).map(|layout| **layout).ok_or_else(|| {
        let looked_for: Vec<String> = layouts()
            .iter()
            .map(|layout| format!("\n  {}: {}", layout.name(), layout.description()))
            .collect();
        let problem = format!("its files lie in none of the ways known; looked for{}", looked_for.concat());
        TrainError::Data { path: folder.to_path_buf(), problem }
    })
}
