//! What is noted beside the models: the terms that were accepted, and what was downloaded.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::PUBLISHED_TERMS;
use crate::folder::{CONFIG, WEIGHTS};

const LONGEST_RECORD_BYTES: u64 = 64 << 10;

/// That the terms of the checkpoints below a base were accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AcceptedTerms {
    base: String,
    terms: Vec<String>,
    accepted_unix_s: u64,
}

impl AcceptedTerms {
    fn path(cache: &Path) -> PathBuf {
        cache.join("published-terms.json")
    }

    /// Whether the terms for this base were accepted.
    pub(super) fn are_noted(cache: &Path, base: &str) -> bool {
        read::<Self>(&Self::path(cache))
            .is_some_and(|noted| noted.base == base && noted.terms == PUBLISHED_TERMS)
    }

    pub(super) fn note(cache: &Path, base: &str) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let terms = PUBLISHED_TERMS.map(str::to_owned).to_vec();
        write(&Self::path(cache), &Self { base: base.to_owned(), terms, accepted_unix_s: now.as_secs() })
    }
}

/// What was downloaded first, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) address: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// Of the `model.safetensors` made of it.
    pub(super) weights_bytes: u64,
}

/// Where one model is kept.
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    /// `None` for a name that could lead elsewhere.
    pub(super) fn new(cache: &Path, name: &str) -> Option<Self> {
        let is_plain =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_plain.then(|| Self { folder: cache.join("published").join(name) })
    }

    pub(super) fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    /// Where the model is until it is whole.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.folder.join("model.incomplete")
    }

    pub(super) fn partial(&self) -> PathBuf {
        self.folder.join("checkpoint.pth.incomplete")
    }

    /// Which version of the file `partial` is the beginning of.
    pub(super) fn partial_version(&self) -> PathBuf {
        self.folder.join("checkpoint.version")
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.pth")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join(".lock")
    }

    pub(super) fn record_path(&self) -> PathBuf {
        self.folder.join("checkpoint.json")
    }

    pub(super) fn record(&self) -> Option<Record> {
        read(&self.record_path())
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), String> {
        write(&self.record_path(), record)
    }

    /// The model, if it was made and still is as large as it was then.
    pub(super) fn kept(&self) -> Option<PathBuf> {
        let record = self.record()?;
        let weights = std::fs::metadata(self.model().join(WEIGHTS)).ok()?;
        let is_whole = weights.len() == record.weights_bytes && self.model().join(CONFIG).is_file();
        is_whole.then(|| self.model())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&aff_files::read_to_string(path, LONGEST_RECORD_BYTES).ok()?).ok()
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let fail = |error: String| format!("{}: cannot write it: {error}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(|error| fail(error.to_string()))?;
    let text = serde_json::to_string_pretty(value).map_err(|error| fail(error.to_string()))?;
    aff_files::write_atomically(path, (text + "\n").as_bytes()).map_err(|error| fail(error.to_string()))
}
