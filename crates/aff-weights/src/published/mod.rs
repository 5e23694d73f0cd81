//! The checkpoints that the authors published, by the names of their presets: downloaded from where they lie, converted by the strict
//! reader, kept as model folders.
//!
//! Nobody published sizes or checksums. So a file is trusted on first use: what converts into the preset's network is the checkpoint, its
//! SHA-256 is noted, and a later download must be the same. The weights are under a licence of their authors; nothing is downloaded
//! before its acceptance was noted.

mod fetch;
mod records;
mod table;

use std::path::PathBuf;

pub use table::{PublishedCheckpoint, published_checkpoint, published_checkpoints};

use crate::download::{DownloadObserver, Patience};
use crate::hub::Network;
use crate::{Hub, WeightsError};

const DEFAULT_BASE: &str = "https://docs-assets.developer.apple.com/ml-research/models/aff/";

/// Where the licence of the published checkpoints is.
pub const PUBLISHED_TERMS: [&str; 2] = [
    "https://github.com/apple/ml-autofocusformer",
    "https://github.com/apple/ml-autofocusformer-segmentation",
];

/// Where published checkpoints come from and where the models made of them are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Address of the folder that the paths in the table are below.
    pub base: String,
    /// The folder with a folder for each model below it.
    pub cache: PathBuf,
    /// Whether the network may be touched.
    pub network: Network,
    /// How long the server is waited for.
    pub patience: Patience,
}

/// Whether the licence of the checkpoints ([`PUBLISHED_TERMS`]) was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Terms {
    /// The user has read and accepts it; this is noted.
    Accepted,
    /// If that was noted earlier.
    AsNoted,
}

impl Published {
    /// As the environment says: `AFF_PUBLISHED_BASE`; models are kept in `AFF_CACHE`, by default `XDG_CACHE_HOME/autofocusformer` or
    /// `~/.cache/autofocusformer`; `HF_HUB_OFFLINE` and the limits on time are as for the [`Hub`].
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let Hub { network, patience, .. } = Hub::from_lookup(&lookup);
        let user = || lookup("HOME").or_else(|| lookup("USERPROFILE")).unwrap_or_else(|| ".".to_owned());
        let shared =
            || lookup("XDG_CACHE_HOME").map_or_else(|| PathBuf::from(user()).join(".cache"), PathBuf::from);
        Self {
            base: lookup("AFF_PUBLISHED_BASE").unwrap_or_else(|| DEFAULT_BASE.to_owned()),
            cache: lookup("AFF_CACHE").map_or_else(|| shared().join("autofocusformer"), PathBuf::from),
            network,
            patience,
        }
    }

    /// The model folder that was made of a checkpoint earlier. Asks nobody.
    ///
    /// # Errors
    /// [`WeightsError::NotFetched`] if there is none, or not as it was made.
    pub fn kept(&self, checkpoint: &PublishedCheckpoint) -> Result<PathBuf, WeightsError> {
        let place = records::Place::new(&self.cache, &checkpoint.name);
        place.as_ref().and_then(records::Place::kept).ok_or_else(|| WeightsError::NotFetched {
            name: checkpoint.name.clone(),
            path: self.cache.clone(),
        })
    }

    /// Whether the licence of the checkpoints was accepted earlier.
    pub fn are_terms_accepted(&self) -> bool {
        records::AcceptedTerms::are_noted(&self.cache, &self.base)
    }

    /// The model folder made of a checkpoint: the one that is kept, or one made of a download.
    ///
    /// # Errors
    /// [`WeightsError::Hub`] if the terms were not accepted, there is no such file, the server cannot be reached, or what it sends is not
    /// whole, not the checkpoint of this model, or not what it once was.
    pub fn fetch(
        &self,
        checkpoint: &PublishedCheckpoint,
        terms: Terms,
        observer: &mut dyn DownloadObserver,
    ) -> Result<PathBuf, WeightsError> {
        fetch::fetch(self, checkpoint, terms, observer)
            .map_err(|problem| WeightsError::Hub { model: checkpoint.name.clone(), problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_honoured() {
        let published = |variables: &[(&str, &str)]| {
            Published::from_lookup(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let plain = published(&[("HOME", "/h")]);
        assert_eq!((plain.base.as_str(), plain.network), (DEFAULT_BASE, Network::Online));
        assert_eq!(plain.cache, PathBuf::from("/h/.cache/autofocusformer"));
        assert_eq!(published(&[("XDG_CACHE_HOME", "/x")]).cache, PathBuf::from("/x/autofocusformer"));
        let set =
            published(&[("AFF_PUBLISHED_BASE", "http://m/"), ("AFF_CACHE", "/c"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!(
            (set.base.as_str(), set.cache, set.network),
            ("http://m/", PathBuf::from("/c"), Network::Offline)
        );
    }
}
