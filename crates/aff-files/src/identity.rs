//! Which file a path names, by whatever way.

use std::path::Path;
#[cfg(not(unix))]
use std::path::PathBuf;

/// What the system tells files and folders apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
    /// The canonical path in lower case, where the standard library offers nothing better.
    #[cfg(not(unix))]
    path: PathBuf,
}

impl Identity {
    /// Of what exists at the path, links followed.
    #[cfg(unix)]
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of_metadata(&metadata))
    }

    #[cfg(unix)]
    pub(crate) fn of_metadata(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Of what exists at the path, links followed.
    #[cfg(not(unix))]
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let path = std::fs::canonicalize(path).ok()?;
        Some(Self { path: path.to_string_lossy().to_lowercase().into() })
    }
}
