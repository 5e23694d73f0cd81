//! What a path names that something is to be written to.

use std::fs::{FileType, Metadata};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Where an output goes.
#[derive(Debug)]
pub(crate) enum Target {
    /// A file, new or to be replaced; no part of the path's end is a link any more.
    File { path: PathBuf, existing: Option<Metadata> },
    /// A character device or a pipe, which takes what is written and keeps nothing.
    Stream(PathBuf),
}

impl Target {
    /// Follows links to what they name, whether or not that exists.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                let path = follow_links(path)?;
                // Replacing a file takes rights on its folder alone: what an ordinary write would refuse is refused here.
                std::fs::OpenOptions::new().write(true).open(&path)?;
                Ok(Self::File { path, existing: Some(metadata) })
            }
            Ok(metadata) if is_stream(metadata.file_type()) => Ok(Self::Stream(path.to_path_buf())),
            Ok(metadata) => Err(Error::new(
                if metadata.is_dir() { ErrorKind::IsADirectory } else { ErrorKind::InvalidInput },
                format!("it is {}; name a file", kind_of(metadata.file_type())),
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(Self::File { path: follow_links(path)?, existing: None })
            }
            Err(error) => Err(error),
        }
    }
}

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// The path that a chain of symbolic links ends with, which need not exist.
pub(crate) fn follow_links(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        // Fails for whatever is not a link.
        let Ok(to) = std::fs::read_link(&path) else { return Ok(path) };
        path = folder_of(&path).join(to);
    }
    Err(Error::other(format!("more than {MOST_LINKS} symbolic links, one to the next")))
}

/// The folder that a path's last name is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn is_stream(file_type: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    file_type.is_char_device() || file_type.is_fifo()
}

#[cfg(not(unix))]
fn is_stream(_: FileType) -> bool {
    false
}

/// What something is that is no regular file.
pub(crate) fn kind_of(file_type: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_char_device() || file_type.is_block_device() {
            return "a device";
        }
        if file_type.is_fifo() {
            return "a pipe";
        }
        if file_type.is_socket() {
            return "a socket";
        }
    }
    if file_type.is_dir() { "a folder" } else { "neither a file nor a folder" }
}
