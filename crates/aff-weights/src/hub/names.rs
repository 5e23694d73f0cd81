//! Everything that becomes part of a path or an address, checked once, here. A value of these types is safe to join.

use std::fmt;

use crate::download::ContentDigest;

const LONGEST_ID: usize = 96;
const LONGEST_NAME: usize = 255;
const LONGEST_ETAG: usize = 128;
const COMMIT_DIGITS: usize = 40;

/// `name` or `organisation/name`, as the hub allows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoId(String);

impl RepoId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_part = |part: &str| {
            part.bytes().all(|byte| is_word(byte) || byte == b'-' || byte == b'.')
                && part.bytes().next().is_some_and(is_word)
                && part.bytes().last().is_some_and(is_word)
        };
        let is_id = text.len() <= LONGEST_ID
            && text.split('/').count() <= 2
            && text.split('/').all(is_part)
            // `--` stands for the slash in the cache; the hub allows neither of these.
            && !text.contains("--")
            && !text.contains("..")
            && !text.ends_with(".git");
        is_id.then(|| Self(text.to_owned()))
    }

    /// Of the model's folder in the cache.
    pub(crate) fn folder_name(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name of a commit: 40 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit(String);

impl Commit {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_commit = text.len() == COMMIT_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_commit.then(|| Self(text.to_ascii_lowercase()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a user asks for: a commit, or a branch or tag that stands for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revision {
    Commit(Commit),
    Named(RefName),
}

impl Revision {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Commit::parse(text).map(Self::Commit).or_else(|| RefName::parse(text).map(Self::Named))
    }
}

/// The name of a branch or tag, such as `main` or `refs/pr/1`, by Git's rules (git-check-ref-format).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefName(String);

impl RefName {
    fn parse(text: &str) -> Option<Self> {
        let is_part =
            |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(".lock");
        let is_plain = |letter: char| !letter.is_control() && !" ~^:?*[\\".contains(letter);
        let is_name = text.len() <= LONGEST_NAME
            && text.chars().all(is_plain)
            && text.split('/').all(is_part)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.ends_with('.');
        is_name.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// What the hub calls the content of a file: SHA-256 of a large one, Git's SHA-1 of a small one. It is the name of the file in the
/// cache, so nothing but `[A-Za-z0-9_-]` is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ETag(String);

impl ETag {
    /// Of a header's value, with its quotes and mark of weakness or without.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let strong = text.strip_prefix("W/").unwrap_or(text);
        let bare = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(strong);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_etag = !bare.is_empty() && bare.len() <= LONGEST_ETAG && bare.bytes().all(is_plain);
        is_etag.then(|| Self(bare.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the content must hash to; `None` for the names of other servers, which say nothing about it.
    pub(crate) fn digest(&self) -> Option<ContentDigest> {
        ContentDigest::from_name(&self.0)
    }
}

/// The name of a file in the root of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileName(String);

impl FileName {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = text.len() <= LONGEST_NAME
            && text.bytes().all(is_plain)
            && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        is_name.then(|| Self(text.to_owned()))
    }

    /// A file with a part of the weights, as an index names it.
    pub(crate) fn shard(text: &str) -> Option<Self> {
        Self::parse(text).filter(|name| name.0.ends_with(".safetensors"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_lead_elsewhere_are_refused() {
        for id in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "../x",
            "a/..",
            "/etc",
            "a b",
            "a/.hidden",
            "org/name\n",
            "a--b/c",
            "a\\b",
            "org/x.git",
            "C:/x",
            "org/na..me",
            "org/-x",
            "org/x%2F",
        ] {
            assert_eq!(RepoId::parse(id), None, "{id:?}");
        }
        for id in ["gpt2", "org/aff-mini_1.5", "_a/b_"] {
            assert!(RepoId::parse(id).is_some(), "{id:?}");
        }
        assert_eq!(RepoId::parse("org/name").unwrap().folder_name(), "models--org--name");
    }

    #[test]
    fn revisions_that_lead_elsewhere_are_refused() {
        for revision in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "a//b",
            "a/",
            "/a",
            "a/../b",
            "a/./b",
            "../../x",
            "C:\\x",
            "a\\..\\b",
            "C:x",
            "a\0b",
            "a\nb",
            "a b",
            "main.lock",
            ".hidden",
            "a/.b",
            "x.",
            "a@{1}",
            "-rf",
        ] {
            assert_eq!(Revision::parse(revision), None, "{revision:?}");
        }
        for revision in ["main", "v1.0", "refs/pr/1", "feature/x-y_z", "0123456"] {
            assert!(matches!(Revision::parse(revision), Some(Revision::Named(_))), "{revision:?}");
        }
        let commit = Revision::parse("0123456789ABCDEF0123456789abcdef01234567");
        assert!(
            matches!(commit, Some(Revision::Commit(commit)) if commit.as_str().starts_with("0123456789abc"))
        );
    }

    #[test]
    fn etags_and_commits_of_servers_are_only_letters_and_digits() {
        for etag in ["\"abc\"", "W/\"abc\"", "abc"] {
            assert_eq!(ETag::parse(etag).unwrap().as_str(), "abc", "{etag:?}");
        }
        for etag in [
            "",
            "\"\"",
            "\"../x\"",
            "/etc/x",
            "a.b",
            "\"a\"b\"",
            "a\\b",
            "a b",
            "a\0",
            "..",
            "ä",
            &"a".repeat(129),
        ] {
            assert_eq!(ETag::parse(etag), None, "{etag:?}");
        }
        for commit in [
            "",
            "main",
            "../../../../../../../../../../../../../../x",
            "0123",
            &"g".repeat(40),
            &"0".repeat(41),
        ] {
            assert_eq!(Commit::parse(commit), None, "{commit:?}");
        }
    }

    #[test]
    fn shards_lie_beside_their_index() {
        for name in [
            "",
            "../x.safetensors",
            "a/b.safetensors",
            ".safetensors",
            "x.bin",
            "C:x.safetensors",
            "a\\b.safetensors",
        ] {
            assert_eq!(FileName::shard(name), None, "{name:?}");
        }
        assert!(FileName::shard("model-00001-of-00002.safetensors").is_some());
    }
}
