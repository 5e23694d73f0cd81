//! `aff predict`: photos in, overlays, label maps and JSON out.

mod classes;
mod pipeline;
mod report;
mod results;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use autofocusformer::files;
use autofocusformer::models::config::{Architecture, SegmentationTask};
use autofocusformer::vision::RgbImage;
use autofocusformer::{Detector, Model, Segmenter};
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use self::pipeline::{Found, Pipeline};
use self::report::{Times, failure, line, summary};
use self::results::Results;
use crate::PhotosSkipped;
use crate::arguments::probability;
use crate::error_text::error_text;
use crate::model_args::ModelArgs;
use crate::sources::{Source, SourceArgs};
use crate::terminal::{log, note, print};

/// Segment photos or find objects in them: an overlay for each, and a label map of segments
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Predict {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Folder for the results
    #[arg(long, short, value_name = "FOLDER", default_value = "output")]
    output: PathBuf,
    /// Write what is found in each photo as JSON too: of segments classes, scores, areas, boxes and masks; of boxes COCO's results, with
    /// `bbox` as left, top, width, height in pixels of the photo and `category_id` as the model counts, from 0
    #[arg(long)]
    save_json: bool,
    /// What to look for; by default what the model was trained for
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Least score of a segment or box (instance, panoptic, detection) [default: the model's for panoptic, else 0.5]
    #[arg(long, value_parser = probability)]
    threshold: Option<f32>,
    /// Mask probability from which a pixel belongs to a segment (instance, panoptic) [default: the model's]
    #[arg(long, value_parser = probability)]
    mask_threshold: Option<f32>,
    /// Least share of its mask that a segment must win (panoptic) [default: the model's]
    #[arg(long, value_parser = probability)]
    overlap_threshold: Option<f32>,
    /// Show only these classes, by name, separated by commas
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
    /// Most boxes of a photo (detection) [default: 100]
    #[arg(long, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    max_detections: Option<usize>,
    /// Pixels of the shorter edge of what the network sees [default: the model's]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(8..=8192))]
    size: Option<u32>,
    /// Photos that are read, and if they have one size computed, at a time
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
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
  aff predict cells.png --model output/nuclei/best --task detection --save-json
  curl -s https://example.org/photo.jpg | aff predict - --json

Results, for photo.jpg and each at the photo's size:
  photo.overlay.png  the photo with its segments in colour, or with its boxes, their classes and scores
  photo.map.png      the class of every pixel (semantic) or its segment in COCO's colour code (panoptic)
  photo.json         the segments or boxes, with --save-json
Photos whose names differ in their endings alone keep them: photo.jpg.overlay.png beside photo.png.overlay.png.

Exit status: 0 all went well; 1 nothing could be done; 2 wrong arguments; 3 some of several photos were skipped.";

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Task {
    /// A class for every pixel
    Semantic,
    /// A mask for every object
    Instance,
    /// Both at once, without overlap
    Panoptic,
    /// A box for every object (detectors)
    Detection,
}

impl Task {
    fn segmentation(self) -> Option<SegmentationTask> {
        match self {
            Self::Semantic => Some(SegmentationTask::Semantic),
            Self::Instance => Some(SegmentationTask::Instance),
            Self::Panoptic => Some(SegmentationTask::Panoptic),
            Self::Detection => None,
        }
    }
}

/// A photo and the line about it, or why there is none.
type Outcome<'a> = (&'a Source, Result<String>);

impl Predict {
    /// Looks at every photo and writes the results.
    ///
    /// # Errors
    /// If the model cannot be loaded, two photos would have the same results or results replace what is read, or the only photo fails. Of
    /// several photos those that fail are reported and skipped; that some did is the error at the end.
    pub fn run(&self) -> Result<()> {
        let sources = self.sources.expand(|left_out| {
            if !self.quiet {
                note(left_out);
            }
        })?;
        let results = Results { folder: &self.output, with_json: self.save_json };
        results.check_sources(&sources)?;
        self.check_output()?;
        let start = Instant::now();
        let pipeline = self.pipeline(&results, &sources)?;
        let mut times = Times { load: start.elapsed(), ..Times::default() };

        let hidden = self.quiet || self.json || sources.len() == 1;
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(sources.len() as u64) };
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} photos (another {eta})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));

        let mut skipped = 0;
        for group in sources.chunks(self.batch) {
            for (source, result) in self.predict(&pipeline, &results, group, &mut times) {
                bar.inc(1);
                match result {
                    Ok(line) => bar.suspend(|| self.tell(line))?,
                    Err(error) if sources.len() > 1 => {
                        skipped += 1;
                        bar.suspend(|| self.tell_failure(source, &error))?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        bar.finish_and_clear();
        if !self.quiet && !self.json {
            log(summary(sources.len() - skipped, &self.output, &times));
        }
        if skipped > 0 {
            return Err(PhotosSkipped { skipped, photos: sources.len() }.into());
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

    fn pipeline(&self, results: &Results<'_>, sources: &[Source]) -> Result<Pipeline> {
        let model = self.model.load()?;
        results.check_model(model.path(), sources)?;
        let is_detector = model.config().architecture() == Architecture::ObjectDetection;
        let mut pipeline = if self.task.map_or(is_detector, |task| task == Task::Detection) {
            Pipeline::Boxes(Box::new(self.detector(model)?))
        } else {
            Pipeline::Segments(Box::new(self.segmenter(model)?))
        };
        if let Some(pixels) = self.size {
            pipeline.set_shortest_edge(pixels)?;
        }
        if let Some(names) = &self.classes {
            let names = classes::split(names, pipeline.labels());
            ensure!(!names.is_empty(), "--classes names no class; leave it out to show all");
            pipeline.set_classes(&names)?;
        }
        Ok(pipeline)
    }

    fn detector(&self, model: Model) -> Result<Detector> {
        let mut detector = Detector::try_from(model)?;
        applicable("--mask-threshold", self.mask_threshold, false)?;
        applicable("--overlap-threshold", self.overlap_threshold, false)?;
        if let Some(threshold) = self.threshold {
            detector.options_mut().set_threshold(threshold)?;
        }
        if let Some(most) = self.max_detections {
            detector.options_mut().max_detections = most;
        }
        Ok(detector)
    }

    fn segmenter(&self, model: Model) -> Result<Segmenter> {
        let mut segmenter = Segmenter::try_from(model)?;
        let task = self.task.and_then(Task::segmentation).unwrap_or(segmenter.options().task);
        let is_semantic = task == SegmentationTask::Semantic;
        let is_panoptic = task == SegmentationTask::Panoptic;
        applicable("--max-detections", self.max_detections, false)?;
        let options = segmenter.options_mut();
        options.task = task;
        if let Some(threshold) = applicable("--threshold", self.threshold, !is_semantic)? {
            options.set_threshold(threshold)?;
        }
        if let Some(threshold) = applicable("--mask-threshold", self.mask_threshold, !is_semantic)? {
            options.set_mask_threshold(threshold)?;
        }
        if let Some(threshold) = applicable("--overlap-threshold", self.overlap_threshold, is_panoptic)? {
            options.set_overlap_threshold(threshold)?;
        }
        Ok(segmenter)
    }

    /// Looks at a few photos; for each a line about what was found, or why not.
    fn predict<'a>(
        &self,
        pipeline: &Pipeline,
        results: &Results<'_>,
        sources: &'a [Source],
        times: &mut Times,
    ) -> Vec<Outcome<'a>> {
        let start = Instant::now();
        let mut outcomes = Vec::with_capacity(sources.len());
        let (mut opened, mut photos) = (Vec::new(), Vec::new());
        for source in sources {
            match source.open(&self.sources.limits()) {
                Ok(photo) => {
                    opened.push(source);
                    photos.push(photo);
                }
                Err(error) => outcomes.push((source, Err(error))),
            }
        }
        times.decode += start.elapsed();

        let write = |source: &Source, photo: &RgbImage, found: &Found| {
            let files = results.write(source, photo, found)?;
            anyhow::Ok(line(source, found, &files, self.json))
        };
        match pipeline.run(&photos, &mut times.network) {
            Ok(all) => {
                for ((source, photo), found) in opened.into_iter().zip(&photos).zip(&all) {
                    let start = Instant::now();
                    outcomes.push((source, write(source, photo, found)));
                    times.write += start.elapsed();
                }
            }
            Err(error) if photos.len() == 1 => outcomes.push((opened[0], Err(error.into()))),
            // One of several failed: alone, each says for itself.
            Err(_) => {
                for (source, photo) in opened.into_iter().zip(&photos) {
                    let found = pipeline.run_alone(photo).map_err(anyhow::Error::from);
                    outcomes.push((source, found.and_then(|found| write(source, photo, &found))));
                }
            }
        }
        outcomes
    }

    /// JSON is what the command was run for; other lines tell how it gets on.
    fn tell(&self, line: String) -> Result<()> {
        match (self.json, self.quiet) {
            (true, _) => print(line),
            (false, true) => Ok(()),
            (false, false) => {
                log(line);
                Ok(())
            }
        }
    }

    fn tell_failure(&self, source: &Source, error: &anyhow::Error) -> Result<()> {
        let error = error_text(error);
        note(format_args!("skipped: {error}"));
        if self.json { print(failure(source, &error)) } else { Ok(()) }
    }
}

/// A threshold that was given: it must mean something for the task.
fn applicable<T>(flag: &str, given: Option<T>, applies: bool) -> Result<Option<T>> {
    ensure!(
        given.is_none() || applies,
        "{flag} has no effect on this task; leave it out or choose another --task"
    );
    Ok(given)
}
