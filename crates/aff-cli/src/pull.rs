//! `aff pull`: a published model into the cache.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
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
    /// Fetches what is not kept yet; of several models all that can be had.
    ///
    /// # Errors
    /// A name that is unknown, a licence that is not accepted, or what [`Published::fetch`] returns.
    pub fn run(&self) -> Result<()> {
        let published = Published::from_env();
        let checkpoints = if self.all {
            published_checkpoints()
        } else {
            self.names.iter().map(|name| find(name)).collect::<Result<_>>()?
        };
        let is_kept = |checkpoint| published.kept(checkpoint).is_ok();
        let terms = if checkpoints.iter().all(is_kept) { Terms::AsNoted } else { self.terms(&published)? };
        let mut missing = 0;
        for checkpoint in &checkpoints {
            match published.fetch(checkpoint, terms, &mut DownloadBar::new()) {
                Ok(folder) => log(format_args!("{}: {}", checkpoint.name, folder.display())),
                Err(error) if checkpoints.len() == 1 => return Err(error.into()),
                Err(error) => {
                    missing += 1;
                    note(format_args!("skipped: {error}"));
                }
            }
        }
        ensure!(missing == 0, "{missing} of {} models could not be had", checkpoints.len());
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

/// Fetches a published model whose licence the user accepted, if it is not kept.
pub(crate) fn fetch_accepted(name: &Path) -> Result<()> {
    let checkpoint = name.to_str().filter(|_| !name.exists()).and_then(published_checkpoint).with_context(|| {
        format!(
            "{}: --accept-licence is for published models and this is none; leave it out (`aff models` lists them)",
            name.display()
        )
    })?;
    Published::from_env().fetch(&checkpoint, Terms::Accepted, &mut DownloadBar::new())?;
    Ok(())
}
