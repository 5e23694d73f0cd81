//! Repository chores: `cargo xtask <command>`.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command talks to its user")]

mod commands;

use aff_cli::convert::Convert;
use anyhow::Result;
use clap::Parser;

/// Repository chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Check the rules of the repository that the compiler does not see
    Check(commands::check::Check),
    Convert(Convert),
    /// Compile the CUDA kernels with NVIDIA's compiler, from PyPI, and lint the feature `cuda`; needs no GPU
    Cuda(commands::cuda::Cuda),
    Golden(commands::golden::Golden),
    /// Write the configurations of the published models into models/
    Models(commands::models::Models),
    /// Read damaged files for some minutes: neither may anything panic nor take more than its share of time and memory
    Mutate(commands::mutate::Mutate),
    Overfit(commands::overfit::Overfit),
    Release(commands::release::Release),
    /// Run the tests of the crate with unsafe code under AddressSanitizer (needs a nightly compiler)
    Sanitize(commands::sanitize::Sanitize),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Check(check) => check.run(),
        Command::Convert(convert) => convert.run(),
        Command::Cuda(cuda) => cuda.run(),
        Command::Golden(golden) => golden.run(),
        Command::Models(models) => models.run(),
        Command::Mutate(mutate) => mutate.run(),
        Command::Overfit(overfit) => overfit.run(),
        Command::Release(release) => release.run(),
        Command::Sanitize(sanitize) => sanitize.run(),
    }
}
