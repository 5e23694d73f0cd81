//! Files written whole or not at all, read within limits, and never one over another.
//!
//! * [`write_atomically`] and [`write_atomically_with`] write beside the target and rename; [`hold_writes`] waits for them.
//! * [`read`], [`read_to_string`], [`open_regular`] and [`read_stream`] read what others made: regular files, up to a limit.
//! * [`Protected`] refuses outputs that would overwrite an input or each other.
//! * [`FolderLock`] keeps a second process out of a folder.

#![forbid(unsafe_code)]

mod error;
mod folder_lock;
mod identity;
mod leftovers;
mod protected;
mod read;
mod target;
mod write;

pub use error::FileError;
pub use folder_lock::FolderLock;
pub use protected::Protected;
pub use read::{open_regular, read, read_stream, read_to_string};
pub use write::{WritesHeld, check_folder, hold_writes, write_atomically, write_atomically_with};

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
