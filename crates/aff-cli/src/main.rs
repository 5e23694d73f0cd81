//! The `aff` command: segment photos with AutoFocusFormer.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use aff_cli::{Arguments, OutputClosed, PhotosSkipped, error_text, note};
use autofocusformer::files;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// A network takes and gives back the same large blocks over and over. The system's allocator returns them to the kernel each time,
/// which clears every page anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // A closed standard error is no reason to panic.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    let arguments = Arguments::parse();
    if let Err(error) = ctrlc::set_handler(stop) {
        tracing::warn!("files may be left half written if this program is interrupted: {error}");
    }
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {}", error_text(&error)));
            if error.is::<PhotosSkipped>() { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

/// What Ctrl-C does: files that are being written are finished, and the program ends.
fn stop() {
    let _held = files::hold_writes();
    std::process::exit(130);
}
