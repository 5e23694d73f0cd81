//! `aff models`: which models there are.

use anyhow::Result;
use autofocusformer::EMBEDDED_MODEL;
use autofocusformer::weights::{Published, published_checkpoints};

use crate::terminal::print;

/// List the models that --model takes by name: built in, kept, or to be had from their authors
#[derive(Debug, clap::Args)]
pub struct Models {}

impl Models {
    /// Prints the list.
    ///
    /// # Errors
    /// If nobody reads it.
    pub fn run(&self) -> Result<()> {
        let published = Published::from_env();
        let line = |name: &str, state: &str, figure: &str| {
            print(format!("{name:<32} {state:<10} {figure}").trim_end().to_owned())
        };
        line("MODEL", "STATE", "PUBLISHED FIGURE, %")?;
        line(EMBEDDED_MODEL, "built in", "")?;
        for checkpoint in published_checkpoints() {
            let state = if published.kept(&checkpoint).is_ok() { "kept" } else { "aff pull" };
            line(&checkpoint.name, state, checkpoint.figure)?;
        }
        Ok(())
    }
}
