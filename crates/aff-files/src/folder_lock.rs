//! One process at a time in a folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::FileError;
#[cfg(unix)]
use crate::identity::Identity;

const NAME: &str = ".aff-lock";

/// A folder that this process alone works in, for as long as this lives. A process that dies gives it back, however it dies.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Takes a folder that exists.
    ///
    /// # Errors
    /// [`FileError::Locked`], which names the process that has it and since when; [`FileError::Io`] where no file can be made or
    /// locked.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let lock = aff_files::FolderLock::acquire(&folder).unwrap();
    /// let error = aff_files::FolderLock::acquire(&folder).unwrap_err().to_string();
    /// assert!(error.contains(&format!("process {} (for 0 s)", std::process::id())), "{error}");
    /// drop(lock);
    /// aff_files::FolderLock::acquire(&folder).unwrap();
    /// ```
    pub fn acquire(folder: impl AsRef<Path>) -> Result<Self, FileError> {
        let folder = folder.as_ref();
        let path = folder.join(NAME);
        let failed = || FileError::io(format!("{folder:?}"), "take the folder for this process alone");
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed())?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(FileError::Locked {
                        folder: folder.to_path_buf(),
                        holder: holder(&mut file),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
            }
            // The one that had it may have removed the file after it was opened here.
            if is_in_place(&file, &path).map_err(failed())? {
                file.set_len(0).and_then(|()| file.rewind()).map_err(failed())?;
                let since = now().as_secs();
                writeln!(file, "{} {since}", std::process::id()).map_err(failed())?;
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // While the lock is held, so that nobody else's file is removed. Where an open file cannot be removed, it stays, unlocked.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn is_in_place(file: &File, path: &Path) -> std::io::Result<bool> {
    Ok(Identity::of_path(path) == Some(Identity::of_metadata(&file.metadata()?)))
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
fn is_in_place(_: &File, _: &Path) -> std::io::Result<bool> {
    Ok(true)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Who has the lock, in words.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(64).read_to_string(&mut text);
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[process, since]) => {
            format!("process {process} (for {})", in_words(now().as_secs().saturating_sub(since)))
        }
        _ => "another process".to_owned(),
    }
}

fn in_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_named_as_far_as_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let lock = FolderLock::acquire(&folder).unwrap();
        for (text, expected) in [
            (format!("77 {}", now().as_secs() - 11_530), "process 77 (for 3 h 12 min) works in it"),
            ("77".to_owned(), "another process works in it"),
            ("\u{1b}[31m".repeat(100), "another process works in it"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = FolderLock::acquire(&folder).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        drop(lock);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
