//! `aff convert`: a checkpoint of the published implementation into a model folder.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use autofocusformer::files;
use autofocusformer::weights::{ConfigSource, ConvertOptions, Overwrite, convert};
use indicatif::ProgressBar;

use crate::terminal::log;

/// Convert a checkpoint of the published implementation (.pth, .pkl) into a model folder
#[derive(Debug, clap::Args)]
pub struct Convert {
    /// A classification .pth, a segmentation .pth or a detectron2 .pkl
    checkpoint: PathBuf,
    /// The model folder to make
    #[arg(long, short)]
    output: PathBuf,
    /// Name of the published model, such as aff-mini-ade20k-semantic
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    preset: Option<String>,
    /// YAML configuration of the published implementation
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Classification checkpoint whose backbone replaces that of the segmentation checkpoint
    #[arg(long, value_name = "FILE")]
    backbone: Option<PathBuf>,
    /// Read the written tensors again and compare every bit
    #[arg(long)]
    verify: bool,
    /// Replace an earlier conversion in the folder
    #[arg(long)]
    force: bool,
}

impl Convert {
    /// Converts and says what was made.
    ///
    /// # Errors
    /// What the conversion returns.
    pub fn run(&self) -> Result<()> {
        let config = match (&self.preset, &self.config) {
            (Some(preset), _) => ConfigSource::Preset(preset.clone()),
            (None, Some(file)) => ConfigSource::Yaml(file.clone()),
            (None, None) => ConfigSource::Checkpoint,
        };
        for input in
            [Some(&self.checkpoint), self.config.as_ref(), self.backbone.as_ref()].into_iter().flatten()
        {
            files::open_regular(input)?;
        }
        // Shown on a terminal only.
        let spinner =
            ProgressBar::new_spinner().with_message(format!("converting {}", self.checkpoint.display()));
        spinner.enable_steady_tick(Duration::from_millis(100));
        let report = convert(&ConvertOptions {
            checkpoint: self.checkpoint.clone(),
            backbone: self.backbone.clone(),
            output: self.output.clone(),
            config,
            overwrite: if self.force { Overwrite::Replace } else { Overwrite::Refuse },
            verify: self.verify,
        });
        spinner.finish_and_clear();
        let report = report?;
        let verified = if self.verify { ", verified" } else { "" };
        log(format_args!(
            "{}: {} tensors, {} values{verified}; left out {} that are no weights",
            report.output.display(),
            report.tensors,
            report.parameters,
            report.left_out.len()
        ));
        Ok(())
    }
}
