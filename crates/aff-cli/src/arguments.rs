//! The commands and how their values are read.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    bench::Bench, classify::Classify, convert::Convert, data::Data, eval::Eval, features::Features,
    info::Info, models::Models, predict::Predict, pull::Pull, terminal, tokens::Tokens, train::Train,
};

/// Segment images off the grid with AutoFocusFormer
#[derive(Debug, Parser)]
#[command(name = "aff", version, propagate_version = true, after_help = EXIT_STATUS)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 all went well; 1 it could not be done; 2 wrong arguments; 3 some of several photos were skipped; 130 interrupted.
Environment: RAYON_NUM_THREADS, RUST_LOG (debug tells what is computed), NO_COLOR; for models on the hub HF_HOME,
XDG_CACHE_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_DISABLE_IMPLICIT_TOKEN,
HF_HUB_DISABLE_SYMLINKS, HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT; for published ones AFF_CACHE, AFF_PUBLISHED_BASE.";

#[derive(Debug, Subcommand)]
enum Command {
    Predict(Predict),
    Classify(Classify),
    Tokens(Tokens),
    Features(Features),
    Convert(Convert),
    Pull(Pull),
    Models(Models),
    Info(Info),
    Bench(Bench),
    Data(Data),
    Eval(Eval),
    Train(Train),
    Completions(Completions),
}

impl Arguments {
    /// Does what the arguments say.
    ///
    /// # Errors
    /// What the command returns; [`OutputClosed`](crate::OutputClosed) if nobody reads its results any more.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            Command::Predict(predict) => predict.run(),
            Command::Classify(classify) => classify.run(),
            Command::Tokens(tokens) => tokens.run(),
            Command::Info(info) => info.run(),
            Command::Features(features) => features.run(),
            Command::Convert(convert) => convert.run(),
            Command::Pull(pull) => pull.run(),
            Command::Models(models) => models.run(),
            Command::Bench(bench) => bench.run(),
            Command::Data(data) => data.run(),
            Command::Eval(eval) => eval.run(),
            Command::Train(train) => train.run(),
            Command::Completions(completions) => completions.run(),
        }
    }
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
    fn run(&self) -> Result<()> {
        // Made in memory: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "aff", &mut script);
        terminal::print(String::from_utf8_lossy(&script).trim_end())
    }
}

/// Reads a number from 0 to 1.
pub(crate) fn probability(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Reads the name of a picture to write, which is a PNG.
pub(crate) fn png_path(text: &str) -> Result<PathBuf, String> {
    const OTHERS: [&str; 10] = ["jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff", "gif", "avif", "jxl"];
    let path = PathBuf::from(text);
    let extension = extension(&path);
    if OTHERS.contains(&extension.as_str()) {
        return Err("the picture is a PNG; expected a name that ends in .png".to_owned());
    }
    Ok(path)
}

/// What a file's name ends in, in small letters.
pub(crate) fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}
