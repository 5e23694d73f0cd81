//! The cache on disk, in the layout of the hub's Python client:
//!
//! ```text
//! models--org--name/
//!   blobs/<etag>                the files
//!   blobs/<etag>.incomplete     what an interrupted download left
//!   refs/main                   the commit that a branch stood for when it was last asked about
//!   snapshots/<commit>/<file>   symbolic links to blobs, or the files where there are none
//!   .aff/<commit>/<file>        ours: how the file was when it was last checked (see `checked.rs`)
//! .locks/models--org--name/<etag>.lock
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Links;
use super::names::{Commit, ETag, FileName, RefName, RepoId};
use crate::download::wait_for_lock;

/// A name in a branch's file is no longer than this.
const LONGEST_REF_BYTES: u64 = 256;

/// The part of the cache that belongs to one model.
#[derive(Debug, Clone)]
pub(crate) struct ModelCache {
    folder: PathBuf,
    locks: PathBuf,
    links: Links,
}

/// Whether a blob was made for the file that it becomes, or was here before and may serve other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blob {
    New,
    Kept,
}

impl ModelCache {
    pub(crate) fn new(cache: &Path, repo: &RepoId, links: Links) -> Self {
        let name = repo.folder_name();
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name), links }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.folder.join("snapshots").join(commit.as_str())
    }

    /// Where a file of a commit is.
    pub(crate) fn pointer(&self, commit: &Commit, file: &FileName) -> PathBuf {
        self.snapshot(commit).join(file.as_str())
    }

    /// Where it is noted that a file was whole.
    pub(crate) fn note(&self, commit: &Commit, file: &FileName) -> PathBuf {
        self.folder.join(".aff").join(commit.as_str()).join(file.as_str())
    }

    pub(crate) fn blob(&self, etag: &ETag) -> PathBuf {
        self.folder.join("blobs").join(etag.as_str())
    }

    /// Where a file is while it is downloaded.
    pub(crate) fn partial(&self, etag: &ETag) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", etag.as_str()))
    }

    /// The commit that a branch or tag stood for when it was last looked up.
    pub(crate) fn commit_of(&self, name: &RefName) -> Option<Commit> {
        let text = aff_files::read_to_string(self.reference(name), LONGEST_REF_BYTES).ok()?;
        Commit::parse(text.trim())
    }

    /// Notes what a branch or tag stands for.
    pub(crate) fn remember(&self, name: &RefName, commit: &Commit) -> io::Result<()> {
        if self.commit_of(name).as_ref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(name);
        create_folder_of(&path)?;
        aff_files::write_atomically(path, commit.as_str().as_bytes())
    }

    fn reference(&self, name: &RefName) -> PathBuf {
        name.parts().fold(self.folder.join("refs"), |path, part| path.join(part))
    }

    /// The blob of a file, as the link in the snapshot says. `None` where files are not linked.
    pub(crate) fn etag_of_link(&self, commit: &Commit, file: &FileName) -> Option<ETag> {
        let target = std::fs::read_link(self.pointer(commit, file)).ok()?;
        ETag::parse(target.file_name()?.to_str()?)
    }

    /// Waits until no other process downloads this blob; the lock is the one that the Python client takes. `waiting` is called as
    /// soon as it is not free. It is let go when the file is dropped.
    pub(crate) fn lock(&self, etag: &ETag, waiting: impl FnMut()) -> io::Result<File> {
        wait_for_lock(&self.locks.join(format!("{}.lock", etag.as_str())), waiting)
    }

    /// Puts a file into the snapshot of a commit: a link to its blob, or where there are no links, the blob itself if it is new and a
    /// copy of it otherwise. `whole` is where the file is, the blob or what was just downloaded.
    pub(crate) fn place(
        &self,
        whole: &Path,
        blob: Blob,
        etag: &ETag,
        place: (&Commit, &FileName),
    ) -> io::Result<()> {
        self.place_with(whole, blob, etag, place, symlink)
    }

    fn place_with(
        &self,
        whole: &Path,
        blob: Blob,
        etag: &ETag,
        (commit, file): (&Commit, &FileName),
        symlink: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let pointer = self.pointer(commit, file);
        create_folder_of(&pointer)?;
        // Beside the snapshot, not in it: nobody shall take it for a file of the model.
        let temporary =
            self.folder.join("blobs").join(format!("{}.{}.tmp", etag.as_str(), std::process::id()));
        std::fs::remove_file(&temporary).ok();
        // The link is made two folders above where it will lie; it says where the blob is from there.
        let target = Path::new("..").join("..").join("blobs").join(etag.as_str());
        if self.links == Links::Symbolic && symlink(&target, &temporary).is_ok() {
            let stored = self.blob(etag);
            if whole != stored {
                std::fs::rename(whole, stored)?;
            }
            return std::fs::rename(&temporary, &pointer);
        }
        match blob {
            Blob::New => std::fs::rename(whole, &pointer),
            Blob::Kept => {
                std::fs::copy(whole, &temporary)?;
                std::fs::rename(&temporary, &pointer)
            }
        }
    }

    /// Makes the folders that a download writes into.
    pub(crate) fn create(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.folder.join("blobs"))
    }
}

pub(crate) fn create_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_links_cannot_be_made_files_are_moved_or_copied() {
        let cache = tempfile::tempdir().unwrap();
        let cache = ModelCache::new(cache.path(), &RepoId::parse("org/name").unwrap(), Links::Symbolic);
        cache.create().unwrap();
        let etag = ETag::parse("abc").unwrap();
        let commit = |digit: &str| Commit::parse(&digit.repeat(40)).unwrap();
        let file = FileName::parse("config.json").unwrap();
        let no_links = |_: &Path, _: &Path| Err(io::Error::from(io::ErrorKind::Unsupported));
        let place = |whole: &Path, blob, commit: &Commit| {
            cache.place_with(whole, blob, &etag, (commit, &file), no_links).unwrap();
            assert!(!cache.pointer(commit, &file).is_symlink());
            assert_eq!(std::fs::read(cache.pointer(commit, &file)).unwrap(), b"content");
        };
        std::fs::write(cache.partial(&etag), "content").unwrap();
        place(&cache.partial(&etag), Blob::New, &commit("1"));
        assert!(!cache.partial(&etag).exists() && !cache.blob(&etag).exists(), "there is one copy");
        std::fs::write(cache.blob(&etag), "content").unwrap();
        place(&cache.blob(&etag), Blob::Kept, &commit("2"));
        assert!(cache.blob(&etag).exists(), "it may serve others");
        assert_eq!(std::fs::read_dir(cache.folder().join("blobs")).unwrap().count(), 1);
    }
}
