//! The checksum that a safetensors file of this project carries in its header.

use std::collections::BTreeMap;

use safetensors::Dtype;
use sha2::{Digest, Sha256};

/// Keys among the texts of the header. Either alone is an error, so that a damaged key cannot hide the checksum.
const SUM: &str = "autofocusformer.sha256";
const VERSION: &str = "autofocusformer.version";
/// How the sum is made.
const THIS_VERSION: &str = "1";

/// SHA-256 over the texts of the header and the name, type, shape and bytes of every tensor, in the order of their names.
pub(crate) struct Checksum(Sha256);

impl Checksum {
    /// Begins with the texts of the header but its own.
    pub(crate) fn new(texts: &BTreeMap<String, String>) -> Self {
        let mut sum = Self(Sha256::new());
        for (key, text) in texts.iter().filter(|(key, _)| !is_own(key)) {
            sum.add(key.as_bytes());
            sum.add(text.as_bytes());
        }
        sum
    }

    /// Adds a tensor; tensors come in the order of their names.
    pub(crate) fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        self.add(name.as_bytes());
        self.add(format!("{dtype:?} {shape:?}").as_bytes());
        self.add(bytes);
    }

    /// Adds bytes after their length, so that no two contents are written alike.
    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }

    /// Puts the sum among the texts of a header.
    pub(crate) fn write(self, texts: &mut BTreeMap<String, String>) {
        texts.insert(VERSION.to_owned(), THIS_VERSION.to_owned());
        texts.insert(SUM.to_owned(), self.finish());
    }

    /// Compares the sum with that among the texts of a header. Files of other programs have none.
    pub(crate) fn agrees_with(self, texts: &BTreeMap<String, String>) -> bool {
        match (texts.get(VERSION), texts.get(SUM)) {
            (None, None) => true,
            (Some(version), Some(sum)) => version == THIS_VERSION && *sum == self.finish(),
            _ => false,
        }
    }
}

/// Whether a text of the header is part of the checksum itself.
pub(crate) fn is_own(key: &str) -> bool {
    key == SUM || key == VERSION
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
