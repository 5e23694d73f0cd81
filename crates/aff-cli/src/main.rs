//! The `aff` command: segment photos with AutoFocusFormer.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a command talks to its user")]

use std::process::ExitCode;

use aff_cli::{
    bench::Bench, classify::Classify, convert::Convert, eval::Eval, features::Features, info::Info,
    predict::Predict, tokens::Tokens, train::Train,
};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Segment images off the grid with AutoFocusFormer
#[derive(Debug, Parser)]
#[command(name = "aff", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

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
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match Arguments::parse().command {
        Command::Predict(predict) => predict.run(),
        Command::Classify(classify) => classify.run(),
        Command::Tokens(tokens) => tokens.run(),
        Command::Info(info) => info.run(),
        Command::Features(features) => features.run(),
        Command::Convert(convert) => convert.run(),
        Command::Bench(bench) => bench.run(),
        Command::Eval(eval) => eval.run(),
        Command::Train(train) => train.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
