//! `cargo xtask overfit`: whether training can learn eight images by heart.

use std::ops::ControlFlow;
use std::path::PathBuf;

use aff_train::{Observer, Recipe, Trainer, ValidationReport};
use anyhow::{Context, Result, ensure};

use super::check::repository_root;

/// What a network that learns must reach on the images it is shown.
const WANTED: f64 = 0.95;

/// Train on eight images of CamVid until the mean IoU on them exceeds 0.95: a check that everything learns
///
/// Twice as fast in a release build: cargo run --release -p xtask -- overfit --data FOLDER
#[derive(Debug, clap::Args)]
pub(crate) struct Overfit {
    /// Folder of CamVid
    #[arg(long)]
    data: PathBuf,
    /// Folder of the run
    #[arg(long, default_value = "output/overfit")]
    output: PathBuf,
}

impl Overfit {
    pub(crate) fn run(&self) -> Result<()> {
        let mut recipe = Recipe::read(repository_root()?.join("recipes/overfit.yaml"))?;
        recipe.data.folder.clone_from(&self.data);
        recipe.run.output.clone_from(&self.output);
        let mut trainer = Trainer::new(recipe)?;
        trainer.run(&mut Lines)?;
        let best = trainer.best().context("the recipe has no validation")?;
        ensure!(best.value > WANTED, "mean IoU {:.4} after {} steps; wanted {WANTED}", best.value, best.step);
        println!("mean IoU {:.4} after {} steps", best.value, best.step);
        Ok(())
    }
}

/// A line for each validation; no more of them than are wanted.
struct Lines;

impl Observer for Lines {
    fn validated(&mut self, report: &ValidationReport) -> ControlFlow<()> {
        let found = report.validation.value();
        println!("step {}: mean IoU {found:.4}", report.step);
        if found > WANTED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
