//! Files that are written whole or not at all.

use std::fs::Metadata;
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::leftovers::{Access, temporary_file};
use crate::target::{Target, folder_of};

/// Held for reading by every write in progress.
static WRITES: RwLock<()> = RwLock::new(());

/// Keeps files from being written for as long as it lives; made by [`hold_writes`].
#[derive(Debug)]
#[must_use = "writes go on as soon as this is dropped"]
pub struct WritesHeld {
    _guard: RwLockWriteGuard<'static, ()>,
}

/// Waits until no file is being written any more, and lets no write begin: for a program that is told to stop and wants to leave
/// neither half a file nor a temporary one. It does not wait for devices and pipes, which may never take what is written.
///
/// ```
/// let held = aff_files::hold_writes();
/// // Nothing is being written here; `std::process::exit` would leave whole files alone.
/// drop(held);
/// ```
pub fn hold_writes() -> WritesHeld {
    WritesHeld { _guard: WRITES.write().unwrap_or_else(PoisonError::into_inner) }
}

fn writing() -> RwLockReadGuard<'static, ()> {
    WRITES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a file beside its target and renames it into place, so that a crash leaves the old file or the new one.
///
/// * A new file has the rights that every new file of the process has; one that is replaced keeps its rights and, where the system
///   allows it, its owner.
/// * A symbolic link stays; the file that it leads to is replaced, or made.
/// * Character devices and pipes (`/dev/null`, `/dev/stdout`, a shell's `>(...)`) take the bytes as they are: there is nothing to
///   replace.
/// * What a killed process was writing into the folder is removed.
///
/// # Errors
/// What the system says, such as [`StorageFull`](std::io::ErrorKind::StorageFull); a folder, block device or socket as the target; a
/// target that is write-protected. Nothing is left behind then, and a file that was there is untouched.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("result.json");
/// aff_files::write_atomically(&path, b"{}").unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// assert!(aff_files::write_atomically(&folder.path().join("no/such/folder.json"), b"{}").is_err());
/// ```
pub fn write_atomically(path: impl AsRef<Path>, contents: &[u8]) -> Result<()> {
    write_atomically_with(path, |file| file.write_all(contents))
}

/// As [`write_atomically`], with contents that `write` makes piece by piece.
///
/// # Errors
/// What the system or `write` says; nothing is left behind then.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("squares.txt");
/// aff_files::write_atomically_with(&path, |file| (1..4).try_for_each(|n| writeln!(file, "{}", n * n))).unwrap();
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n4\n9\n");
///
/// aff_files::write_atomically_with(&path, |_| Err(std::io::Error::other("no more squares"))).unwrap_err();
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n4\n9\n");
/// ```
pub fn write_atomically_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    match Target::of(path.as_ref())? {
        Target::Stream(path) => buffered(&std::fs::OpenOptions::new().write(true).open(path)?, write),
        Target::File { path, existing } => replace(&path, existing.as_ref(), write),
    }
}

fn replace(
    path: &Path,
    existing: Option<&Metadata>,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let _writing = writing();
    let access = if existing.is_some() { Access::Private } else { Access::New };
    let temporary = temporary_file(folder_of(path), access)?;
    buffered(temporary.as_file(), write)?;
    if let Some(existing) = existing {
        keep_rights(temporary.as_file(), existing)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_folder(folder_of(path));
    Ok(())
}

fn buffered(file: &std::fs::File, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.flush()
}

#[cfg(unix)]
fn keep_rights(file: &std::fs::File, existing: &Metadata) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (existing.uid(), existing.gid()) {
        // Only root may give files away. To another group than the old one the old rights would give too much; an ordinary
        // program that saves a file does no better.
        let _ = fchown(file, Some(existing.uid()), Some(existing.gid()));
    }
    file.set_permissions(PermissionsExt::from_mode(existing.mode() & 0o777))
}

#[cfg(not(unix))]
fn keep_rights(file: &std::fs::File, existing: &Metadata) -> Result<()> {
    file.set_permissions(existing.permissions())
}

/// Makes the new name last through a power cut. The file is in place already, and some systems cannot do this to a folder: not done
/// is no error.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    }
}

/// Whether files can be written into a folder, found out by making one that goes away at once.
///
/// # Errors
/// What the system says.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// aff_files::check_folder(&folder).unwrap();
/// assert!(aff_files::check_folder(folder.path().join("no/such/folder")).is_err());
/// assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
/// ```
pub fn check_folder(folder: impl AsRef<Path>) -> Result<()> {
    let _writing = writing();
    temporary_file(folder.as_ref(), Access::Private).map(drop)
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
                write_atomically_with(first, |file| {
                    begun.send(()).unwrap();
                    may_finish.recv().unwrap();
                    file.write_all(b"whole")
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
