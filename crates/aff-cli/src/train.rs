//! `aff train`: a recipe in, a run's folder out.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aff_train::data::layout_of;
use aff_train::tasks::TaskName;
use aff_train::{
    ModelChoice, Observer, Recipe, StepReport, Suggestion, Trainer, ValidationReport, Wish, suggest,
};
use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::data_args::{LayoutArgs, Task};
use crate::terminal::log;

/// Train a model as a recipe says, or on data alone; goes on where a run in the same folder stopped
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Train {
    /// Recipe, a YAML file; `recipes/` has the ones that our models were made with. Without one, settings are chosen by data and machine
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    config: Option<PathBuf>,
    /// Folder of the data, instead of the recipe's
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    layout: LayoutArgs,
    /// What to learn, without a recipe [default: what such data are mostly for]
    #[arg(long, value_enum, conflicts_with = "config")]
    task: Option<Task>,
    /// What learns, without a recipe: a model folder, whose classes may be others, or the name of a published model, from random
    /// weights [default: a small model for CPUs, from random weights]
    #[arg(long, value_name = "MODEL", conflicts_with = "config")]
    model: Option<String>,
    /// Updates, instead of the recipe's
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Folder of the results, instead of the recipe's [default without a recipe: output/TASK]
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Seed of everything that is random, instead of the recipe's
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  aff train --config recipes/aff-pico-camvid.yaml --data CamVid
  aff train --data my-cells --task instance
  aff train --data my-photos --model output/aff-mini-ade20k --output output/mine

Without --config the splits train and val are used, what was chosen is said, and OUTPUT/recipe.yaml has it all. To change it, change a
copy of that file and give it as --config.";

impl Train {
    /// Runs the recipe to its end.
    ///
    /// # Errors
    /// If the recipe, the data or a checkpoint cannot be used, or the run diverges.
    pub fn run(&self) -> Result<()> {
        let mut recipe = match (&self.config, &self.data) {
            (Some(config), _) => Recipe::read(config)?,
            (None, Some(data)) => self.suggested(data)?,
            (None, None) => bail!("there is nothing to train; give --config or --data"),
        };
        if let Some(data) = &self.data {
            recipe.data.folder.clone_from(data);
        }
        if let Some(name) = self.layout.name() {
            recipe.data.name = Some(name.to_owned());
        }
        if let Some(output) = &self.output {
            recipe.run.output.clone_from(output);
        }
        recipe.run.seed = self.seed.unwrap_or(recipe.run.seed);
        recipe.run.steps = self.steps.unwrap_or(recipe.run.steps);
        let output = recipe.run.output.clone();
        // Once the trainer has the folder for itself: nobody else's recipe is replaced.
        let unwritten = self.config.is_none().then(|| recipe.clone());
        let mut trainer = Trainer::new(recipe)?;
        if let Some(recipe) = unwritten {
            recipe.write(output.join("recipe.yaml"))?;
        }
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

impl Train {
    /// A recipe made up from the data; says what was chosen.
    fn suggested(&self, data: &Path) -> Result<Recipe> {
        let layout = layout_of(data, self.layout.name())?;
        let of_layout = layout.tasks().first().copied().unwrap_or_default();
        let task = self.task.map_or(of_layout, TaskName::from);
        let output = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("output/{task}")));
        let mut wish = Wish::new(task, data, output);
        wish.layout = self.layout.name().map(str::to_owned);
        wish.steps = self.steps;
        if let Some(model) = &self.model {
            wish.model = ModelChoice::named(model)?;
        }
        let Suggestion { recipe, reasons } = suggest(&wish)?;
        if !self.quiet {
            log(format_args!("chosen for {task}:"));
            reasons.iter().for_each(|reason| log(format_args!("  {reason}")));
        }
        Ok(recipe)
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
