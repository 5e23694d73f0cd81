//! What the commands print. The reader of a pipe may go away at any time; that is no reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Nobody reads standard output any more: there is no use in going on, and nothing to complain about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("standard output is closed")]
pub struct OutputClosed;

/// Prints a line that the command was run for.
///
/// # Errors
/// [`OutputClosed`] if nobody reads it; what the system says if it cannot be written, as to a full disk.
pub(crate) fn print(line: impl Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a line that tells what the command does; the work goes on whether or not it is read.
pub(crate) fn log(line: impl Display) {
    // Nothing is left to tell it to.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line for the user on standard error, where results of other programs do not mix with it.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
