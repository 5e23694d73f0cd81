//! What can be wrong with a file that is read, or a folder that is to be worked in.

use std::io;
use std::path::PathBuf;

/// Why a file is not read, a folder not taken or an output refused.
///
/// Paths are written in quotes with control characters escaped, so that a hostile file name stays on one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A folder, device, pipe or socket where a file was expected.
    #[error("{path:?}: it is {found}; expected a file")]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// More bytes than are accepted; at most the limit was read.
    #[error("{origin}: {found} bytes or more; expected at most {limit}")]
    TooLarge {
        /// Where the bytes came from.
        origin: String,
        /// How many there are at least.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Bytes that are not UTF-8 where a text was expected.
    #[error("{origin}: not a text: byte {at} is not UTF-8")]
    NotText {
        /// Where the bytes came from.
        origin: String,
        /// The first byte that is wrong, from 0.
        at: usize,
    },
    /// Another process works in the folder.
    #[error("{folder:?}: {holder} works in it; wait until it has ended, or take another folder")]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Which process, and since when, as far as it is known.
        holder: String,
    },
    /// An output is a file that is read.
    #[error(
        "{output:?}: would overwrite {input:?}, which is read; choose another name or folder for the output"
    )]
    OverwritesInput {
        /// The output.
        output: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// Two outputs are one file, at least on systems that do not tell upper from lower case.
    #[error(
        "{output:?}: would overwrite {other:?}, another output; choose another name or folder for one of them"
    )]
    OverwritesOutput {
        /// The second output.
        output: PathBuf,
        /// The first.
        other: PathBuf,
    },
    /// The system refuses.
    #[error("{origin}: cannot {action}: {source}")]
    Io {
        /// The file or stream.
        origin: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    pub(crate) fn io(origin: impl Into<String>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let origin = origin.into();
        move |source| Self::Io { origin, action, source }
    }
}
