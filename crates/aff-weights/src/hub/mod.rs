//! Models from the Hugging Face hub, in the cache that its Python client uses, too.
//!
//! The protocol is small: `HEAD` of `ENDPOINT/ID/resolve/REVISION/FILE` names the commit, the content (`ETag`) and the size of a file;
//! `GET` of the same address, often by way of another server, is the file. What a server says is not trusted: names are checked where
//! they are read ([`metadata`], [`names`]), sizes are bounded, bodies are hashed, the token stays with the hub's own host.

mod cache;
mod checked;
mod environment;
mod fetch;
mod metadata;
mod model_name;
mod names;

use std::path::PathBuf;

pub use model_name::ModelName;

use crate::WeightsError;
use crate::download::{DownloadObserver, Patience, Token};

/// Where models come from and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hub {
    /// The folder with `models--org--name` below it.
    pub cache: PathBuf,
    /// Address of the hub.
    pub endpoint: String,
    /// Access token for private and gated models. No other host than the endpoint's sees it.
    pub token: Option<Token>,
    /// Whether the network may be touched.
    pub network: Network,
    /// How the files of a commit refer to the files in the cache.
    pub links: Links,
    /// How long the hub is waited for.
    pub patience: Patience,
}

/// Whether requests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// Branches are looked up, and what is missing is downloaded.
    Online,
    /// No request is made: what is in the cache must do.
    Offline,
}

/// How the files of a commit refer to the files in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Links {
    /// By symbolic links; as [`Self::Copies`] where the system makes none.
    Symbolic,
    /// Not at all: they are files themselves.
    Copies,
}

impl Hub {
    /// The folder of a model at a revision: a branch, a tag or a commit.
    ///
    /// A branch is looked up first, and all files are of the commit that it stands for. If the hub cannot be reached, the commit that it
    /// stood for last serves, if the cache has it; a commit that is in the cache is not asked about. What is missing or damaged is
    /// downloaded; interrupted downloads go on where they ended.
    ///
    /// # Errors
    /// [`WeightsError::Hub`] if the name is none, the hub refuses or cannot be reached, what it sends is not what it announced, or a file
    /// is not in the cache and the network must not be touched.
    pub fn fetch(&self, id: &str, revision: &str) -> Result<PathBuf, WeightsError> {
        self.fetch_observed(id, revision, &mut ())
    }

    /// As [`Self::fetch`], watched.
    ///
    /// # Errors
    /// The same.
    pub fn fetch_observed(
        &self,
        id: &str,
        revision: &str,
        observer: &mut dyn DownloadObserver,
    ) -> Result<PathBuf, WeightsError> {
        fetch::fetch(self, (id, revision), observer)
            .map_err(|problem| WeightsError::Hub { model: format!("{id} at {revision}"), problem })
    }
}
