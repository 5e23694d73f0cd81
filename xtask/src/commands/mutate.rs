//! `cargo xtask mutate`: damaged files by the million against everything that reads files.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::check::repository_root;

/// The crates and their tests that go on for as long as `AFF_MUTATE_SECONDS` says.
const TESTS: [(&str, &str); 2] = [("aff-vision", "damaged"), ("aff-weights", "mutate")];

/// Arguments of `cargo xtask mutate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Mutate {
    /// How long each crate's test goes on
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The case to begin with; the tests of CI run those from 0
    #[arg(long, default_value_t = 1_000_000)]
    first: u64,
}

impl Mutate {
    pub(crate) fn run(&self) -> Result<()> {
        for (crate_name, test) in TESTS {
            let status = Command::new("cargo")
                .args(["test", "-p", crate_name, "--test", test, "--", "--nocapture"])
                .env("AFF_MUTATE_SECONDS", (self.minutes * 60).to_string())
                .env("AFF_MUTATE_FIRST", self.first.to_string())
                .current_dir(repository_root()?)
                .status()
                .context("cannot run cargo; is it in the path?")?;
            ensure!(status.success(), "{crate_name} does not stand every damaged file");
        }
        Ok(())
    }
}
