//! What the hub says about a file. The only place where an answer's headers become names and sizes.

use super::names::{Commit, ETag, FileName, RepoId};
use crate::download::{Address, Answer, Client, Failure, Redirects};

/// What the hub says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// The commit that the asked revision stands for.
    pub(crate) commit: Commit,
    pub(crate) etag: ETag,
    pub(crate) size: u64,
}

impl Metadata {
    /// Asks for a file at a revision.
    pub(crate) fn ask(client: &Client, address: &Address) -> Result<Self, Failure> {
        // Large files lie with another server: the answer that leads there has what is asked for.
        let answer = client.head(address, Redirects::AtHome)?;
        Self::read(&answer.expect(|status| (200..400).contains(&status))?)
    }

    fn read(answer: &Answer) -> Result<Self, Failure> {
        let header = |linked: Option<&'static str>, plain: &'static str| {
            linked
                .and_then(|name| Some((name, answer.header(name)?)))
                .or_else(|| Some((plain, answer.header(plain)?)))
        };
        let missing =
            |name: &str| Failure::Invalid(format!("the answer has no {name}; is it a hub that answers?"));
        let refuse = |name: &str, expected: &str| {
            Failure::Invalid(format!(
                "the answer's {name} is not {expected}; this server is not to be trusted"
            ))
        };
        let (name, commit) = header(None, "X-Repo-Commit").ok_or_else(|| missing("X-Repo-Commit"))?;
        let commit = Commit::parse(commit).ok_or_else(|| refuse(name, "40 hexadecimal digits"))?;
        let (name, etag) = header(Some("X-Linked-Etag"), "ETag").ok_or_else(|| missing("ETag"))?;
        let etag = ETag::parse(etag).ok_or_else(|| refuse(name, "of letters, digits, - and _"))?;
        // The length of a redirect is that of its own text.
        let plain = if answer.status < 300 { "Content-Length" } else { "X-Linked-Size" };
        let (name, size) = header(Some("X-Linked-Size"), plain).ok_or_else(|| missing(plain))?;
        let size = size.parse().map_err(|_| refuse(name, "a number"))?;
        Ok(Self { commit, etag, size })
    }
}

/// Where a file is.
pub(crate) fn address(
    client: &Client,
    repo: &RepoId,
    revision: &str,
    file: &FileName,
) -> Result<Address, Failure> {
    let segments: Vec<&str> = repo.parts().chain(["resolve", revision, file.as_str()]).collect();
    client.home().below(&segments).map_err(Failure::Invalid)
}
