//! `aff train`: a recipe in, a run's folder out.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use aff_train::{Observer, Recipe, StepReport, Trainer, ValidationReport};
use anyhow::Result;
use autofocusformer::files;
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::log;

/// Bytes of a recipe; those of the repository have two thousand.
const LARGEST_RECIPE: u64 = 1 << 20;

/// Train a segmenter as a recipe says; goes on where a run in the same folder stopped
#[derive(Debug, clap::Args)]
pub struct Train {
    /// Recipe, a YAML file; `recipes/` has the ones that our models were made with
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of the data, instead of the recipe's
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Folder of the results, instead of the recipe's
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Seed of everything that is random, instead of the recipe's
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

impl Train {
    /// Runs the recipe to its end.
    ///
    /// # Errors
    /// If the recipe, the data or a checkpoint cannot be used, or the run diverges.
    pub fn run(&self) -> Result<()> {
        // No device, no pipe, nothing without an end.
        files::read(&self.config, LARGEST_RECIPE)?;
        let mut recipe = Recipe::read(&self.config)?;
        if let Some(data) = &self.data {
            recipe.data.folder.clone_from(data);
        }
        if let Some(output) = &self.output {
            recipe.run.output.clone_from(output);
        }
        recipe.run.seed = self.seed.unwrap_or(recipe.run.seed);
        let output = recipe.run.output.clone();
        let mut trainer = Trainer::new(recipe)?;
        if self.quiet {
            trainer.run(&mut ())?;
            return Ok(());
        }
        log(format_args!("{} parameters; results in {}", trainer.parameters().count(), output.display()));
        trainer.run(&mut Progress { bar: ProgressBar::hidden() })?;
        match trainer.best() {
            Some(best) => log(format_args!(
                "best {} on the validation split {:.4} after {} steps: {}",
                best.metric.replace('_', " "),
                best.value,
                best.step,
                output.join("best").display()
            )),
            None => log(format_args!("last weights: {}", output.join("last").display())),
        }
        Ok(())
    }
}

/// A bar on a terminal, lines for validations everywhere.
struct Progress {
    bar: ProgressBar,
}

impl Observer for Progress {
    fn started(&mut self, first: u64, steps: u64) {
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg} {elapsed} (another {eta})");
        self.bar = ProgressBar::new(steps).with_position(first);
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.reset_eta();
    }

    fn stepped(&mut self, report: &StepReport, time: Duration) {
        self.bar.set_message(format!("loss {:.3}, {:.2} s a step", report.loss, time.as_secs_f64()));
        self.bar.inc(1);
    }

    fn warned(&mut self, warning: &str) {
        self.bar.suspend(|| log(format_args!("warning: {warning}")));
    }

    fn validated(&mut self, report: &ValidationReport) -> ControlFlow<()> {
        let found = &report.validation;
        let line = format!(
            "step {}: {} {:.4}{}",
            report.step,
            found.decides.replace('_', " "),
            found.value(),
            if report.is_best { ", the best so far" } else { "" }
        );
        if self.bar.is_hidden() {
            log(line);
        } else {
            self.bar.println(line);
        }
        ControlFlow::Continue(())
    }
}
