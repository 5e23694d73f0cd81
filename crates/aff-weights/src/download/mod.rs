//! Files from servers that are not trusted: where a request may go and who learns the token ([`client`]), how long anything is waited
//! for ([`Patience`]), how a body becomes a whole file ([`transfer`]).

mod address;
mod client;
mod digest;
mod failure;
mod lock;
mod observer;
mod patience;
mod transfer;

pub(crate) use address::Address;
pub(crate) use client::{Answer, Client, Redirects};
pub(crate) use digest::{ContentDigest, sha256};
pub(crate) use failure::{Failure, quote};
pub(crate) use lock::wait_for_lock;
pub use observer::DownloadObserver;
pub use patience::Patience;
pub(crate) use patience::Tries;
pub(crate) use transfer::{Resume, Transfer};

/// A secret that a server is shown to prove who asks. It does not appear in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token as it was copied: white space around it is not part of it. `None` if nothing remains.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(..)")
    }
}
