//! Files that are written whole or not at all.

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use image::{ImageFormat, RgbImage};
use serde::Serialize;

use crate::VisionError;

/// Held for reading by every write in progress.
static WRITES: RwLock<()> = RwLock::new(());

/// Keeps files from being written for as long as it lives; made by [`hold_writes`].
#[derive(Debug)]
#[must_use = "writes go on as soon as this is dropped"]
pub struct WritesHeld {
    _guard: RwLockWriteGuard<'static, ()>,
}

/// Waits until no file is being written any more, and lets no write begin: for a program that is told to stop and wants to leave
/// neither half a file nor a temporary one.
///
/// ```
/// let held = aff_vision::hold_writes();
/// // Nothing is being written here; `std::process::exit` would leave whole files alone.
/// drop(held);
/// ```
pub fn hold_writes() -> WritesHeld {
    WritesHeld { _guard: WRITES.write().unwrap_or_else(PoisonError::into_inner) }
}

/// Writes a file beside its target and renames it into place, so that a crash leaves the old file or the new one.
///
/// # Errors
/// What the system says; nothing is left behind then.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("result.json");
/// aff_vision::write_atomically(&path, b"{}").unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// assert!(aff_vision::write_atomically(&folder.path().join("no/such/folder.json"), b"{}").is_err());
/// ```
pub fn write_atomically(path: impl AsRef<Path>, contents: &[u8]) -> std::io::Result<()> {
    write_atomically_with(path, |temporary| {
        std::fs::OpenOptions::new().write(true).open(temporary)?.write_all(contents)
    })
}

/// Whether files can be written into a folder, found out by making one that goes away at once.
///
/// # Errors
/// What the system says.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// aff_vision::check_folder(&folder).unwrap();
/// assert!(aff_vision::check_folder(folder.path().join("no/such/folder")).is_err());
/// assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
/// ```
pub fn check_folder(folder: impl AsRef<Path>) -> std::io::Result<()> {
    let _writing = WRITES.read().unwrap_or_else(PoisonError::into_inner);
    tempfile::Builder::new().prefix(".aff-").tempfile_in(folder).map(drop)
}

/// As [`write_atomically`], with contents that `write` puts into the file it is given the path of.
///
/// # Errors
/// What the system or `write` says; nothing is left behind then.
pub fn write_atomically_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let _writing = WRITES.read().unwrap_or_else(PoisonError::into_inner);
    let path = path.as_ref();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new().prefix(".aff-").tempfile_in(folder)?;
    write(file.path())?;
    // Temporary files are private; results are not secrets.
    #[cfg(unix)]
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    std::fs::File::open(file.path())?.sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Writes a picture as PNG, whole or not at all.
///
/// # Errors
/// [`VisionError::Write`].
pub fn write_png(path: impl AsRef<Path>, image: &RgbImage) -> Result<(), VisionError> {
    write_encoded(path.as_ref(), |bytes| image.write_to(bytes, ImageFormat::Png))
}

/// Writes any serialisable value as indented JSON with a final newline, whole or not at all.
///
/// # Errors
/// [`VisionError::Write`].
pub fn write_json(path: impl AsRef<Path>, value: &impl Serialize) -> Result<(), VisionError> {
    let path = path.as_ref();
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| VisionError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
        source: None,
    })?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Encodes a PNG in memory, then writes it.
pub(crate) fn write_encoded(
    path: &Path,
    encode: impl FnOnce(&mut Cursor<Vec<u8>>) -> image::ImageResult<()>,
) -> Result<(), VisionError> {
    let mut bytes = Cursor::new(Vec::new());
    encode(&mut bytes).map_err(|error| VisionError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
        source: None,
    })?;
    write(path, bytes.get_ref())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), VisionError> {
    write_atomically(path, bytes).map_err(|error| VisionError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
        source: Some(error),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn holding_waits_for_writes_and_stops_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let (begun, has_begun) = channel();
        let (finish, may_finish) = channel::<()>();
        let (held, is_held) = channel();
        std::thread::scope(|scope| {
            let first = &first;
            scope.spawn(move || {
                write_atomically_with(first, |path| {
                    begun.send(()).unwrap();
                    may_finish.recv().unwrap();
                    std::fs::write(path, "whole")
                })
                .unwrap();
            });
            has_begun.recv().unwrap();
            let not_yet = &second;
            scope.spawn(move || {
                let guard = hold_writes();
                held.send(()).unwrap();
                assert_eq!(std::fs::read(first).unwrap(), b"whole");
                std::thread::sleep(Duration::from_millis(20));
                assert!(!not_yet.exists());
                drop(guard);
            });
            assert!(is_held.recv_timeout(Duration::from_millis(20)).is_err(), "the write is not over");
            finish.send(()).unwrap();
            is_held.recv().unwrap();
            write_atomically(&second, b"whole").unwrap();
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
