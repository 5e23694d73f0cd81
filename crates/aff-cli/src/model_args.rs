//! Which model a command runs, and on what.

use std::path::{Path, PathBuf};

use anyhow::Result;
use autofocusformer::files::Protected;
use autofocusformer::{BuiltInModel, DType, Device, Model, TensorOptions};
use clap::ValueEnum;

use crate::download::DownloadBar;
use crate::pull::fetch_accepted;

/// Arguments of every command that runs a model.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder of the model, name of one that `aff models` lists or that is on the Hugging Face hub, or random:NAME for a published one
    /// with random weights [default: aff-pico-camvid, which is in this program and knows street scenes]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, default_value = "main", requires = "model")]
    revision: String,
    /// Download a published model that is not kept yet, and accept the licence of its authors, which forbids some uses
    #[arg(long, requires = "model")]
    accept_licence: bool,
    /// Device to compute on: cpu; in builds with the feature `cuda` also cuda, or cuda:1 for the second GPU
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Numbers to compute in; f16 is slow on a CPU
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
}

fn device(text: &str) -> Result<Device, String> {
    if text == "cpu" {
        return Ok(Device::Cpu);
    }
    let number = match text.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|number| number.parse().ok()),
        None => None,
    };
    match number {
        Some(number) => cuda(number),
        None => Err("expected cpu, cuda or cuda:NUMBER".to_owned()),
    }
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device, String> {
    Device::new_cuda_with_stream(number).map_err(|error| {
        format!("no GPU with this number can be used; `nvidia-smi` lists those that there are, and the version of CUDA that their driver takes ({error})")
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, String> {
    Err("this build computes on the CPU only; build it with `--features cuda` for NVIDIA GPUs".to_owned())
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
        let preferred = || BuiltInModel::preferred().map_or("no model", BuiltInModel::name).to_owned();
        self.model.as_ref().map_or_else(preferred, |model| model.display().to_string())
    }

    /// Loads the model.
    pub(crate) fn load(&self) -> Result<Model> {
        if let Some(model) = self.model.as_deref().filter(|_| self.accept_licence) {
            fetch_accepted(model)?;
        }
        let options = TensorOptions { device: self.device.clone(), dtype: self.dtype.into() };
        load(self.model.as_deref(), &self.revision, &options)
    }
}

/// Loads a model, or the one in this program where none is named.
pub(crate) fn load(model: Option<&Path>, revision: &str, options: &TensorOptions) -> Result<Model> {
    let Some(name) = model else { return Ok(BuiltInModel::preferred()?.load(options)?) };
    let loader = Model::loader(name).revision(revision).device(&options.device).dtype(options.dtype);
    Ok(loader.load_observed(&mut DownloadBar::new())?)
}

/// The files in a model's folder, which no output may replace; none of a model that is in no folder.
pub(crate) fn model_files(model: &Path) -> Vec<PathBuf> {
    let folder = if model.is_file() { model.parent() } else { Some(model) };
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect()
}

/// Refuses an output that would replace the source or a file of the model.
pub(crate) fn check_output(output: &Path, source: &Path, model: &Model) -> Result<()> {
    let mut files = Protected::default();
    files.protect(source);
    model_files(model.path()).iter().for_each(|file| files.protect(file));
    Ok(files.check(output)?)
}
