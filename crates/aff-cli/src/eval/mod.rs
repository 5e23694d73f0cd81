//! `aff eval`: how good a model is on a labelled split.

mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use aff_train::data;
use aff_train::tasks::TaskName;
use aff_train::{EvaluationOptions, evaluate};
use anyhow::{Result, ensure};
use autofocusformer::files::Protected;
use autofocusformer::models::config::Architecture;
use autofocusformer::{Model, vision};
use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::data_args::{DataArgs, Task};
use crate::model_args::{ModelArgs, model_files};
use crate::terminal::print;

/// Measure a model on labelled images, by the figures of its task
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Split to measure on
    #[arg(long, value_name = "NAME", default_value = "val")]
    split: String,
    /// What to measure [default: what the model was trained for]
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Only the first so many images
    #[arg(long, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    /// File for the figures as JSON
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Folder for what was predicted, in the files that the data set's own tools read
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  aff eval --data CamVid
  aff eval --data coco --model output/aff-mini-coco --task instance --output figures.json --save results
  aff eval --data my-cells --split test --model output/run/best

Figures, by task; shares from 0 to 1 in the JSON, in percent in the table:
  semantic        mean IoU, pixel accuracy, IoU of each class
  instance        average precision of COCO, or of Cityscapes for its data; TP / (TP + FP + FN) at IoU 0.50 to 0.95 of objects that
                  score 0.5 or more. Of an image 100 objects count, or as many as the image with the most objects has
  detection       the same of boxes
  panoptic        PQ, SQ, RQ; PQ of things and of stuff
  classification  top-1, top-5

Files of --save, with the numbers that the data set gives images and classes: instances.json or boxes.json (COCO), a text and masks for
each image (Cityscapes), panoptic.json with panoptic/*.png, or a label map for each image.

Classes of model and data are matched by name.";

impl Eval {
    /// Runs the evaluation; prints the table and writes the JSON.
    ///
    /// # Errors
    /// If the model or the data cannot be used, or the files not be written.
    pub fn run(&self) -> Result<()> {
        let model = self.model.load()?;
        let task = self.task.map_or_else(|| task_of(&model), TaskName::from);
        let data = data::open(&self.data.source(&self.split, task))?;
        self.check_outputs(&model)?;
        let mut options = EvaluationOptions::new(task);
        options.limit = self.limit;
        options.results.clone_from(&self.save);

        let images = options.images(data.as_ref());
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new(images as u64) };
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} images (another {eta})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let start = Instant::now();
        let found = evaluate(model, data.as_ref(), &options, |_| bar.inc(1))?;
        bar.finish_and_clear();
        if let Some(path) = &self.output {
            vision::write_json(path, &found)?;
        }
        if !self.quiet {
            table::print_table(&found)?;
            print(format_args!("{images} images in {:.1?}", start.elapsed()))?;
        }
        Ok(())
    }

    /// Refuses outputs that would replace a file of the data or of the model.
    fn check_outputs(&self, model: &Model) -> Result<()> {
        let data = self.data.folder();
        let mut files = Protected::default();
        let of_model = model_files(model.path());
        of_model.iter().for_each(|file| files.protect(file));
        if let Some(output) = &self.output {
            files.check(output)?;
            let is_of_data = output.exists() && is_within(output, data);
            ensure!(!is_of_data, "{}: is a file in the folder of the data; name another", output.display());
        }
        if let Some(folder) = &self.save {
            let is_of_model =
                of_model.iter().any(|file| file.parent().is_some_and(|of| is_within(folder, of)));
            ensure!(
                !is_of_model && !is_within(folder, data),
                "{}: is a folder of the data or of the model; name another for the results",
                folder.display()
            );
        }
        Ok(())
    }
}

/// What a model was trained for.
fn task_of(model: &Model) -> TaskName {
    let config = model.config();
    match (&config.segmentation_config, config.architecture()) {
        (Some(segmentation), _) => segmentation.task.into(),
        (None, Architecture::ObjectDetection) => TaskName::Detection,
        (None, _) => TaskName::Classification,
    }
}

/// Whether a path leads to a folder or into it, links followed. What is not there yet is where the last folder above it that there is.
pub(crate) fn is_within(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let there = absolute.ancestors().find_map(|above| above.canonicalize().ok());
    there.is_some_and(|path| path.starts_with(&folder))
}
