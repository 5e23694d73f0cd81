//! The `aff` command: segment photos with AutoFocusFormer.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a command talks to its user")]

use std::process::ExitCode;

use aff_cli::{
    PhotosSkipped, bench::Bench, classify::Classify, convert::Convert, eval::Eval, features::Features,
    info::Info, predict::Predict, tokens::Tokens, train::Train,
};
use anyhow::Result;
use autofocusformer::files;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;

/// Segment images off the grid with AutoFocusFormer
#[derive(Debug, Parser)]
#[command(name = "aff", version, propagate_version = true, after_help = EXIT_STATUS)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 all went well; 1 it could not be done; 2 wrong arguments; 3 some of several photos were skipped; 130 interrupted.
Environment: RAYON_NUM_THREADS, RUST_LOG, NO_COLOR; for models on the hub HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN.";

#[derive(Debug, Subcommand)]
enum Command {
    Predict(Predict),
    Classify(Classify),
    Tokens(Tokens),
    Features(Features),
    Convert(Convert),
    Info(Info),
    Bench(Bench),
    Eval(Eval),
    Train(Train),
    Completions(Completions),
}

/// Print a script that completes the arguments of aff in a shell
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Example:\n  aff completions bash > ~/.local/share/bash-completion/completions/aff"
)]
struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    fn run(&self) {
        clap_complete::generate(self.shell, &mut Arguments::command(), "aff", &mut std::io::stdout());
    }
}

/// A network takes and gives back the same large blocks over and over. The system's allocator returns them to the kernel each time,
/// which clears every page anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    if let Err(error) = ctrlc::set_handler(stop) {
        tracing::warn!("files may be left half written if this program is interrupted: {error}");
    }
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<PhotosSkipped>() { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

/// What Ctrl-C does: files that are being written are finished, and the program ends.
fn stop() {
    let _held = files::hold_writes();
    std::process::exit(130);
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Predict(predict) => predict.run(),
        Command::Classify(classify) => classify.run(),
        Command::Tokens(tokens) => tokens.run(),
        Command::Info(info) => info.run(),
        Command::Features(features) => features.run(),
        Command::Convert(convert) => convert.run(),
        Command::Bench(bench) => bench.run(),
        Command::Eval(eval) => eval.run(),
        Command::Train(train) => train.run(),
        Command::Completions(completions) => {
            completions.run();
            Ok(())
        }
    }
}
