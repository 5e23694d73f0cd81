//! All files of a model, of one commit.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::cache::{Blob, ModelCache};
use super::checked::{self, State};
use super::metadata::{self, Metadata};
use super::names::{Commit, FileName, RefName, RepoId, Revision};
use super::{Hub, Network};
use crate::download::{Address, Client, DownloadObserver, Failure, Patience, Resume, Transfer, Tries};
use crate::folder::{CONFIG, INDEX, PREPROCESSOR, WEIGHTS};

/// All JSON files of a model together.
const MOST_JSON_BYTES: u64 = 32 << 20;
/// All weights of a model together.
const MOST_WEIGHT_BYTES: u64 = 64 << 30;
const MOST_SHARDS: usize = 1000;

/// What is wrong, and what to do.
type Problem = String;

/// The folder of a model at a revision, with all its files.
pub(super) fn fetch(
    hub: &Hub,
    (id, revision): (&str, &str),
    observer: &mut dyn DownloadObserver,
) -> Result<PathBuf, Problem> {
    let repo = RepoId::parse(id).ok_or(
        "no such model; expected a folder, or the name of a model on the hub such as organisation/name",
    )?;
    let revision = Revision::parse(revision)
        .ok_or("no such revision; expected the name of a branch or tag, or a commit")?;
    let cache = ModelCache::new(&hub.cache, &repo, hub.links);
    let client = match hub.network {
        Network::Offline => None,
        Network::Online => {
            let endpoint =
                Address::parse(&hub.endpoint).map_err(|problem| format!("HF_ENDPOINT: {problem}"))?;
            Some(Client::new(endpoint, hub.token.clone(), &hub.patience))
        }
    };
    let mut fetch = Fetch {
        hub,
        repo,
        cache,
        client,
        observer,
        json_bytes: MOST_JSON_BYTES,
        weight_bytes: MOST_WEIGHT_BYTES,
    };
    match &revision {
        Revision::Commit(commit) => fetch.snapshot(commit),
        Revision::Named(name) => fetch.named(name),
    }
}

struct Fetch<'a> {
    hub: &'a Hub,
    repo: RepoId,
    cache: ModelCache,
    /// `None` if no request may be made.
    client: Option<Client>,
    observer: &'a mut dyn DownloadObserver,
    /// What may still be downloaded.
    json_bytes: u64,
    weight_bytes: u64,
}

impl Fetch<'_> {
    /// What a branch or tag stands for.
    fn named(&mut self, name: &RefName) -> Result<PathBuf, Problem> {
        let last = self.cache.commit_of(name);
        let Some(client) = self.client.take() else {
            let commit = last.ok_or_else(|| self.not_cached(&format!("the revision {}", name.as_str())))?;
            return self.snapshot(&commit);
        };
        // Without a client, nothing is asked.
        let kept = last.and_then(|commit| self.snapshot(&commit).ok());
        let mut patience = self.hub.patience.clone();
        if kept.is_some() {
            patience.tries = 1;
        }
        let config = known(CONFIG)?;
        let found = self.ask(&client, &config, name.as_str(), &patience);
        self.client = Some(client);
        match (found, kept) {
            (Ok(found), _) => {
                let folder = self.snapshot(&found.commit)?;
                // Only now: while files are missing, the branch stands for the commit that is whole.
                if let Err(error) = self.cache.remember(name, &found.commit) {
                    tracing::warn!(
                        "{}: {} cannot be noted: {error}",
                        self.cache.folder().display(),
                        name.as_str()
                    );
                }
                Ok(folder)
            }
            (Err(failure), Some(kept)) if failure.is_outage() => {
                let problem = self.describe(&config, &failure);
                tracing::warn!("{}: {problem}; what the cache has of {} is used", self.repo, name.as_str());
                Ok(kept)
            }
            (Err(failure), _) => Err(self.describe(&config, &failure)),
        }
    }

    /// All files of a commit.
    fn snapshot(&mut self, commit: &Commit) -> Result<PathBuf, Problem> {
        self.required(commit, &known(CONFIG)?)?;
        self.optional(commit, &known(PREPROCESSOR)?)?;
        if self.optional(commit, &known(WEIGHTS)?)?.is_none() {
            let index = self.required(commit, &known(INDEX)?)?;
            for shard in shards(&index)? {
                self.required(commit, &shard)?;
            }
        }
        Ok(self.cache.snapshot(commit))
    }

    fn required(&mut self, commit: &Commit, file: &FileName) -> Result<PathBuf, Problem> {
        let name = file.as_str();
        match self.optional(commit, file)? {
            Some(path) => Ok(path),
            None if self.client.is_none() => Err(self.not_cached(name)),
            None if name == INDEX => {
                Err(format!("it has neither {WEIGHTS} nor {INDEX}; is it a model of this kind?"))
            }
            None => Err(format!("it has no {name}; is it a model of this kind?")),
        }
    }

    /// A file of a commit; `None` if the model has none of this name.
    fn optional(&mut self, commit: &Commit, file: &FileName) -> Result<Option<PathBuf>, Problem> {
        let path = self.cache.pointer(commit, file);
        let state = checked::state(&self.cache, commit, file)
            .map_err(|error| format!("{}: cannot read it: {error}", path.display()))?;
        let Some(client) = self.client.take() else {
            return match state {
                State::Whole | State::Unknown => Ok(Some(path)),
                State::Missing => Ok(None),
                State::Damaged(problem) => Err(format!(
                    "{} is damaged: {problem}; it cannot be downloaded again because no request may be made: unset HF_HUB_OFFLINE",
                    path.display()
                )),
            };
        };
        if let State::Damaged(problem) = &state {
            tracing::warn!("{} is damaged: {problem}; downloading it again", path.display());
        }
        let outcome = match state {
            State::Whole => Ok(Some(())),
            _ => self.download(&client, commit, file),
        };
        self.client = Some(client);
        Ok(outcome.map_err(|failure| self.describe(file, &failure))?.map(|()| path))
    }

    fn ask(
        &mut self,
        client: &Client,
        file: &FileName,
        revision: &str,
        patience: &Patience,
    ) -> Result<Metadata, Failure> {
        let address = metadata::address(client, &self.repo, revision, file)?;
        let mut tries = Tries::new(patience);
        loop {
            match Metadata::ask(client, &address) {
                Ok(found) => return Ok(found),
                Err(failure) => tries.wait_after(failure, file.as_str(), self.observer)?,
            }
        }
    }

    /// `None` if the model has no such file.
    fn download(&mut self, client: &Client, commit: &Commit, file: &FileName) -> Result<Option<()>, Failure> {
        let found = match self.ask(client, file, commit.as_str(), &self.hub.patience) {
            Ok(found) => found,
            Err(failure) if is_absent(&failure) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        if found.commit != *commit {
            let (asked, found) = (commit.as_str(), found.commit.as_str());
            return Err(Failure::Invalid(format!(
                "of the commit {asked} was asked for, the answer is of {found}"
            )));
        }
        self.take_from_budget(file, found.size)?;
        let path = self.cache.pointer(commit, file);
        self.cache.create().map_err(Failure::file(self.cache.folder(), "create it"))?;
        let observer = &mut *self.observer;
        let locked = self.cache.lock(&found.etag, || observer.waiting(file.as_str()));
        let _lock = locked.map_err(Failure::file(self.cache.folder(), "lock a file of it"))?;
        // Another process may have been faster.
        let now = checked::state(&self.cache, commit, file).map_err(Failure::file(&path, "read it"))?;
        let is_right = |path: &std::path::Path| {
            checked::compare(path, found.size, &found.etag).is_ok_and(|outcome| outcome.is_ok())
        };
        if now == State::Whole {
            return Ok(Some(()));
        }
        if now != State::Unknown || !is_right(&path) {
            let blob = self.cache.blob(&found.etag);
            let (whole, blob) = if is_right(&blob) {
                (blob, Blob::Kept)
            } else {
                (self.transfer(client, file, &found)?, Blob::New)
            };
            let placed = self.cache.place(&whole, blob, &found.etag, (commit, file));
            placed.map_err(Failure::file(&path, "put it into the cache"))?;
        }
        checked::note(&self.cache, &found.etag, commit, file);
        Ok(Some(()))
    }

    /// Downloads a file, and makes sure that it is what was announced.
    fn transfer(&mut self, client: &Client, file: &FileName, found: &Metadata) -> Result<PathBuf, Failure> {
        let partial = self.cache.partial(&found.etag);
        let transfer = Transfer {
            client,
            patience: &self.hub.patience,
            address: metadata::address(client, &self.repo, found.commit.as_str(), file)?,
            file: file.as_str(),
            size: found.size,
            resume: if found.etag.digest().is_some() { Resume::ByDigest } else { Resume::Never },
        };
        let is_resumed = transfer.resume == Resume::ByDigest && partial.exists();
        for is_last in [!is_resumed, true] {
            transfer.run(&partial, self.observer)?;
            let outcome = checked::compare(&partial, found.size, &found.etag);
            let Err(problem) = outcome.map_err(Failure::file(&partial, "read it"))? else { break };
            std::fs::remove_file(&partial).map_err(Failure::file(&partial, "remove it"))?;
            if is_last {
                return Err(Failure::Invalid(format!(
                    "what was downloaded is damaged: {problem}; try again"
                )));
            }
            tracing::warn!("{}: what an interrupted download left does not fit: {problem}", file.as_str());
        }
        self.observer.finished(file.as_str());
        Ok(partial)
    }

    fn take_from_budget(&mut self, file: &FileName, size: u64) -> Result<(), Failure> {
        let (budget, most) = if file.as_str().ends_with(".json") {
            (&mut self.json_bytes, MOST_JSON_BYTES)
        } else {
            (&mut self.weight_bytes, MOST_WEIGHT_BYTES)
        };
        *budget = budget.checked_sub(size).ok_or_else(|| {
            Failure::Invalid(format!(
                "with its {size} bytes, files of this kind have more than the {most} bytes allowed"
            ))
        })?;
        Ok(())
    }

    fn not_cached(&self, what: &str) -> Problem {
        format!(
            "{what} is not in the cache {} and HF_HUB_OFFLINE forbids to download it; unset HF_HUB_OFFLINE, or set HF_HUB_CACHE to a \
             cache that has the model",
            self.cache.folder().display()
        )
    }

    fn describe(&self, file: &FileName, failure: &Failure) -> Problem {
        let (endpoint, file) = (self.hub.endpoint.trim_end_matches('/'), file.as_str());
        let Failure::Status { code, error_code, retry_after } = failure else {
            return format!("{file} could not be had from {endpoint}: {failure}");
        };
        let has_token = self.hub.token.is_some();
        let page = format!("{endpoint}/{}", self.repo);
        match (*code, error_code.as_deref()) {
            (_, Some("GatedRepo")) if has_token => {
                format!(
                    "the model is gated: accept its terms at {page}, as the owner of the token in HF_TOKEN"
                )
            }
            (_, Some("GatedRepo")) => {
                format!("the model is gated: accept its terms at {page}, then set HF_TOKEN")
            }
            (_, Some("RevisionNotFound")) => {
                format!(
                    "{endpoint} has the model, but no such revision; expected the name of a branch or tag, or a commit"
                )
            }
            (_, Some("EntryNotFound")) => format!("it has no {file}; is it a model of this kind?"),
            (_, Some("RepoNotFound")) | (401 | 403, _) if !has_token => {
                format!(
                    "{endpoint} knows no such model, or it is private or gated; check the name, and set HF_TOKEN if it is"
                )
            }
            (_, Some("RepoNotFound")) => {
                format!(
                    "{endpoint} knows no such model, or the token in HF_TOKEN has no access to it; check both"
                )
            }
            (401 | 403, _) => {
                format!(
                    "{endpoint} refuses {file}: the token in HF_TOKEN is not valid there or has no access to this model (set or renew HF_TOKEN)"
                )
            }
            (404, _) => format!("{endpoint} has no {file} for it; check the name and the revision"),
            (429, _) => {
                let when = retry_after.map_or("a while".to_owned(), |pause| format!("{} s", pause.as_secs()));
                format!("{endpoint} has had too many requests; wait {when} or set HF_TOKEN")
            }
            (500.., _) => format!("{endpoint} is out of order (status {code}); try again later"),
            _ => format!("{endpoint} answers with status {code} when asked for {file}"),
        }
    }
}

/// Whether the hub says that there is no such file in a commit that there is.
fn is_absent(failure: &Failure) -> bool {
    match failure {
        Failure::Status { code: 404, error_code, .. } => {
            error_code.as_deref().is_none_or(|code| code == "EntryNotFound")
        }
        _ => false,
    }
}

fn known(name: &str) -> Result<FileName, Problem> {
    FileName::parse(name).ok_or_else(|| format!("{name:?} is not the name of a file"))
}

/// Names of the shards that an index lists.
fn shards(index: &std::path::Path) -> Result<BTreeSet<FileName>, Problem> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text =
        aff_files::read_to_string(index, MOST_JSON_BYTES).map_err(|error| format!("{INDEX}: {error}"))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|error| format!("{INDEX}: {error}"))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.len() > MOST_SHARDS {
        return Err(format!("{INDEX} names {} shards; at most {MOST_SHARDS} are downloaded", names.len()));
    }
    let check = |name: &String| {
        FileName::shard(name).ok_or_else(|| {
            format!(
                "{INDEX} names the shard {}, which is not a safetensors file beside it",
                crate::download::quote(name)
            )
        })
    };
    names.iter().map(check).collect()
}
