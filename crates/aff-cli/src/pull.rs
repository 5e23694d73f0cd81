//! `aff pull`: a published model into the cache.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result, bail};
use autofocusformer::weights::{
    PUBLISHED_TERMS, Published, PublishedCheckpoint, Terms, published_checkpoint, published_checkpoints,
};

use crate::download::DownloadBar;
use crate::terminal::{log, note};

/// Download published models, convert them and keep them for --model NAME
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  aff pull aff-tiny-ade20k-semantic
  aff predict photo.jpg --model aff-tiny-ade20k-semantic

`aff models` lists the names. Models are kept in AFF_CACHE, by default autofocusformer in XDG_CACHE_HOME or ~/.cache.
AFF_PUBLISHED_BASE names another server than the authors'.")]
pub struct Pull {
    /// Names of published models
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Accept the licence of the authors' weights, which forbids some uses; else it is asked for once
    #[arg(long)]
    accept_licence: bool,
}

impl Pull {
    /// Fetches what is not kept yet.
    ///
    /// # Errors
    /// A name that is unknown, a licence that is not accepted, or what [`Published::fetch`] returns, at the first model that fails.
    pub fn run(&self) -> Result<()> {
        let published = Published::from_env();
        let checkpoints = if self.all {
            published_checkpoints()
        } else {
            self.names.iter().map(|name| find(name)).collect::<Result<_>>()?
        };
        for checkpoint in checkpoints {
            let folder = match published.kept(&checkpoint) {
                Ok(folder) => folder,
                Err(_) => published.fetch(&checkpoint, self.terms(&published)?, &mut DownloadBar::new())?,
            };
            log(format_args!("{}: {}", checkpoint.name, folder.display()));
        }
        Ok(())
    }

    /// Whether the user accepts the licence: by the flag, earlier, or now.
    fn terms(&self, published: &Published) -> Result<Terms> {
        if self.accept_licence {
            return Ok(Terms::Accepted);
        }
        if published.are_terms_accepted() {
            return Ok(Terms::AsNoted);
        }
        let [first, second] = PUBLISHED_TERMS;
        let licence = format!(
            "the weights are under a licence of their authors, which forbids some uses; it is at {first} and {second}"
        );
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            bail!("{licence}; read it, and accept it with --accept-licence");
        }
        note(format_args!("{licence}\nDo you accept it? Type yes:"));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        if answer.trim() != "yes" {
            bail!("the licence was not accepted; nothing was downloaded");
        }
        Ok(Terms::Accepted)
    }
}

fn find(name: &str) -> Result<PublishedCheckpoint> {
    published_checkpoint(name)
        .with_context(|| format!("{name}: no published model has this name; `aff models` lists them"))
}
