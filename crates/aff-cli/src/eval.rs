//! `aff eval`: how good a model is on a labelled split.

use std::path::PathBuf;
use std::time::Instant;

use aff_train::data::{self, DataSource};
use aff_train::tasks::TaskName;
use aff_train::{SemanticReport, evaluate};
use anyhow::Result;
use autofocusformer::{Segmenter, vision};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::model_args::ModelArgs;
use crate::terminal::print;

/// Measure a segmenter on labelled images: mean IoU, IoU of each class, pixel accuracy
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder of the data set
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Split to measure on: for CamVid the photos are in FOLDER/NAME/, their label maps in FOLDER/NAMEannot/
    #[arg(long, value_name = "NAME")]
    split: String,
    /// Data set, which says how the folder is laid out and which classes there are
    #[arg(long, value_enum, default_value = "camvid")]
    data_set: Layout,
    /// File for the figures as JSON
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// The data sets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// CamVid in 11 classes
    Camvid,
}

impl Eval {
    /// Runs the evaluation; prints the table and writes the JSON.
    ///
    /// # Errors
    /// If the model or the data cannot be used, or the JSON not be written.
    pub fn run(&self) -> Result<()> {
        let name = match self.data_set {
            Layout::Camvid => "camvid",
        };
        let source = DataSource::new(&self.data, &self.split, TaskName::Semantic).with_layout(name);
        let data = data::open(&source)?;
        let segmenter = Segmenter::try_from(self.model.load()?)?;
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new(data.len() as u64) };
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} images (another {eta})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let start = Instant::now();
        let report = evaluate(&segmenter, data.as_ref(), |_| bar.inc(1))?;
        bar.finish_and_clear();
        if let Some(path) = &self.output {
            vision::write_json(path, &report)?;
        }
        if !self.quiet {
            print_table(&report)?;
            print(format_args!("{} images in {:.1?}", report.images, start.elapsed()))?;
        }
        Ok(())
    }
}

fn print_table(report: &SemanticReport) -> Result<()> {
    print(format_args!("{:<16} {:>8} {:>12}", "class", "IoU %", "pixels"))?;
    for class in &report.classes {
        let iou = class.iou.map_or("-".to_owned(), |iou| format!("{:.2}", 100.0 * iou));
        print(format_args!("{:<16} {:>8} {:>12}", class.name, iou, class.pixels))?;
    }
    print(format_args!("{:<16} {:>8.2}", "mean IoU", 100.0 * report.mean_iou))?;
    print(format_args!("{:<16} {:>8.2}", "pixel accuracy", 100.0 * report.pixel_accuracy))?;
    print(format_args!("{:<16} {:>8.2}", "mean accuracy", 100.0 * report.mean_accuracy))
}
