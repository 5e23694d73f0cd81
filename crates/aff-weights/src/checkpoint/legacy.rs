//! The format that `torch.save` wrote before 1.6, as far as a plain pickle of tensors needs it.
//!
//! `pickle.dump` of a tensor stores its storage as a call of `torch.storage._load_from_bytes` with such a file: five pickles (a
//! magic number, a version, facts about the machine, the object, the keys of its storages), then each storage as its length
//! in elements and its bytes. The object is a storage here, and the only one.

use super::ElementType;
use super::pickle::{Node, Pickle};
use super::torch::StorageReference;

/// The first pickle: protocol 2 and the magic number.
const MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
const VERSION: i64 = 1001;
/// Bytes of the five pickles; torch writes about 250.
const LONGEST_HEADER: usize = 4096;

/// Whether a file is one of `torch.save` from before 1.6.
pub(super) fn is_legacy(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// A storage that was saved on its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SavedStorage<'a> {
    pub(super) element_type: ElementType,
    pub(super) bytes: &'a [u8],
}

impl<'a> SavedStorage<'a> {
    pub(super) fn read(saved: &'a [u8]) -> Result<Self, String> {
        let refuse = |problem: &str| format!("its storage was not saved by torch: {problem}");
        let header = &saved[..saved.len().min(LONGEST_HEADER)];
        let mut rest = header.strip_prefix(&MAGIC).ok_or_else(|| refuse("the magic number is missing"))?;
        let mut next = || -> Result<Pickle<'a>, String> {
            let pickle = Pickle::parse(rest).map_err(|error| refuse(&error.to_string()))?;
            rest = &rest[pickle.length()..];
            Ok(pickle)
        };
        let (version, machine, object, keys) = (next()?, next()?, next()?, next()?);
        let header_length = header.len() - rest.len();
        if version.int(version.root()) != Some(VERSION) {
            return Err(refuse("another version of the format"));
        }
        let little_endian = machine.get(machine.root(), "little_endian").map(|value| machine.node(value));
        if little_endian != Some(&Node::Bool(true)) {
            return Err(refuse("it is from a big-endian machine"));
        }
        let Node::Persistent(reference) = *object.node(object.root()) else {
            return Err(refuse("it is something else"));
        };
        let reference = StorageReference::read(&object, reference)?;
        let one_key = keys.sequence(keys.root()).filter(|keys| keys.len() == 1);
        if one_key.and_then(|one| keys.str(one[0])) != Some(reference.key) {
            return Err(refuse("it has another number of storages than one"));
        }
        let (length, bytes) =
            saved[header_length..].split_first_chunk::<8>().ok_or_else(|| refuse("it is cut off"))?;
        let length = u64::from_le_bytes(*length);
        let size = reference.element_type.size() as u64;
        if reference.length != Some(length) || length.checked_mul(size) != Some(bytes.len() as u64) {
            let problem = format!("it has {} bytes for {length} elements of {size}", bytes.len());
            return Err(refuse(&problem));
        }
        Ok(Self { element_type: reference.element_type, bytes })
    }
}
