//! `cargo xtask models`: the configurations of the published models as the files of a model folder.

use std::path::Path;

use aff_cli::published_model_files;
use anyhow::{Context, Result, bail};

use super::check::repository_root;

/// Arguments of `cargo xtask models`.
#[derive(Debug, clap::Args)]
pub(crate) struct Models {
    /// Compare the files instead of writing them
    #[arg(long)]
    check: bool,
}

impl Models {
    pub(crate) fn run(&self) -> Result<()> {
        let root = repository_root()?;
        let mut stale = Vec::new();
        for (path, text) in published_model_files()? {
            let path = root.join("models").join(path);
            if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
                continue;
            }
            stale.push(path.display().to_string());
            if !self.check {
                write(&path, &text)?;
            }
        }
        if self.check && !stale.is_empty() {
            bail!("out of date (run `cargo xtask models`):\n{}", stale.join("\n"));
        }
        println!("{} files {}", stale.len(), if self.check { "differ" } else { "written" });
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_folder_is_up_to_date() {
        Models { check: true }.run().unwrap();
    }
}
