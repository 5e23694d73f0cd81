//! How the files of a data set lie in its folder.

use std::path::{Path, PathBuf};

use super::DataSet;
use super::camvid::CamvidLayout;
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
    &[&CamvidLayout]
}

/// Opens data, by the layout that they name or else by the first that recognises the folder and has labels for the task.
///
/// # Errors
/// If there is no such layout or folder, none recognises it, or the layout cannot open it.
pub fn open(source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
    let known = || layouts().iter().map(|layout| layout.name()).collect::<Vec<_>>().join(", ");
    if !source.folder.is_dir() {
        let problem = "there is no such folder; expected that of a data set".to_owned();
        return Err(TrainError::Data { path: source.folder.clone(), problem });
    }
    let layout = match &source.layout {
        Some(name) => layouts()
            .iter()
            .find(|layout| layout.name() == name)
            .ok_or_else(|| TrainError::value("data.name", name, format!("one of {}", known())))?,
        None => {
            let found: Vec<&&dyn Layout> =
                layouts().iter().filter(|layout| layout.recognizes(&source.folder)).collect();
            let fits = found.iter().find(|layout| layout.tasks().contains(&source.task)).copied();
            fits.or(found.first().copied()).ok_or_else(|| TrainError::Data {
                path: source.folder.clone(),
                problem: format!("its files lie in none of the ways known; name one of {}", known()),
            })?
        }
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
