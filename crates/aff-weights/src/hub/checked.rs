//! Whether a file in the cache still is what was downloaded.
//!
//! Every file is hashed when it is downloaded, or, if another program downloaded it, when it is first used. Its size and time of
//! change are noted then. A file that is as noted is taken as it is, since hashing takes longer than loading; one that is not is hashed
//! again. What this cannot notice: content that changes while size and time stay, as on a failing disk.

use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::cache::{ModelCache, create_folder_of};
use super::names::{Commit, ETag, FileName};

const LONGEST_NOTE_BYTES: u64 = 512;

/// What is known of a file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not there.
    Missing,
    /// It is what was downloaded.
    Whole,
    /// It is not.
    Damaged(String),
    /// It is there, and nothing says what it should be.
    Unknown,
}

/// How a file was when it was whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    etag: ETag,
    size: u64,
    changed_ns: u128,
}

impl Note {
    fn of(etag: ETag, path: &Path) -> io::Result<Self> {
        let facts = std::fs::metadata(path)?;
        let changed = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { etag, size: facts.len(), changed_ns: changed.as_nanos() })
    }

    fn read(path: &Path) -> Option<Self> {
        let text = aff_files::read_to_string(path, LONGEST_NOTE_BYTES).ok()?;
        let mut words = text.split_whitespace();
        let etag = ETag::parse(words.next()?)?;
        Some(Self { etag, size: words.next()?.parse().ok()?, changed_ns: words.next()?.parse().ok()? })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        create_folder_of(path)?;
        let text = format!("{} {} {}\n", self.etag.as_str(), self.size, self.changed_ns);
        aff_files::write_atomically(path, text.as_bytes())
    }
}

/// Looks at a file of the cache.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn state(cache: &ModelCache, commit: &Commit, file: &FileName) -> io::Result<State> {
    let path = cache.pointer(commit, file);
    if !path.is_file() {
        return Ok(State::Missing);
    }
    let noted = Note::read(&cache.note(commit, file));
    let linked = cache.etag_of_link(commit, file);
    let Some(etag) = linked.or_else(|| noted.as_ref().map(|note| note.etag.clone())) else {
        return Ok(State::Unknown);
    };
    let now = Note::of(etag.clone(), &path)?;
    if let Some(noted) = noted.filter(|noted| noted.etag == etag) {
        if noted == now {
            return Ok(State::Whole);
        }
        if noted.size != now.size {
            return Ok(State::Damaged(format!("it has {} bytes, expected {}", now.size, noted.size)));
        }
    }
    let Some(digest) = etag.digest() else { return Ok(State::Unknown) };
    Ok(match digest.check(&path)? {
        Ok(()) => {
            note(cache, &etag, commit, file);
            State::Whole
        }
        Err(problem) => State::Damaged(problem),
    })
}

/// Notes how a file is that was just found whole. A cache that cannot be written is as good: its files are hashed each time.
pub(crate) fn note(cache: &ModelCache, etag: &ETag, commit: &Commit, file: &FileName) {
    let path = cache.note(commit, file);
    let written = Note::of(etag.clone(), &cache.pointer(commit, file)).and_then(|note| note.write(&path));
    if let Err(error) = written {
        tracing::debug!("{}: cannot write it: {error}", path.display());
    }
}

/// What is wrong with a file that should be of this size and name, if anything is.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn compare(path: &Path, size: u64, etag: &ETag) -> io::Result<Result<(), String>> {
    let found = std::fs::metadata(path)?.len();
    if found != size {
        return Ok(Err(format!("it has {found} bytes, expected {size}")));
    }
    etag.digest().map_or(Ok(Ok(())), |digest| digest.check(path))
}
