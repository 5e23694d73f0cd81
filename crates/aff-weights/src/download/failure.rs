//! Why a request or a download failed.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest part of what a server said that an error repeats.
const QUOTED_CHARACTERS: usize = 200;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody answered, or not in time, or the connection broke.
    #[error("{problem}")]
    Unreachable {
        problem: String,
        /// Whether the next try may go better.
        may_pass: bool,
    },
    /// The server answered, but not with what was asked for.
    #[error("the server answers with status {code}")]
    Status {
        code: u16,
        /// The header `X-Error-Code` of the hub.
        error_code: Option<String>,
        /// The header `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The answer or the body is not what it must be.
    #[error("{0}")]
    Invalid(String),
    /// A file of ours cannot be read or written.
    #[error("{path}: cannot {action}: {source}", path = .path.display())]
    File { path: PathBuf, action: &'static str, source: std::io::Error },
}

impl Failure {
    pub(crate) fn broken(problem: impl Into<String>) -> Self {
        Self::Unreachable { problem: problem.into(), may_pass: true }
    }

    pub(crate) fn file(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, action, source }
    }

    /// Whether the next try may go better.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { may_pass, .. } => *may_pass,
            Self::Status { code, .. } => matches!(code, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Invalid(_) | Self::File { .. } => false,
        }
    }

    /// Whether the server could not be asked, as opposed to having refused.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. }) || self.is_transient()
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        use std::io::ErrorKind::{ConnectionRefused, PermissionDenied};
        let problem = error.to_string();
        match error {
            ureq::Error::Timeout(_) => Self::broken(format!("no answer in time ({problem})")),
            ureq::Error::BodyStalled => Self::broken("the connection was closed too early"),
            ureq::Error::Io(error) => {
                let may_pass = !matches!(error.kind(), ConnectionRefused | PermissionDenied);
                Self::Unreachable { problem, may_pass }
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                Self::Invalid(format!("the answer is not HTTP: {}", quote(&problem)))
            }
            _ => Self::Unreachable { problem, may_pass: false },
        }
    }
}

/// What a server said, fit to stand in a message: short, and without characters that command a terminal.
pub(crate) fn quote(text: &str) -> String {
    let short: String = text.chars().take(QUOTED_CHARACTERS).collect();
    let ellipsis = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{ellipsis}")
}
