//! One process at a time downloads a file.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);
const REPORT: Duration = Duration::from_secs(10);

/// Waits until no other process holds the lock of this file, which is made if need be. `waiting` is called as soon as it is not free, and
/// now and then. The lock is let go when the file is dropped.
///
/// # Errors
/// If the file cannot be made.
pub(crate) fn wait_for_lock(path: &Path, mut waiting: impl FnMut()) -> io::Result<File> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut reported: Option<Instant> = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                // Whole files are moved into place: without locks, the same file may be downloaded twice, no more.
                tracing::debug!("{}: no locks here: {error}", path.display());
                return Ok(file);
            }
        }
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            tracing::warn!("waiting for another process that downloads the same file ({})", path.display());
            waiting();
            reported = Some(Instant::now());
        }
        std::thread::sleep(PAUSE);
    }
}
