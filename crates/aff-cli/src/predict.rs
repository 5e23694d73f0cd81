//! `aff predict`: photos in, overlays, label maps and JSON out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use autofocusformer::files;
use autofocusformer::models::config::SegmentationTask;
use autofocusformer::vision::{self, RgbImage};
use autofocusformer::{Segmentation, Segmenter, Timings};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::model_args::ModelArgs;
use crate::sources::{self, Source};
use crate::{PhotosSkipped, is_same_file};

/// Segment photos: an overlay and a label map for each
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Predict {
    /// Photos (JPEG, PNG, WebP, BMP or TIFF), folders of them, patterns such as 'photos/*.jpg', or - for standard input
    #[arg(required = true, value_name = "PHOTO")]
    sources: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for the results
    #[arg(long, short, value_name = "FOLDER", default_value = "output")]
    output: PathBuf,
    /// Write the segments of each photo as JSON too: classes, scores, areas, boxes and masks
    #[arg(long)]
    save_json: bool,
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
    /// Show only these classes, by name, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    classes: Option<Vec<String>>,
    /// Pixels of the shorter edge of what the network sees [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    size: Option<u32>,
    /// Photos that are read, and if they have one size computed, at a time
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    batch: usize,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
    /// Print a JSON object for each photo on a line, for other programs
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  aff predict photo.jpg
  aff predict photos/ 'more/*.png' --output results --save-json
  aff predict photo.jpg --classes car,pedestrian
  aff predict street.jpg --model models/aff-tiny-cityscapes --task panoptic --threshold 0.7
  curl -s https://example.org/photo.jpg | aff predict - --json

Results, for photo.jpg and each at the photo's size:
  photo.overlay.png  the photo with its segments in colour
  photo.map.png      the class of every pixel (semantic) or its segment in COCO's colour code (panoptic)
  photo.json         the segments, with --save-json

Exit status: 0 all went well; 1 nothing could be done; 2 wrong arguments; 3 some of several photos were skipped.";

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
struct Times {
    load: Duration,
    decode: Duration,
    network: Timings,
    write: Duration,
}

impl Predict {
    /// Segments every photo and writes the results.
    ///
    /// # Errors
    /// If the model cannot be loaded, two photos would have the same results, or the only photo fails. Of several photos those that fail
    /// are reported and skipped; that some did is the error at the end.
    pub fn run(&self) -> Result<()> {
        ensure!(self.batch > 0, "--batch is 0; expected 1 or more");
        let sources = sources::expand(&self.sources)?;
        self.check_output()?;
        let start = Instant::now();
        let segmenter = self.segmenter()?;
        let mut times = Times { load: start.elapsed(), ..Times::default() };

        let hidden = self.quiet || self.json || sources.len() == 1;
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(sources.len() as u64) };
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} photos (another {eta})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));

        let mut failed = 0;
        for group in sources.chunks(self.batch) {
            for (source, result) in self.predict(&segmenter, group, &mut times) {
                bar.inc(1);
                match result {
                    Ok(line) if self.quiet => drop(line),
                    Ok(line) => bar.suspend(|| println!("{line}")),
                    Err(error) if sources.len() > 1 => {
                        bar.suspend(|| self.report(source, &error));
                        failed += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        bar.finish_and_clear();
        if !self.quiet && !self.json {
            println!("{}", self.summary(sources.len() - failed, &times));
        }
        if failed > 0 {
            return Err(PhotosSkipped { skipped: failed, photos: sources.len() }.into());
        }
        Ok(())
    }

    /// Makes the folder of the results and makes sure that a file can be written there, before anything is computed.
    fn check_output(&self) -> Result<()> {
        let folder = &self.output;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot make the folder for the results", folder.display()))?;
        files::check_folder(folder)
            .with_context(|| format!("{}: cannot write into the folder for the results", folder.display()))
    }

    fn segmenter(&self) -> Result<Segmenter> {
        let mut segmenter = Segmenter::try_from(self.model.load()?)?;
        let task = self.task.map_or(segmenter.options().task, SegmentationTask::from);
        let is_semantic = task == SegmentationTask::Semantic;
        let is_panoptic = task == SegmentationTask::Panoptic;
        let options = segmenter.options_mut();
        options.task = task;
        options.threshold = threshold("--threshold", self.threshold, !is_semantic)?.or(options.threshold);
        if let Some(threshold) = threshold("--mask-threshold", self.mask_threshold, !is_semantic)? {
            options.mask_threshold = threshold;
        }
        if let Some(threshold) = threshold("--overlap-threshold", self.overlap_threshold, is_panoptic)? {
            options.overlap_threshold = threshold;
        }
        if let Some(pixels) = self.size {
            ensure!((8..=8192).contains(&pixels), "--size is {pixels}; expected 8 to 8192 pixels");
            segmenter.set_shortest_edge(pixels)?;
        }
        if let Some(classes) = &self.classes {
            segmenter.set_classes(classes)?;
        }
        Ok(segmenter)
    }

    /// Segments a few photos; for each a line about what was found, or why not.
    fn predict<'a>(
        &self,
        segmenter: &Segmenter,
        sources: &'a [Source],
        times: &mut Times,
    ) -> Vec<(&'a Source, Result<String>)> {
        let start = Instant::now();
        let mut results = Vec::with_capacity(sources.len());
        let (mut opened, mut photos) = (Vec::new(), Vec::new());
        for source in sources {
            match source.open() {
                Ok(photo) => {
                    opened.push(source);
                    photos.push(photo);
                }
                Err(error) => results.push((source, Err(error))),
            }
        }
        times.decode += start.elapsed();

        match segmenter.segment_timed(&photos, &mut times.network) {
            Ok(segmentations) => {
                for ((source, photo), segmentation) in opened.into_iter().zip(&photos).zip(&segmentations) {
                    let start = Instant::now();
                    results.push((source, self.write(source, photo, segmentation)));
                    times.write += start.elapsed();
                }
            }
            Err(error) if photos.len() == 1 => results.push((opened[0], Err(error.into()))),
            // One of several failed: alone, each says for itself.
            Err(_) => {
                for (source, photo) in opened.into_iter().zip(&photos) {
                    let segmentation = segmenter.segment(photo).map_err(anyhow::Error::from);
                    let written = segmentation.and_then(|found| self.write(source, photo, &found));
                    results.push((source, written));
                }
            }
        }
        results
    }

    /// Writes the results of a photo; returns a line about them.
    fn write(&self, source: &Source, photo: &RgbImage, segmentation: &Segmentation) -> Result<String> {
        let mut files = Vec::new();
        let mut path = |suffix: &str| {
            let mut name = source.stem.clone();
            name.push(format!(".{suffix}"));
            let path = self.output.join(name);
            ensure!(
                !is_same_file(&source.path, &path),
                "{}: is the source; give --output another folder",
                path.display()
            );
            files.push(path.clone());
            Ok(path)
        };
        vision::write_png(path("overlay.png")?, &segmentation.overlay(photo)?)?;
        if segmentation.task() != SegmentationTask::Instance {
            segmentation.write_map(path("map.png")?)?;
        }
        if self.save_json {
            segmentation.write_json(path("json")?)?;
        }
        if self.json {
            let size = segmentation.size();
            let line = json!({
                "source": source.path.to_string_lossy(),
                "width": size.width,
                "height": size.height,
                "task": segmentation.task(),
                "segments": segmentation.segments(),
                "files": files.iter().map(|file| file.to_string_lossy()).collect::<Vec<_>>(),
            });
            return Ok(line.to_string());
        }
        Ok(format!("{}: {}", shown(&source.path), found(segmentation)))
    }

    fn report(&self, source: &Source, error: &anyhow::Error) {
        eprintln!("skipped: {error:#}");
        if self.json {
            println!("{}", json!({"source": source.path.to_string_lossy(), "error": format!("{error:#}")}));
        }
    }

    fn summary(&self, photos: usize, times: &Times) -> String {
        let Times { load, decode, network, write } = times;
        format!(
            "{photos} photo{} into {}; load {load:.2?}, decode {decode:.2?}, resize {:.2?}, backbone {:.2?}, decoder {:.2?}, \
             post-process {:.2?}, write {write:.2?}",
            if photos == 1 { "" } else { "s" },
            self.output.display(),
            network.preprocess,
            network.backbone,
            network.decoder,
            network.post_process,
        )
    }
}

/// A path on one line of a terminal, whatever characters its name has.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) { format!("{text:?}") } else { text.into_owned() }
}

/// A threshold that was given, checked: it must mean something for the task.
fn threshold(flag: &str, given: Option<f32>, applies: bool) -> Result<Option<f32>> {
    let Some(value) = given else { return Ok(None) };
    ensure!(applies, "{flag} has no effect on this task; leave it out or choose another --task");
    if !(0.0..=1.0).contains(&value) {
        return Err(anyhow!("{flag} is {value}; expected a number from 0 to 1"));
    }
    Ok(Some(value))
}

fn found(segmentation: &Segmentation) -> String {
    let size = segmentation.size();
    let segments = segmentation.segments();
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for segment in &segments {
        *classes.entry(&segment.label).or_default() += 1;
    }
    let name = |(label, count): (&&str, &usize)| match count {
        1 => (*label).to_owned(),
        count => format!("{count} {label}"),
    };
    let shown: Vec<String> = classes.iter().take(12).map(name).collect();
    let more = if classes.len() > shown.len() { ", ..." } else { "" };
    format!(
        "{} x {} pixels, {} segment{}: {}{more}",
        size.width,
        size.height,
        segments.len(),
        if segments.len() == 1 { "" } else { "s" },
        shown.join(", ")
    )
}
