//! `aff data`: what is in a data set, before hours are spent on it.

mod check;

use anyhow::Result;
use clap::Subcommand;

use self::check::Check;

/// Look at data sets
#[derive(Debug, clap::Args)]
pub struct Data {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    Check(Check),
}

impl Data {
    /// Does what the arguments say.
    ///
    /// # Errors
    /// What the command returns.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            DataCommand::Check(check) => check.run(),
        }
    }
}
