//! The zip archives that `torch.save` writes: entries stored as they are.
//!
//! The crate `zip` reads the directory. Nothing else than torch writes is taken: compressed entries (a bomb needs them) and entries
//! that overlap, share a name, reach past the file or have two sizes are refused before anything is read.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::CheckpointError;
use super::torch::Storages;
use crate::error::brief;

/// Where an entry's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    start: u64,
    length: u64,
}

/// A zip archive of stored entries.
#[derive(Debug)]
pub(super) struct Archive<R> {
    reader: R,
    entries: HashMap<String, Entry>,
}

impl<R: Read + Seek> Archive<R> {
    pub(super) fn open(mut reader: R) -> Result<Self, CheckpointError> {
        let size = reader.seek(SeekFrom::End(0))?;
        let mut archive = ZipArchive::new(reader).map_err(of_zip)?;
        if archive.has_duplicate_names() {
            return Err(archive_error("two entries are named alike"));
        }
        if archive.offset() != 0 {
            return Err(archive_error(format!("it begins at byte {} of the file", archive.offset())));
        }
        let mut entries = HashMap::with_capacity(archive.len());
        for index in 0..archive.len() {
            let (name, entry) = locate(&mut archive, index, size)?;
            entries.insert(name, entry);
        }
        if archive.has_overlapping_entries().map_err(of_zip)? {
            return Err(archive_error("entries overlap"));
        }
        Ok(Self { reader: archive.into_inner(), entries })
    }

    /// The folder that all entries of a checkpoint lie in.
    pub(super) fn root_folder(&self) -> Result<String, CheckpointError> {
        let mut roots = self.entries.keys().filter_map(|name| name.strip_suffix("/data.pkl"));
        match (roots.next(), roots.next()) {
            (Some(root), None) => Ok(root.to_owned()),
            (None, _) => Err(archive_error("there is no entry `data.pkl`")),
            _ => Err(archive_error("there are several entries `data.pkl`")),
        }
    }

    /// Length of an entry in bytes.
    pub(super) fn length(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.length)
    }

    /// Reads part of an entry.
    pub(super) fn read(&mut self, name: &str, start: u64, length: u64) -> Result<Vec<u8>, CheckpointError> {
        let Some(entry) = self.entries.get(name) else {
            return Err(archive_error(format!("there is no entry {:?}", brief(name))));
        };
        if start.checked_add(length).is_none_or(|end| end > entry.length) {
            let name = brief(name);
            let problem =
                format!("bytes {start} to {start}+{length} of {name:?}, which has {} bytes", entry.length);
            return Err(archive_error(problem));
        }
        self.reader.seek(SeekFrom::Start(entry.start + start))?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(archive_error(format!("entry {:?} is cut off", brief(name))));
        }
        Ok(bytes)
    }
}

/// The storages of a torch archive lie below its root folder.
pub(super) struct ArchiveStorages<'a, R> {
    pub(super) archive: &'a mut Archive<R>,
    pub(super) root: &'a str,
}

impl<R> ArchiveStorages<'_, R> {
    fn entry(&self, key: &str) -> String {
        format!("{}/data/{key}", self.root)
    }
}

impl<R: Read + Seek> Storages for ArchiveStorages<'_, R> {
    fn length(&self, key: &str) -> Option<u64> {
        self.archive.length(&self.entry(key))
    }

    fn read(&mut self, key: &str, start: u64, length: u64) -> Result<Vec<u8>, CheckpointError> {
        self.archive.read(&self.entry(key), start, length)
    }
}

/// Checks an entry of a file of `size` bytes and its local header, and finds its bytes.
fn locate<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    index: usize,
    size: u64,
) -> Result<(String, Entry), CheckpointError> {
    let file = archive.by_index_raw(index).map_err(of_zip)?;
    let name = std::str::from_utf8(file.name_raw()).map_err(|_| archive_error("a name is not UTF-8"))?;
    let shown = brief(name);
    if file.compression() != CompressionMethod::Stored || file.encrypted() {
        let problem = format!("entry {shown:?} is compressed or encrypted; torch.save does neither");
        return Err(archive_error(problem));
    }
    if file.size() != file.compressed_size() {
        return Err(archive_error(format!("entry {shown:?} is stored, yet has two sizes")));
    }
    let entry = file.data_start().map(|start| Entry { start, length: file.size() });
    match entry {
        Some(entry) if entry.start.checked_add(entry.length).is_some_and(|end| end <= size) => {
            Ok((name.to_owned(), entry))
        }
        _ => {
            let problem = format!("entry {shown:?} of {} bytes reaches past the file's {size}", file.size());
            Err(archive_error(problem))
        }
    }
}

fn of_zip(error: ZipError) -> CheckpointError {
    match error {
        // The file is at fault, not the system.
        ZipError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            archive_error("it is cut off")
        }
        ZipError::Io(error) => CheckpointError::Io(error),
        other => archive_error(brief(&other.to_string())),
    }
}

pub(super) fn archive_error(problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Archive(problem.into())
}
