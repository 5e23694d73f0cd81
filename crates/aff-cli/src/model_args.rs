//! Which model a command runs, and on what.

use std::path::PathBuf;

use anyhow::{Result, bail};
use autofocusformer::{Device, Model};

/// Arguments of every command that runs a model.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder of the model, its name on the Hugging Face hub, or random:NAME for a published one with random weights
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, default_value = "main")]
    revision: String,
    /// Device to compute on; this build has the CPU only
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl ModelArgs {
    /// Loads the model.
    pub(crate) fn load(&self) -> Result<Model> {
        if self.device != "cpu" {
            bail!("--device is {:?}; this build computes on the cpu only", self.device);
        }
        Ok(Model::from_pretrained_at(&self.model, &self.revision, &Device::Cpu)?)
    }
}
