//! `cargo xtask overfit`: whether training can learn eight images by heart.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use aff_train::{Observer, Recipe, Trainer, ValidationReport};
use anyhow::{Context, Result, ensure};

use super::check::repository_root;

/// Train on eight images until a metric on them exceeds what is wanted: a check that everything learns
///
/// Twice as fast in a release build: cargo run --release -p xtask -- overfit --data FOLDER
#[derive(Debug, clap::Args)]
pub(crate) struct Overfit {
    /// Folder of the data: CamVid for the default recipe, the nuclei for that of detection
    #[arg(long)]
    data: PathBuf,
    /// Recipe, in the repository
    #[arg(long, default_value = "recipes/overfit.yaml")]
    recipe: PathBuf,
    /// Metric of the validation
    #[arg(long, default_value = "mean_iou")]
    metric: String,
    /// What a network that learns must reach on the images it is shown
    #[arg(long, default_value_t = 0.95)]
    wanted: f64,
    /// Folder of the run
    #[arg(long, default_value = "output/overfit")]
    output: PathBuf,
}

impl Overfit {
    pub(crate) fn run(&self) -> Result<()> {
        let root = repository_root()?;
        let mut recipe = Recipe::read(root.join(&self.recipe))?;
        recipe.data.folder.clone_from(&self.data);
        recipe.run.output.clone_from(&self.output);
        recipe.model.initial = recipe.model.initial.map(|folder| root.join(folder));
        let mut trainer = Trainer::new(recipe)?;
        let mut curve =
            Curve { metric: &self.metric, wanted: self.wanted, start: Instant::now(), last: None };
        trainer.run(&mut curve)?;
        let last = curve.last.with_context(|| format!("no validation had `{}`", self.metric))?;
        ensure!(last > self.wanted, "{} {last:.4}; wanted {}", self.metric, self.wanted);
        Ok(())
    }
}

/// A line for each validation; no more of them than are wanted.
struct Curve<'a> {
    metric: &'a str,
    wanted: f64,
    start: Instant,
    last: Option<f64>,
}

impl Observer for Curve<'_> {
    fn validated(&mut self, report: &ValidationReport) -> ControlFlow<()> {
        self.last = report.validation.metrics.get(self.metric).copied();
        let found = self.last.unwrap_or(f64::NAN);
        let seconds = self.start.elapsed().as_secs();
        println!("step {}: {} {found:.4} after {seconds} s", report.step, self.metric);
        if found > self.wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
