//! `aff models`: which models there are.

use anyhow::Result;
use autofocusformer::models::Network;
use autofocusformer::models::config::ModelConfig;
use autofocusformer::models::config::SegmentationTask::{Instance, Panoptic, Semantic};
use autofocusformer::weights::{PUBLISHED_TERMS, Published, published_checkpoint, published_models};
use autofocusformer::{BuiltInModel, models::config::Architecture};

use crate::terminal::print;

/// List the models that --model takes by name: built in, kept, or to be had from their authors
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The size is that of the weights on a disk. Figures are in percent, of the validation images of the data set in the name; those of
published models are their authors'. `aff pull NAME` downloads a model whose state is \"pull\".")]
pub struct Models {}

/// A line of the list.
struct Entry {
    name: String,
    task: &'static str,
    classes: usize,
    bytes: usize,
    state: &'static str,
    figure: String,
    licence: &'static str,
}

impl Models {
    /// Prints the list.
    ///
    /// # Errors
    /// If nobody reads it.
    pub fn run(&self) -> Result<()> {
        print(row(["MODEL", "TASK", "CLASSES", "SIZE", "STATE", "FIGURES", "LICENCE OF THE WEIGHTS"]))?;
        for model in built_in()?.into_iter().chain(published()?) {
            let (classes, size) = (model.classes.to_string(), megabytes(model.bytes));
            let columns =
                [&model.name, model.task, &classes, &size, model.state, &model.figure, model.licence];
            print(row(columns))?;
        }
        let [first, second] = PUBLISHED_TERMS;
        print(format_args!("\nThe authors' licence forbids some uses: {first} and {second}"))
    }
}

fn built_in() -> Result<Vec<Entry>> {
    let entry = |&model: &BuiltInModel| {
        let config = model.config()?;
        Ok(Entry {
            name: model.name().to_owned(),
            task: task(&config),
            classes: config.num_classes(),
            bytes: model.num_bytes(),
            state: "built in",
            figure: model.figure().to_owned(),
            licence: model.licence(),
        })
    };
    BuiltInModel::all().iter().map(entry).collect()
}

fn published() -> Result<Vec<Entry>> {
    let place = Published::from_env();
    let mut entries = Vec::new();
    for preset in published_models() {
        let Some(checkpoint) = published_checkpoint(&preset.name) else { continue };
        let macs = checkpoint.giga_macs.map(|macs| format!("{macs} GMACs"));
        let figures = Some(checkpoint.figure.to_owned()).filter(|figure| !figure.is_empty());
        entries.push(Entry {
            task: task(&preset.config),
            classes: preset.config.num_classes(),
            // They are kept as 32-bit floats.
            bytes: 4 * Network::num_parameters(&preset.config)?,
            state: if place.kept(&checkpoint).is_ok() { "kept" } else { "pull" },
            figure: figures.into_iter().chain(macs).collect::<Vec<_>>().join(", "),
            licence: "the authors'",
            name: preset.name,
        });
    }
    Ok(entries)
}

fn task(config: &ModelConfig) -> &'static str {
    match (config.segmentation_config.as_ref().map(|segmentation| segmentation.task), config.architecture()) {
        (Some(Semantic), _) => "semantic",
        (Some(Instance), _) => "instance",
        (Some(Panoptic), _) => "panoptic",
        (None, Architecture::ImageClassification) => "classify",
        (None, _) => "detect",
    }
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn row([name, task, classes, size, state, figures, licence]: [&str; 7]) -> String {
    format!("{name:<30} {task:<9} {classes:>7} {size:>9}  {state:<9} {figures:<34} {licence}")
}
