//! The zip archives that `torch.save` writes: entries stored as they are, 64-byte aligned, zip64 where needed.
//!
//! This reader takes nothing else. Compressed entries (a bomb needs them), entries that overlap, share a name, reach past
//! the file or disagree with their local header are refused before anything is read.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::CheckpointError;

/// Signature of the end of central directory record.
const END: [u8; 4] = *b"PK\x05\x06";
/// Of its zip64 locator and record, of a central and of a local entry.
const END64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64: [u8; 4] = *b"PK\x06\x06";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// The end record and the longest comment after it.
const END_SEARCH: u64 = 22 + 0xffff;
/// Bytes of a local header before the name.
const LOCAL_HEADER: u64 = 30;
/// A directory beyond this is no checkpoint's.
const LARGEST_DIRECTORY: u64 = 256 << 20;

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
        let directory = find_directory(&mut reader, size)?;
        let bytes = read_range(&mut reader, size, directory.start, directory.length)?;
        let mut headers = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (header, length) = central_entry(rest)?;
            headers.push(header);
            rest = &rest[length..];
        }
        let mut entries = HashMap::with_capacity(headers.len());
        let mut ranges = vec![(directory.start, size, "the directory".to_owned())];
        for header in headers {
            let entry = locate(&mut reader, size, &header)?;
            ranges.push((header.offset, entry.start + entry.length, header.name.clone()));
            if entries.insert(header.name.clone(), entry).is_some() {
                return Err(archive_error(format!("two entries are named {:?}", header.name)));
            }
        }
        ranges.sort();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            return Err(archive_error(format!("entries {:?} and {:?} overlap", pair[0].2, pair[1].2)));
        }
        Ok(Self { reader, entries })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Length of an entry in bytes.
    pub(super) fn length(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.length)
    }

    /// Reads part of an entry.
    pub(super) fn read(&mut self, name: &str, start: u64, length: u64) -> Result<Vec<u8>, CheckpointError> {
        let Some(entry) = self.entries.get(name) else {
            return Err(archive_error(format!("there is no entry {name:?}")));
        };
        if start.checked_add(length).is_none_or(|end| end > entry.length) {
            let problem =
                format!("bytes {start} to {start}+{length} of {name:?}, which has {} bytes", entry.length);
            return Err(archive_error(problem));
        }
        let start = entry.start + start;
        read_range(&mut self.reader, u64::MAX, start, length)
    }
}

/// A record of the central directory.
struct Header {
    name: String,
    length: u64,
    offset: u64,
}

fn find_directory<R: Read + Seek>(reader: &mut R, size: u64) -> Result<Entry, CheckpointError> {
    let tail_start = size.saturating_sub(END_SEARCH);
    let tail = read_range(reader, size, tail_start, size - tail_start)?;
    let Some(at) = tail.windows(4).rposition(|window| window == END) else {
        return Err(archive_error("the directory at its end is missing: the file is cut off or damaged"));
    };
    let end = &tail[at..];
    if end.len() != 22 + usize::from(u16_at(end, 20)?) {
        return Err(archive_error(
            "the directory at its end is not whole: the file is cut off or something follows it",
        ));
    }
    let mut count = u64::from(u16_at(end, 10)?);
    let mut directory = Entry { start: u64::from(u32_at(end, 16)?), length: u64::from(u32_at(end, 12)?) };
    if count == 0xffff || directory.start == 0xffff_ffff || directory.length == 0xffff_ffff {
        let locator = at.checked_sub(20).map(|start| &tail[start..at]);
        let Some(locator) = locator.filter(|locator| locator.starts_with(&END64_LOCATOR)) else {
            return Err(archive_error("sizes beyond 32 bits without a zip64 record"));
        };
        let record = read_range(reader, size, u64_at(locator, 8)?, 56)?;
        if !record.starts_with(&END64) {
            return Err(archive_error("the zip64 record is not where it should be"));
        }
        count = u64_at(&record, 32)?;
        directory = Entry { start: u64_at(&record, 48)?, length: u64_at(&record, 40)? };
    }
    if directory.length > LARGEST_DIRECTORY || count > directory.length / 46 {
        return Err(archive_error(format!("a directory of {count} entries in {} bytes", directory.length)));
    }
    Ok(directory)
}

/// Reads the first record of `bytes`; also its length.
fn central_entry(bytes: &[u8]) -> Result<(Header, usize), CheckpointError> {
    if !bytes.starts_with(&CENTRAL) {
        return Err(archive_error("a record of the directory has no signature"));
    }
    let (name_length, extra_length) = (usize::from(u16_at(bytes, 28)?), usize::from(u16_at(bytes, 30)?));
    let length = 46 + name_length + extra_length + usize::from(u16_at(bytes, 32)?);
    let (Some(name), Some(extra)) =
        (bytes.get(46..46 + name_length), bytes.get(46 + name_length..46 + name_length + extra_length))
    else {
        return Err(archive_error("a record of the directory reaches past its end"));
    };
    if bytes.len() < length {
        return Err(archive_error("a record of the directory reaches past its end"));
    }
    let Ok(name) = std::str::from_utf8(name) else { return Err(archive_error("a name is not UTF-8")) };
    if u16_at(bytes, 8)? & 1 != 0 || u16_at(bytes, 10)? != 0 {
        return Err(archive_error(format!(
            "entry {name:?} is compressed or encrypted; torch.save does neither"
        )));
    }
    let wide = Zip64 { extra };
    let packed = u64::from(u32_at(bytes, 20)?);
    let (mut plain, mut offset) = (u64::from(u32_at(bytes, 24)?), u64::from(u32_at(bytes, 42)?));
    let mut packed_wide = packed;
    let mut fields = wide.fields()?.into_iter();
    for field in [&mut plain, &mut packed_wide, &mut offset] {
        if *field == 0xffff_ffff {
            *field = fields.next().ok_or_else(|| archive_error(format!("entry {name:?} lacks its size")))?;
        }
    }
    if plain != packed_wide {
        return Err(archive_error(format!("entry {name:?} is stored, yet has two sizes")));
    }
    Ok((Header { name: name.to_owned(), length: plain, offset }, length))
}

/// The extra field of an entry.
struct Zip64<'a> {
    extra: &'a [u8],
}

impl Zip64<'_> {
    /// The 64-bit numbers of the zip64 extension, if there is one.
    fn fields(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut rest = self.extra;
        while rest.len() >= 4 {
            let (tag, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
            let Some(body) = rest.get(4..4 + length) else { break };
            if tag == 1 {
                return body.chunks_exact(8).map(|field| u64_at(field, 0)).collect();
            }
            rest = &rest[4 + length..];
        }
        Ok(Vec::new())
    }
}

/// Checks the local header of an entry and finds its bytes.
fn locate<R: Read + Seek>(reader: &mut R, size: u64, header: &Header) -> Result<Entry, CheckpointError> {
    let local = read_range(reader, size, header.offset, LOCAL_HEADER)?;
    if !local.starts_with(&LOCAL) {
        return Err(archive_error(format!("entry {:?} is not where the directory says", header.name)));
    }
    let (name, extra) = (u64::from(u16_at(&local, 26)?), u64::from(u16_at(&local, 28)?));
    let start = header.offset + LOCAL_HEADER + name + extra;
    if start.checked_add(header.length).is_none_or(|end| end > size) {
        let problem = format!(
            "entry {:?} has {} bytes at {start}, but the file has {size}",
            header.name, header.length
        );
        return Err(archive_error(problem));
    }
    Ok(Entry { start, length: header.length })
}

fn read_range<R: Read + Seek>(
    reader: &mut R,
    size: u64,
    start: u64,
    length: u64,
) -> Result<Vec<u8>, CheckpointError> {
    if start.checked_add(length).is_none_or(|end| end > size) {
        return Err(archive_error(format!("{length} bytes at {start} are past the end of the file")));
    }
    reader.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(archive_error(format!("{length} bytes at {start} are past the end of the file")));
    }
    Ok(bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], CheckpointError> {
    let slice = bytes.get(at..at + N).and_then(|slice| slice.try_into().ok());
    slice.ok_or_else(|| archive_error("a record is cut off"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, CheckpointError> {
    Ok(u16::from_le_bytes(array_at(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, CheckpointError> {
    Ok(u32::from_le_bytes(array_at(bytes, at)?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, CheckpointError> {
    Ok(u64::from_le_bytes(array_at(bytes, at)?))
}

fn archive_error(problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Archive(problem.into())
}
