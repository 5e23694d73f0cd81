//! Models from the Hugging Face hub, in the cache that its Python client uses, too.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::WeightsError;
use crate::folder::{CONFIG, INDEX, PREPROCESSOR, WEIGHTS};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const RETRIES: usize = 2;

/// Where models come from and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The folder with `models--org--name` below it.
    pub cache: PathBuf,
    /// Address of the hub.
    pub endpoint: String,
    /// Access token for private and gated models.
    pub token: Option<String>,
    /// Whether the network must not be touched.
    pub offline: bool,
    /// Whether downloads show a progress bar.
    pub progress: bool,
}

impl Hub {
    /// As the environment says: `HF_HUB_CACHE` or `HF_HOME/hub` (by default `~/.cache/huggingface/hub`), `HF_ENDPOINT`, `HF_TOKEN`
    /// or the token that `hf auth login` saved, `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let user = lookup("HOME").or_else(|| lookup("USERPROFILE")).unwrap_or_else(|| ".".to_owned());
        let shared = lookup("XDG_CACHE_HOME").map_or_else(|| Path::new(&user).join(".cache"), PathBuf::from);
        let home = lookup("HF_HOME").map_or_else(|| shared.join("huggingface"), PathBuf::from);
        let saved = || std::fs::read_to_string(home.join("token")).ok();
        let token = lookup("HF_TOKEN").or_else(saved).map(|token| token.trim().to_owned());
        let is_on = |value: String| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str());
        let endpoint = lookup("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Self {
            cache: lookup("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
            offline: lookup("HF_HUB_OFFLINE").is_some_and(is_on),
            progress: false,
        }
    }

    /// The folder of a model at a revision (a branch, tag or commit): what is in the cache is taken from there, the rest
    /// downloaded.
    ///
    /// # Errors
    /// [`WeightsError::Hub`] if the name is none, the hub refuses or cannot be reached, a download is damaged, or a file is not in the
    /// cache and the network must not be touched.
    pub fn fetch(&self, id: &str, revision: &str) -> Result<PathBuf, WeightsError> {
        let refuse = |problem: String| WeightsError::Hub { model: format!("{id} at {revision}"), problem };
        check_name(id).map_err(&refuse)?;
        if revision.is_empty() || revision.split('/').any(|part| part == "..") {
            return Err(refuse("no such revision; expected a branch, a tag or a commit".to_owned()));
        }
        let files = Files { hub: self, api: self.api(id, revision).map_err(&refuse)?, id, revision };
        let config = files.required(CONFIG).map_err(&refuse)?;
        files.optional(PREPROCESSOR).map_err(&refuse)?;
        if files.optional(WEIGHTS).map_err(&refuse)?.is_none() {
            let index = files.required(INDEX).map_err(&refuse)?;
            for shard in shards(&index).map_err(&refuse)? {
                files.required(&shard).map_err(&refuse)?;
            }
        }
        match config.parent() {
            Some(folder) => Ok(folder.to_path_buf()),
            None => Err(refuse("its files are in no folder".to_owned())),
        }
    }

    fn api(&self, id: &str, revision: &str) -> Result<ApiFiles, String> {
        let build = ApiBuilder::new()
            .with_cache_dir(self.cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(self.progress)
            .with_retries(RETRIES)
            .with_user_agent("autofocusformer", env!("CARGO_PKG_VERSION"))
            .build();
        let api = build.map_err(|error| format!("no connection can be made: {error}"))?;
        let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
        Ok(ApiFiles { repo: api.repo(repo), api })
    }
}

struct ApiFiles {
    api: Api,
    repo: ApiRepo,
}

/// The files of one model.
struct Files<'a> {
    hub: &'a Hub,
    api: ApiFiles,
    id: &'a str,
    revision: &'a str,
}

impl Files<'_> {
    fn required(&self, name: &str) -> Result<PathBuf, String> {
        let found = self.optional(name)?;
        found.ok_or_else(|| format!("it has no {name}; is it a model of this kind?"))
    }

    /// `None` if the model has no such file.
    fn optional(&self, name: &str) -> Result<Option<PathBuf>, String> {
        if let Some(path) = self.cached(name) {
            return Ok(Some(path));
        }
        if self.hub.offline {
            // What a model need not have may be missing; what it must have is asked for by `required` of a snapshot.
            if name != CONFIG && self.cached(CONFIG).is_some() && name != INDEX {
                return Ok(None);
            }
            return Err(format!(
                "{name} is not in the cache {} and HF_HUB_OFFLINE forbids to download it; unset HF_HUB_OFFLINE, or \
                 set HF_HUB_CACHE to a cache that has the model",
                self.model_folder().display()
            ));
        }
        self.download(name)
    }

    fn model_folder(&self) -> PathBuf {
        self.hub.cache.join(format!("models--{}", self.id.replace('/', "--")))
    }

    /// A file of the snapshot that the revision names, a branch through `refs/` or a commit by itself.
    fn cached(&self, name: &str) -> Option<PathBuf> {
        let folder = self.model_folder();
        let commit = std::fs::read_to_string(folder.join("refs").join(self.revision))
            .map_or_else(|_| self.revision.to_owned(), |commit| commit.trim().to_owned());
        if !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let path = folder.join("snapshots").join(commit).join(name);
        path.is_file().then_some(path)
    }

    /// Downloads a file and makes sure that it is whole; what is not leaves the cache again.
    fn download(&self, name: &str) -> Result<Option<PathBuf>, String> {
        let ApiFiles { api, repo } = &self.api;
        let metadata = match api.metadata(&repo.url(name)) {
            Ok(metadata) => metadata,
            Err(error) if status(&error) == Some(404) && self.exists()? => return Ok(None),
            Err(error) => return Err(self.describe(name, &error)),
        };
        let path = repo.download(name).map_err(|error| self.describe(name, &error))?;
        let problem = check_whole(&path, metadata.size() as u64, metadata.etag());
        if let Some(problem) = problem {
            let blob = self.model_folder().join("blobs").join(metadata.etag());
            for damaged in [&path, &blob] {
                std::fs::remove_file(damaged).ok();
            }
            return Err(format!("the download of {name} is damaged: {problem}; try again"));
        }
        Ok(Some(path))
    }

    /// Whether the model itself is there, given that one of its files is not.
    fn exists(&self) -> Result<bool, String> {
        if self.cached(CONFIG).is_some() {
            return Ok(true);
        }
        let url = self.api.repo.url(CONFIG);
        match self.api.api.metadata(&url) {
            Ok(_) => Ok(true),
            Err(error) => Err(self.describe(CONFIG, &error)),
        }
    }

    fn describe(&self, name: &str, error: &ApiError) -> String {
        let endpoint = &self.hub.endpoint;
        match status(error) {
            Some(401 | 403) if self.hub.token.is_some() => format!(
                "{endpoint} refuses {name}: the token in HF_TOKEN has no access to this model, or its licence was not accepted there"
            ),
            Some(401 | 403) => format!(
                "{endpoint} refuses {name}: the model is private, gated or does not exist; check the name and set HF_TOKEN"
            ),
            Some(404) => format!("{endpoint} has no {name} for it; check the name and the revision"),
            Some(429) => format!("{endpoint} has had too many requests; wait a while or set HF_TOKEN"),
            Some(code) if code >= 500 => {
                format!("{endpoint} is out of order (status {code}); try again later")
            }
            _ => format!("{name} could not be downloaded from {endpoint}: {error}"),
        }
    }
}

/// The status that the hub answered with.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match error.as_ref() {
            ureq::Error::StatusCode(code) => Some(*code),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

/// Names are `name` or `organisation/name`.
fn check_name(id: &str) -> Result<(), String> {
    let is_plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && !part.starts_with('.')
    };
    if id.split('/').count() <= 2 && id.split('/').all(is_plain) {
        return Ok(());
    }
    Err("no such model; expected a folder, or the name of a model on the hub such as organisation/name"
        .to_owned())
}

/// What is wrong with a downloaded file. The etag of a large file is the SHA-256 of its content.
fn check_whole(path: &Path, size: u64, etag: &str) -> Option<String> {
    let check = || -> std::io::Result<Option<String>> {
        let mut file = File::open(path)?;
        let found = file.metadata()?.len();
        if found != size {
            return Ok(Some(format!("{found} of {size} bytes")));
        }
        let is_sha256 = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_sha256 {
            return Ok(None);
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((!digest.eq_ignore_ascii_case(etag)).then(|| format!("SHA-256 {digest}, expected {etag}")))
    };
    check().unwrap_or_else(|error| Some(error.to_string()))
}

/// Names of the shards that an index lists.
fn shards(index: &Path) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(|error| format!("{INDEX}: {error}"))?;
    let index: Index = serde_json::from_str(&text).map_err(|error| format!("{INDEX}: {error}"))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    match names.iter().find(|name| Path::new(name).file_name().is_none_or(|file| file != name.as_str())) {
        Some(name) => Err(format!("{INDEX} names the shard {name:?}, which is not beside it")),
        None => Ok(names),
    }
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
        assert_eq!((plain.endpoint.as_str(), plain.token, plain.offline), (DEFAULT_ENDPOINT, None, false));
        assert_eq!(hub(&[("HOME", "/h"), ("HF_HOME", "/data/hf")]).cache, Path::new("/data/hf/hub"));
        let all = hub(&[
            ("HF_HOME", "/data/hf"),
            ("HF_HUB_CACHE", "/fast"),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_TOKEN", " secret\n"),
            ("HF_HUB_OFFLINE", "TRUE"),
        ]);
        assert_eq!((all.cache.to_str(), all.endpoint.as_str()), (Some("/fast"), "http://mirror"));
        assert_eq!((all.token.as_deref(), all.offline), (Some("secret"), true));
        assert!(!hub(&[("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "a/b/c", "../x", "a/..", "/etc", "a b", "a/.hidden", "org/name\n"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["gpt2", "org/aff-mini_1.5"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
