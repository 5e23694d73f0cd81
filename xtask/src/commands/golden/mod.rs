//! `cargo xtask golden`: the detection head and its losses against files of another implementation.

mod deviations;
mod losses;
mod network;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use self::deviations::Deviations;

/// Compare the detection head with golden files: outputs, gradients, matching and losses
///
/// The folder is laid out as fixtures/detect-nano, whose README names the files; sizes come from its config files. Prints the largest
/// deviation of each kind. Fails above 1e-4 (values, relative to the greatest magnitude of a tensor where that is above 1), 1e-3
/// (gradients, relative to their norm) or 1e-5 (costs, losses and their gradients), and where a matching or a choice is another.
#[derive(Debug, clap::Args)]
pub(crate) struct Golden {
    /// Folder of the golden files
    folder: PathBuf,
}

/// What the names of the files of each variant end in, and what it is called.
const VARIANTS: [(&str, &str); 3] = [("", "refined"), ("-plain", "plain"), ("-two-stage", "two stages")];

impl Golden {
    pub(crate) fn run(&self) -> Result<()> {
        let mut deviations = Deviations::default();
        for (suffix, name) in VARIANTS {
            network::compare(&self.folder, suffix, &mut deviations.of(name))
                .with_context(|| format!("the variant `{name}`"))?;
        }
        let losses = File::read(&self.folder.join("losses.safetensors"))?;
        losses::compare(&losses, &mut deviations.of("losses")).context("the losses")?;
        for line in deviations.lines() {
            println!("{line}");
        }
        let exceeded = deviations.exceeded();
        ensure!(exceeded.is_empty(), "too far from the golden files: {}", exceeded.join(", "));
        Ok(())
    }
}

/// The tensors of a file.
struct File {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)
            .with_context(|| format!("{}: cannot read it", path.display()))?;
        Ok(Self { path: path.to_path_buf(), tensors })
    }

    fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).with_context(|| format!("{}: has no tensor `{name}`", self.path.display()))
    }

    fn integers(&self, name: &str) -> Result<Vec<i32>> {
        Ok(self.get(name)?.flatten_all()?.to_vec1()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::repository_root;

    #[test]
    fn the_head_and_its_losses_are_those_of_the_golden_files() {
        let folder = repository_root().unwrap().join("fixtures/detect-nano");
        Golden { folder }.run().unwrap();
    }

    #[test]
    fn what_is_off_is_told() {
        let mut deviations = Deviations::default();
        let of = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let mut group = deviations.of("refined");
        group.values(deviations::Kind::Logits, "a", &of(&[1.0, 200.0]), &of(&[1.0, 200.01])).unwrap();
        group.values(deviations::Kind::Boxes, "b", &of(&[0.5]), &of(&[0.501])).unwrap();
        group.gradient(deviations::Kind::Gradients, "c", &of(&[f32::NAN]), &of(&[0.5])).unwrap();
        group.same(deviations::Kind::Matching, "d", &[1, 2], &[2, 1]);
        assert!(group.values(deviations::Kind::Logits, "e", &of(&[1.0]), &of(&[1.0, 2.0])).is_err());
        assert_eq!(deviations.exceeded(), ["boxes (refined)", "gradients (refined)", "matching (refined)"]);
    }
}
