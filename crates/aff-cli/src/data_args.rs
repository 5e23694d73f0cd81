//! Which data a command reads.

use std::path::{Path, PathBuf};

use aff_train::data::{DataSource, layouts};
use aff_train::tasks::TaskName;
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser};

/// Arguments of the commands that read labelled data from `--data`.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Folder of the data set
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    #[command(flatten)]
    layout: LayoutArgs,
}

impl DataArgs {
    pub(crate) fn folder(&self) -> &Path {
        &self.data
    }

    /// A split for a task.
    pub(crate) fn source(&self, split: &str, task: TaskName) -> DataSource {
        self.layout.source(&self.data, split, task)
    }
}

/// How the files of a data set lie in its folder.
#[derive(Debug, clap::Args)]
pub(crate) struct LayoutArgs {
    /// Data set, which says how the files lie in the folder [default: recognised from the files]
    #[arg(long, value_name = "NAME", value_parser = names())]
    data_set: Option<String>,
}

impl LayoutArgs {
    /// The name that was given.
    pub(crate) fn name(&self) -> Option<&str> {
        self.data_set.as_deref()
    }

    /// A split of a folder for a task.
    pub(crate) fn source(&self, folder: &Path, split: &str, task: TaskName) -> DataSource {
        let source = DataSource::new(folder, split, task);
        match self.name() {
            Some(name) => source.with_layout(name),
            None => source,
        }
    }
}

fn names() -> PossibleValuesParser {
    let value = |layout: &&'static dyn aff_train::data::Layout| {
        PossibleValue::new(layout.name()).help(layout.description())
    };
    PossibleValuesParser::new(layouts().iter().map(value))
}

/// What a model does with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// A label for an image
    Classification,
    /// A class for every pixel
    Semantic,
    /// A mask for every object
    Instance,
    /// Both at once, without overlap
    Panoptic,
    /// A box for every object (detectors)
    Detection,
}

impl From<Task> for TaskName {
    fn from(task: Task) -> Self {
        match task {
            Task::Classification => Self::Classification,
            Task::Semantic => Self::Semantic,
            Task::Instance => Self::Instance,
            Task::Panoptic => Self::Panoptic,
            Task::Detection => Self::Detection,
        }
    }
}
