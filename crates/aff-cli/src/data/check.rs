//! `aff data check`: whether a data set is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aff_train::data::{self, DataCheck, DataSet, check, contact_sheet};
use aff_train::tasks::TaskName;
use anyhow::{Context, Result, bail, ensure};
use autofocusformer::vision;
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::png_path;
use crate::data_args::{LayoutArgs, Task};
use crate::terminal::print;

/// Images of a contact sheet, and how many of them are in a row.
const SHEET: usize = 24;
const SHEET_COLUMNS: u32 = 6;
/// Missing files and wrong images that are told of, at most.
const TOLD: usize = 10;

/// Count what is in a data set and name what is missing or wrong
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Check {
    /// Folder of the data set
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    layout: LayoutArgs,
    /// Split to look at; may be given several times
    #[arg(long, value_name = "NAME", default_values = ["train", "val"])]
    split: Vec<String>,
    /// What the data are for [default: what such data sets are mostly for]
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// PNG for some images of the first split with their labels painted on
    #[arg(long, value_name = "FILE", value_parser = png_path)]
    contact_sheet: Option<PathBuf>,
    /// File for the counts and problems of each split as JSON
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  aff data check my-cells --contact-sheet cells.png
  aff data check coco --split val --task panoptic

Exit status: 0 nothing is missing or wrong; 1 something is.";

impl Check {
    pub(super) fn run(&self) -> Result<()> {
        let layout = data::layout_of(&self.folder, self.layout.name())?;
        let of_layout = layout.tasks().first().copied().unwrap_or_default();
        let task = self.task.map_or(of_layout, TaskName::from);
        for output in self.output.iter().chain(&self.contact_sheet) {
            let is_of_data = crate::eval::is_within(output, &self.folder);
            ensure!(!is_of_data, "{}: is in the folder of the data; name another place", output.display());
        }
        let mut found = BTreeMap::new();
        for (number, split) in self.split.iter().enumerate() {
            let source = self.layout.source(&self.folder, split, task);
            let data = data::open_unchecked(&source).with_context(|| format!("split {split}"))?;
            let report = self.check(data.as_ref());
            if !self.quiet {
                print(format_args!("{split}: {} as `{}` for {task}", self.folder.display(), layout.name()))?;
                print_report(&report)?;
            }
            if let Some(path) = self.contact_sheet.as_ref().filter(|_| number == 0) {
                vision::write_png(path, &sheet(data.as_ref())?)?;
            }
            found.insert(split.clone(), report);
        }
        if let Some(path) = &self.output {
            vision::write_json(path, &found)?;
        }
        verdict(&self.folder, &found)
    }

    fn check(&self, data: &dyn DataSet) -> DataCheck {
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new(data.len() as u64) };
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} images (another {eta})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let report = check(data, || bar.inc(1));
        bar.finish_and_clear();
        report
    }
}

/// Some images, spread over the data, which may be in an order.
fn sheet(data: &dyn DataSet) -> Result<vision::RgbImage> {
    let shown = data.len().min(SHEET);
    let indices: Vec<usize> = (0..shown).map(|place| place * data.len() / shown).collect();
    Ok(contact_sheet(data, &indices, SHEET_COLUMNS.min(shown.max(1) as u32))?)
}

fn print_report(report: &DataCheck) -> Result<()> {
    print(format_args!("{:<24} {:>8} {:>10} {:>14}", "class", "images", "segments", "pixels"))?;
    for class in &report.classes {
        print(format_args!(
            "{:<24} {:>8} {:>10} {:>14}",
            class.name, class.images, class.segments, class.pixels
        ))?;
    }
    let DataCheck { images, crowds, unlabelled_pixels, missing_files, problems, .. } = report;
    print(format_args!("{images} images, {crowds} crowds, {unlabelled_pixels} pixels without a label"))?;
    told("missing files", missing_files.iter().map(|path| path.display().to_string()))?;
    told(
        "images with a problem",
        problems.iter().map(|problem| format!("{}: {}", problem.image, problem.problem)),
    )
}

fn told(what: &str, lines: impl ExactSizeIterator<Item = String>) -> Result<()> {
    let count = lines.len();
    if count > 0 {
        print(format_args!("{what}: {count}"))?;
    }
    for line in lines.take(TOLD) {
        print(format_args!("  {line}"))?;
    }
    if count > TOLD { print(format_args!("  and {} more; --output names all", count - TOLD)) } else { Ok(()) }
}

fn verdict(folder: &Path, found: &BTreeMap<String, DataCheck>) -> Result<()> {
    let wrong: Vec<String> = found
        .iter()
        .filter(|(_, report)| !report.is_whole())
        .map(|(split, report)| {
            let (missing, problems) = (report.missing_files.len(), report.problems.len());
            format!("{split}: {missing} missing files, {problems} images with a problem")
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { bail!("{}: {}", folder.display(), wrong.join("; ")) }
}
