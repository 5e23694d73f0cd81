//! Temporary files, and what killed processes left of theirs.
//!
//! A process locks its temporary files for as long as it lives; the system unlocks them when it dies, however it does. One that nobody
//! has locked is a leftover. Elsewhere than on Unix a lock would keep its own process from the file, so that leftovers stay there.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

const PREFIX: &str = ".aff-";
const SUFFIX: &str = ".part";
const RANDOM: usize = 12;

/// Who may read a temporary file while it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// Whoever may read any new file of this process.
    New,
    /// This user alone; the rights of the file that it replaces come last.
    Private,
}

/// Makes a temporary file that no clean-up takes for a leftover.
pub(crate) fn temporary_file(folder: &Path, access: Access) -> Result<NamedTempFile> {
    remove_leftovers_once(folder);
    for _ in 0..8 {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(match access {
            Access::New => 0o666,
            Access::Private => 0o600,
        }));
        #[cfg(not(unix))]
        let _ = access;
        let file = builder.tempfile_in(folder)?;
        if claim(&file)? {
            return Ok(file);
        }
    }
    Err(Error::other("another process keeps removing temporary files from the folder"))
}

/// Locks the file; false if a clean-up was quicker and removes it.
#[cfg(unix)]
fn claim(file: &NamedTempFile) -> Result<bool> {
    use crate::identity::Identity;
    match file.as_file().try_lock() {
        Ok(()) => {
            Ok(Identity::of_path(file.path()) == Some(Identity::of_metadata(&file.as_file().metadata()?)))
        }
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        // A file system without locks: no clean-up can lock anything either.
        Err(std::fs::TryLockError::Error(_)) => Ok(true),
    }
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
fn claim(_: &NamedTempFile) -> Result<bool> {
    Ok(true)
}

/// Folders that this process has cleaned: reading a folder anew for each of thousands of files would cost more than writing them.
static CLEANED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

fn remove_leftovers_once(folder: &Path) {
    let mut cleaned = CLEANED.lock().unwrap_or_else(PoisonError::into_inner);
    if cfg!(unix) && cleaned.get_or_insert_default().insert(folder.to_path_buf()) {
        remove_leftovers(folder);
    }
}

/// Removes the temporary files of processes that are no more. What cannot be looked at or removed stays: nobody asked for this.
pub(crate) fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_ours = is_temporary_name(&entry.file_name());
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let path = entry.path();
            let Ok(file) = File::options().write(true).open(&path) else { continue };
            if file.try_lock().is_ok() {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

/// Only names that [`temporary_file`] makes: a user's own `.aff-notes` is none of them.
fn is_temporary_name(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn files_of_the_living_and_of_users_stay() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(".aff-0123456789ab.part");
        let users = [".aff-notes", ".aff-0123456789ab", ".aff-0123456789a.part", "aff-0123456789ab.part"]
            .map(|name| folder.path().join(name));
        for path in users.iter().chain([&left]) {
            std::fs::write(path, "half").unwrap();
        }
        let living = temporary_file(folder.path(), Access::New).unwrap();
        assert!(!left.exists(), "the first temporary file in a folder cleans it");
        remove_leftovers(folder.path());
        assert!(living.path().exists());
        assert!(users.iter().all(|path| path.exists()));

        let (file, path) = living.keep().unwrap();
        drop(file);
        remove_leftovers(folder.path());
        assert!(!path.exists(), "closed and not renamed: its process has died");
    }
}
