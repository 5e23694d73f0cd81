//! Which model a command runs, and on what.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use autofocusformer::{DType, Device, EMBEDDED_MODEL, Model, Place};
use clap::ValueEnum;

/// Arguments of every command that runs a model.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder of the model, its name on the Hugging Face hub, or random:NAME for a published one with random weights [default: the
    /// model in this program, which knows street scenes]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, default_value = "main", requires = "model")]
    revision: String,
    /// Device to compute on; this build has the CPU only
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Numbers to compute in; f16 is slow on a CPU
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
}

/// Numbers to compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    F16,
    F32,
    F64,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F16 => Self::F16,
            Precision::F32 => Self::F32,
            Precision::F64 => Self::F64,
        }
    }
}

impl ModelArgs {
    /// What the model is called.
    pub(crate) fn name(&self) -> String {
        self.model.as_ref().map_or_else(|| EMBEDDED_MODEL.to_owned(), |model| model.display().to_string())
    }

    /// Loads the model.
    pub(crate) fn load(&self) -> Result<Model> {
        if self.device != "cpu" {
            bail!("--device is {:?}; this build computes on the cpu only", self.device);
        }
        let place = Place { device: Device::Cpu, dtype: self.dtype.into() };
        load(self.model.as_deref(), &self.revision, &place)
    }
}

/// Loads a model, or the one in this program where none is named.
pub(crate) fn load(model: Option<&Path>, revision: &str, place: &Place) -> Result<Model> {
    match model {
        Some(model) => Ok(Model::from_pretrained(crate::hub::local(model, revision)?, place)?),
        None => Ok(Model::embedded(place)?),
    }
}
