//! `cargo xtask release`: the best weights of a run into `models/`.

use std::path::PathBuf;

use aff_model::config::ModelConfig;
use aff_weights::ModelFolder;
use anyhow::{Context, Result};
use candle_core::{DType, Device};

/// Steps between the lines of the log that are kept.
const LOG_INTERVAL: u64 = 50;

/// Put the best weights of a training run into models/, in 16 bits, with its log and its curves
#[derive(Debug, clap::Args)]
pub(crate) struct Release {
    /// Folder of the run
    run: PathBuf,
    /// Folder to make, such as models/aff-pico-camvid
    #[arg(long, short)]
    output: PathBuf,
}

impl Release {
    pub(crate) fn run(&self) -> Result<()> {
        let best = ModelFolder::open(self.run.join("best"))?;
        let config: &ModelConfig = best.config();
        let tensors = best.tensors(DType::F16, &Device::Cpu)?;
        ModelFolder::write(&self.output, config, best.preprocessor(), &tensors)?;
        let curves = self.run.join("curves.png");
        std::fs::copy(&curves, self.output.join("curves.png"))
            .with_context(|| format!("cannot copy {}", curves.display()))?;
        let metrics = self.run.join("metrics.jsonl");
        let text = std::fs::read_to_string(&metrics)
            .with_context(|| format!("cannot read {}", metrics.display()))?;
        std::fs::write(self.output.join("training.jsonl"), thinned(&text))?;
        println!("{}: {} tensors", self.output.display(), tensors.len());
        Ok(())
    }
}

/// The validations, and every so many updates.
fn thinned(log: &str) -> String {
    let is_kept = |line: &&str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let is_due = line["step"].as_u64().is_some_and(|step| step.is_multiple_of(LOG_INTERVAL));
        is_due || line["validation"].is_object()
    };
    log.lines().filter(is_kept).map(|line| line.to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validations_and_some_updates_are_kept() {
        let log = "{\"step\":49}\n{\"step\":49,\"validation\":{}}\n{\"step\":50}\n{\"ste";
        assert_eq!(thinned(log), "{\"step\":49,\"validation\":{}}\n{\"step\":50}\n");
    }
}
