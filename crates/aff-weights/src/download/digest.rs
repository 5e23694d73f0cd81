//! Digests that say whether a file is what was asked for.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

const CHUNK_BYTES: usize = 1 << 20;

/// What the content of a file must hash to, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentDigest {
    /// Of the content.
    Sha256(String),
    /// SHA-1 of the content as Git stores it: after a header with its length.
    GitBlob(String),
}

impl ContentDigest {
    /// Of a name of 64 or 40 hexadecimal digits: what the hub calls large files and small ones.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let digits = name.to_ascii_lowercase();
        match digits.len() {
            64 => Some(Self::Sha256(digits)),
            40 => Some(Self::GitBlob(digits)),
            _ => None,
        }
    }

    /// What is wrong with a file, if anything is.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn check(&self, path: &Path) -> io::Result<Result<(), String>> {
        let file = File::open(path)?;
        let (kind, expected, found) = match self {
            Self::Sha256(expected) => ("SHA-256", expected, hash(Sha256::new(), file)?),
            Self::GitBlob(expected) => {
                let header = format!("blob {}\0", file.metadata()?.len());
                ("Git SHA-1", expected, hash(Sha1::new_with_prefix(header), file)?)
            }
        };
        Ok(if found == *expected {
            Ok(())
        } else {
            Err(format!("its {kind} is {found}, expected {expected}"))
        })
    }
}

/// SHA-256 of a file's content, in lower-case hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    hash(Sha256::new(), File::open(path)?)
}

fn hash(mut hasher: impl Digest, mut file: File) -> io::Result<String> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => hasher.update(&chunk[..length]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello\n").unwrap();
        // As `git hash-object` and `sha256sum` say.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for name in [git, sha256, &sha256.to_ascii_uppercase()] {
            assert_eq!(ContentDigest::from_name(name).unwrap().check(&path).unwrap(), Ok(()), "{name}");
        }
        std::fs::write(&path, "Hello\n").unwrap();
        for name in [git, sha256] {
            assert!(ContentDigest::from_name(name).unwrap().check(&path).unwrap().is_err(), "{name}");
        }
        assert_eq!(ContentDigest::from_name("d41d8cd98f00b204e9800998ecf8427e"), None);
        assert_eq!(ContentDigest::from_name(&git.replace('c', "-")), None);
    }
}
