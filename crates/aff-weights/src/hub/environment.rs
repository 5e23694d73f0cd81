//! The environment variables of the hub, read as its Python client reads them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Hub, Links, Network};
use crate::download::{Patience, Token};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const LONGEST_TOKEN_BYTES: u64 = 16 << 10;

impl Hub {
    /// As the environment says:
    ///
    /// * `HF_HUB_CACHE`, or `HF_HOME/hub`, by default `XDG_CACHE_HOME/huggingface/hub` or `~/.cache/huggingface/hub`; `~` and `$NAME` in
    ///   them are expanded;
    /// * `HF_ENDPOINT`, by default `https://huggingface.co`;
    /// * `HF_TOKEN`, or what is in the file `HF_TOKEN_PATH`, by default `HF_HOME/token`, where `hf auth login` saves it; no token with
    ///   `HF_HUB_DISABLE_IMPLICIT_TOKEN`;
    /// * `HF_HUB_OFFLINE`, `HF_HUB_DISABLE_SYMLINKS`;
    /// * `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, for an answer and for a stalled body.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| lookup(name));
        let is_on = |names: &[&str]| {
            let value = first(names).unwrap_or_default().to_ascii_lowercase();
            ["1", "true", "yes", "on"].contains(&value.as_str())
        };
        let seconds = |name: &str, otherwise| {
            lookup(name)
                .and_then(|text| text.trim().parse().ok())
                .filter(|seconds| *seconds > 0)
                .map_or(otherwise, Duration::from_secs)
        };
        let user = first(&["HOME", "USERPROFILE"]).unwrap_or_else(|| ".".to_owned());
        let path = |text: String| PathBuf::from(expand(&text, &user, &lookup));
        let shared = lookup("XDG_CACHE_HOME").unwrap_or_else(|| format!("{user}/.cache"));
        let home = path(lookup("HF_HOME").unwrap_or_else(|| format!("{shared}/huggingface")));
        let cache = first(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]);
        let token = if is_on(&["HF_HUB_DISABLE_IMPLICIT_TOKEN"]) {
            None
        } else {
            let given = first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]);
            let saved = || saved_token(&lookup("HF_TOKEN_PATH").map_or_else(|| home.join("token"), path));
            given.as_deref().and_then(Token::new).or_else(saved)
        };
        let usual = Patience::default();
        Self {
            cache: cache.map_or_else(|| home.join("hub"), path),
            endpoint: lookup("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            token,
            network: if is_on(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]) {
                Network::Offline
            } else {
                Network::Online
            },
            links: if is_on(&["HF_HUB_DISABLE_SYMLINKS"]) { Links::Copies } else { Links::Symbolic },
            patience: Patience {
                response: seconds("HF_HUB_ETAG_TIMEOUT", usual.response),
                stall: seconds("HF_HUB_DOWNLOAD_TIMEOUT", usual.stall),
                ..usual
            },
        }
    }
}

fn saved_token(path: &Path) -> Option<Token> {
    if !path.exists() {
        return None;
    }
    match aff_files::read_to_string(path, LONGEST_TOKEN_BYTES) {
        Ok(text) => Token::new(&text),
        Err(error) => {
            tracing::warn!("{}: the token of the hub cannot be read: {error}", path.display());
            None
        }
    }
}

/// Replaces `~` at the beginning, and `$NAME` or `${NAME}` where there is such a variable.
fn expand(text: &str, user: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let text = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\']) => format!("{user}{rest}"),
        _ => text.to_owned(),
    };
    let mut pieces = text.split('$');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let (name, rest) = match piece.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(split) => split,
            None => piece.split_at(piece.find(|letter| !is_name(letter)).unwrap_or(piece.len())),
        };
        match lookup(name) {
            Some(value) => out.extend([value.as_str(), rest]),
            None => out.extend(["$", piece]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        Hub::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_is_honoured() {
        let plain = hub(&[("HOME", "/home/me")]);
        assert_eq!(plain.cache, Path::new("/home/me/.cache/huggingface/hub"));
        assert_eq!(
            (plain.endpoint.as_str(), plain.token, plain.network, plain.links),
            (DEFAULT_ENDPOINT, None, Network::Online, Links::Symbolic)
        );
        let cache = |variables: &[(&str, &str)]| hub(&[variables, &[("HOME", "/h")]].concat()).cache;
        assert_eq!(cache(&[("HF_HOME", "/data/hf")]), Path::new("/data/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "~/hf")]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/xdg")]), Path::new("/xdg/huggingface/hub"));
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
        let all = hub(&[
            ("HF_HOME", "/data/hf"),
            ("HF_HUB_CACHE", "$FAST/${FAST}s/$none"),
            ("FAST", "/fast"),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_TOKEN", " secret\n"),
            ("HF_HUB_OFFLINE", "TRUE"),
            ("HF_HUB_DISABLE_SYMLINKS", "on"),
            ("HF_HUB_ETAG_TIMEOUT", "3"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "0"),
        ]);
        assert_eq!(
            (all.cache.to_str(), all.endpoint.as_str()),
            (Some("/fast//fasts/$none"), "http://mirror/")
        );
        assert_eq!(all.token, Token::new("secret"));
        assert_eq!((all.network, all.links), (Network::Offline, Links::Copies));
        assert_eq!((all.patience.response.as_secs(), all.patience.stall), (3, Patience::default().stall));
        assert_eq!(hub(&[("HF_HUB_OFFLINE", "0")]).network, Network::Online);
        assert_eq!(hub(&[("TRANSFORMERS_OFFLINE", "1")]).network, Network::Offline);
    }

    #[test]
    fn a_saved_token_is_found_and_can_be_forbidden() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "saved\n").unwrap();
        std::fs::write(folder.path().join("mine"), "mine").unwrap();
        let mine = format!("{home}/mine");
        let token = |variables: &[(&str, &str)]| hub(&[variables, &[("HF_HOME", home)]].concat()).token;
        assert_eq!(token(&[]), Token::new("saved"));
        assert_eq!(token(&[("HF_TOKEN_PATH", &mine)]), Token::new("mine"));
        assert_eq!(token(&[("HF_TOKEN_PATH", &mine), ("HF_TOKEN", "given")]), Token::new("given"));
        assert_eq!(token(&[("HF_TOKEN", "given"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(format!("{:?}", token(&[])), "Some(Token(..))");
    }
}
