//! `cargo xtask sanitize`: the tests of the crate with unsafe code under AddressSanitizer.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::check::{UNSAFE_CRATE, repository_root};

/// Arguments of `cargo xtask sanitize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sanitize {}

impl Sanitize {
    /// Needs a nightly compiler for Linux on x86-64.
    pub(crate) fn run(&self) -> Result<()> {
        let root = repository_root()?;
        let status = Command::new("cargo")
            .args(["+nightly", "test", "-p", UNSAFE_CRATE, "--lib", "--tests"])
            // Named, so that build scripts are not sanitised.
            .args(["--target", "x86_64-unknown-linux-gnu"])
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env("CARGO_TARGET_DIR", root.join("target/sanitize"))
            .current_dir(root)
            .status()
            .context("cannot run cargo; is it in the path?")?;
        ensure!(status.success(), "the tests of {UNSAFE_CRATE} fail under AddressSanitizer");
        Ok(())
    }
}
