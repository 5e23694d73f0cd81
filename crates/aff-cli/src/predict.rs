//! `aff predict`: photos in, overlays, label maps and JSON out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use autofocusformer::models::config::SegmentationTask;
use autofocusformer::vision;
use autofocusformer::{Segmentation, Segmenter};
use clap::ValueEnum;

use crate::is_same_file;
use crate::model_args::ModelArgs;
use crate::sources::{self, Source};

/// Segment photos: an overlay, a label map and a JSON for each
#[derive(Debug, clap::Args)]
pub struct Predict {
    /// Photos (JPEG, PNG, WebP, BMP or TIFF), folders of them, patterns such as 'photos/*.jpg', or - for standard input
    #[arg(required = true, value_name = "PHOTO")]
    sources: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for the results
    #[arg(long, short, value_name = "FOLDER", default_value = "output")]
    output: PathBuf,
    /// What to segment; by default what the model was trained for
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Least score of a segment (instance, panoptic) [default: 0.5 for instances, else the model's]
    #[arg(long)]
    threshold: Option<f32>,
    /// Mask probability from which a pixel belongs to a segment (instance, panoptic) [default: the model's]
    #[arg(long)]
    mask_threshold: Option<f32>,
    /// Least share of its mask that a segment must win (panoptic) [default: the model's]
    #[arg(long)]
    overlap_threshold: Option<f32>,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// What to segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Task {
    /// A class for every pixel
    Semantic,
    /// A mask for every object
    Instance,
    /// Both at once, without overlap
    Panoptic,
}

impl From<Task> for SegmentationTask {
    fn from(task: Task) -> Self {
        match task {
            Task::Semantic => Self::Semantic,
            Task::Instance => Self::Instance,
            Task::Panoptic => Self::Panoptic,
        }
    }
}

/// Time that went into each part of the work.
#[derive(Debug, Default)]
struct Timings {
    decode: Duration,
    segment: Duration,
    write: Duration,
}

impl Predict {
    /// Segments every photo and writes the results.
    ///
    /// # Errors
    /// If the model cannot be loaded, two photos would have the same results, or the only photo fails. Of several photos those that fail
    /// are reported and skipped; that some did is the error at the end.
    pub fn run(&self) -> Result<()> {
        let sources = sources::expand(&self.sources)?;
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("{}: cannot make the folder for the results", self.output.display()))?;
        let start = Instant::now();
        let segmenter = self.segmenter()?;
        let loaded = start.elapsed();

        let mut timings = Timings::default();
        let mut failed = 0;
        for source in &sources {
            match self.predict(&segmenter, source, &mut timings) {
                Ok(segments) => self.say(&format!("{}: {segments}", source.path.display())),
                Err(error) if sources.len() > 1 => {
                    eprintln!("skipped: {error:#}");
                    failed += 1;
                }
                Err(error) => return Err(error),
            }
        }
        let Timings { decode, segment, write } = timings;
        self.say(&format!(
            "{} photos into {}; load {loaded:.2?}, decode {decode:.2?}, segment {segment:.2?}, write {write:.2?}",
            sources.len() - failed,
            self.output.display()
        ));
        ensure!(failed == 0, "{failed} of {} photos were skipped", sources.len());
        Ok(())
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            println!("{line}");
        }
    }

    fn segmenter(&self) -> Result<Segmenter> {
        let mut segmenter = Segmenter::try_from(self.model.load()?)?;
        let options = segmenter.options_mut();
        if let Some(task) = self.task {
            options.task = task.into();
        }
        let is_semantic = options.task == SegmentationTask::Semantic;
        let is_panoptic = options.task == SegmentationTask::Panoptic;
        if let Some(threshold) = threshold("--threshold", self.threshold, !is_semantic)? {
            options.threshold = Some(threshold);
        }
        if let Some(threshold) = threshold("--mask-threshold", self.mask_threshold, !is_semantic)? {
            options.mask_threshold = threshold;
        }
        if let Some(threshold) = threshold("--overlap-threshold", self.overlap_threshold, is_panoptic)? {
            options.overlap_threshold = threshold;
        }
        Ok(segmenter)
    }

    /// Segments one photo; returns a line about what was found.
    fn predict(&self, segmenter: &Segmenter, source: &Source, timings: &mut Timings) -> Result<String> {
        let start = Instant::now();
        let image = source.open()?;
        timings.decode += start.elapsed();

        let start = Instant::now();
        let segmentation = segmenter.segment(&image)?;
        timings.segment += start.elapsed();

        let start = Instant::now();
        let path = |suffix: &str| {
            let path = self.output.join(format!("{}.{suffix}", source.stem));
            ensure!(
                !is_same_file(&source.path, &path),
                "{}: is the source; give --output another folder",
                path.display()
            );
            Ok(path)
        };
        vision::write_png(path("overlay.png")?, &segmentation.overlay(&image)?)?;
        segmentation.write_map(path("map.png")?)?;
        segmentation.write_json(path("json")?)?;
        timings.write += start.elapsed();
        Ok(summary(&segmentation))
    }
}

/// A threshold that was given, checked: it must mean something for the task.
fn threshold(flag: &str, given: Option<f32>, applies: bool) -> Result<Option<f32>> {
    let Some(value) = given else { return Ok(None) };
    ensure!(applies, "{flag} has no effect on this task; leave it out or choose another --task");
    ensure!((0.0..=1.0).contains(&value), "{flag} is {value}; expected a number from 0 to 1");
    Ok(Some(value))
}

fn summary(segmentation: &Segmentation) -> String {
    let size = segmentation.size();
    let segments = segmentation.segments();
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for segment in &segments {
        *classes.entry(&segment.label).or_default() += 1;
    }
    let shown: Vec<String> =
        classes.iter().take(8).map(|(label, count)| format!("{count} {label}")).collect();
    let more = if classes.len() > shown.len() { ", ..." } else { "" };
    format!(
        "{} x {} pixels, {} segments: {}{more}",
        size.width,
        size.height,
        segments.len(),
        shown.join(", ")
    )
}
