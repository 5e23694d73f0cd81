//! From the address of a checkpoint to a model folder.

use std::path::{Path, PathBuf};

use super::records::{AcceptedTerms, Place, Record};
use super::{PUBLISHED_TERMS, Published, PublishedCheckpoint, Terms};
use crate::download::{
    Address, Client, DownloadObserver, Failure, Redirects, Resume, Transfer, Tries, sha256, wait_for_lock,
};
use crate::folder::WEIGHTS;
use crate::hub::Network;
use crate::{ConvertOptions, Overwrite, convert};

/// No published checkpoint is nearly as large.
const MOST_BYTES: u64 = 8 << 30;
const LONGEST_VERSION_BYTES: u64 = 1 << 10;

/// What is wrong, and what to do.
type Problem = String;

pub(super) fn fetch(
    published: &Published,
    checkpoint: &PublishedCheckpoint,
    terms: Terms,
    observer: &mut dyn DownloadObserver,
) -> Result<PathBuf, Problem> {
    let place = Place::new(&published.cache, &checkpoint.name)
        .ok_or("no such model; expected the name of a preset, such as aff-mini")?;
    // Its licence was accepted when it was fetched.
    if let Some(model) = place.kept() {
        return Ok(model);
    }
    check_terms(published, terms)?;
    if published.network == Network::Offline {
        let model = place.model();
        return Err(format!(
            "it is not in {} and HF_HUB_OFFLINE forbids to download it; unset HF_HUB_OFFLINE",
            model.display()
        ));
    }
    let base = Address::parse(&published.base).map_err(|problem| format!("AFF_PUBLISHED_BASE: {problem}"))?;
    let segments: Vec<&str> = checkpoint.path.split('/').collect();
    let address = base.below(&segments)?;
    let locked = wait_for_lock(&place.lock(), || observer.waiting(&checkpoint.name));
    let _lock = locked.map_err(in_file(&place.lock(), "lock it"))?;
    // Another process may have been faster.
    if let Some(model) = place.kept() {
        return Ok(model);
    }
    let download =
        Download { published, place: &place, client: Client::new(base, None, &published.patience), address };
    let record = download.run(&checkpoint.name, observer)?;
    make_model(&place, checkpoint, record)
}

fn check_terms(published: &Published, terms: Terms) -> Result<(), Problem> {
    let Published { cache, base, .. } = published;
    match terms {
        _ if AcceptedTerms::are_noted(cache, base) => Ok(()),
        Terms::Accepted => AcceptedTerms::note(cache, base),
        Terms::AsNoted => Err(format!(
            "its weights are under a licence of their authors, which forbids some uses; read it at {} and accept it before they are downloaded",
            PUBLISHED_TERMS.join(" and ")
        )),
    }
}

struct Download<'a> {
    published: &'a Published,
    place: &'a Place,
    client: Client,
    address: Address,
}

impl Download<'_> {
    /// Downloads the checkpoint; if it was downloaded before, it must be the same.
    fn run(&self, name: &str, observer: &mut dyn DownloadObserver) -> Result<Record, Problem> {
        let describe = |failure: Failure| self.describe(&failure);
        let (bytes, version) = self.ask(name, observer).map_err(describe)?;
        let first = self.place.record();
        if let Some(first) = first.as_ref().filter(|first| first.bytes != bytes) {
            return Err(self.changed(&format!("{} bytes, now {bytes}", first.bytes)));
        }
        let resume = self.resume(version, first.is_some())?;
        let transfer = Transfer {
            client: &self.client,
            patience: &self.published.patience,
            address: self.address.clone(),
            file: name,
            size: bytes,
            resume,
        };
        let partial = self.place.partial();
        transfer.run(&partial, observer).map_err(describe)?;
        let found = sha256(&partial).map_err(in_file(&partial, "read it"))?;
        if let Some(first) = first.as_ref().filter(|first| first.sha256 != found) {
            std::fs::remove_file(&partial).map_err(in_file(&partial, "remove it"))?;
            return Err(self.changed(&format!("SHA-256 {}, now {found}", first.sha256)));
        }
        std::fs::rename(&partial, self.place.checkpoint()).map_err(in_file(&partial, "rename it"))?;
        observer.finished(name);
        Ok(Record { address: self.address.to_string(), bytes, sha256: found, weights_bytes: 0 })
    }

    /// Size and, if the server says it, version of the file.
    fn ask(&self, name: &str, observer: &mut dyn DownloadObserver) -> Result<(u64, Option<String>), Failure> {
        let mut tries = Tries::new(&self.published.patience);
        let answer = loop {
            let answer = self.client.head(&self.address, Redirects::Everywhere);
            match answer.and_then(|answer| answer.expect(|status| status == 200)) {
                Ok(answer) => break answer,
                Err(failure) => tries.wait_after(failure, name, observer)?,
            }
        };
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let bytes: u64 =
            length.ok_or_else(|| Failure::Invalid("the server does not say how large it is".to_owned()))?;
        if bytes > MOST_BYTES {
            return Err(Failure::Invalid(format!(
                "it has {bytes} bytes; at most {MOST_BYTES} are downloaded"
            )));
        }
        // A weak one names versions that may differ in bytes.
        let version = answer.header("etag").filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
        Ok((bytes, version))
    }

    /// Whether the beginning that an interrupted download left is of the same version.
    fn resume(&self, version: Option<String>, is_known: bool) -> Result<Resume, Problem> {
        let Some(version) = version else {
            return Ok(if is_known { Resume::ByDigest } else { Resume::Never });
        };
        let path = self.place.partial_version();
        let last = aff_files::read_to_string(&path, LONGEST_VERSION_BYTES).unwrap_or_default();
        if last != version {
            std::fs::remove_file(self.place.partial()).ok();
            std::fs::write(&path, &version).map_err(in_file(&path, "write it"))?;
        }
        Ok(Resume::IfUnchanged(version))
    }

    fn changed(&self, how: &str) -> Problem {
        format!(
            "{} is not the file that was downloaded first ({how}); if the authors replaced it, remove {} and fetch it anew",
            self.address,
            self.place.record_path().display()
        )
    }

    fn describe(&self, failure: &Failure) -> Problem {
        let address = &self.address;
        match failure {
            // Stores that may not be listed answer 403 for what they have not.
            Failure::Status { code: code @ (403 | 404 | 410), .. } => format!(
                "there is no file at {address} (status {code}); if the authors moved it, download it by hand and use `aff convert`, or set AFF_PUBLISHED_BASE"
            ),
            _ => format!("{address} could not be had: {failure}"),
        }
    }
}

/// Makes the model folder of a downloaded checkpoint, notes what it was made of, and removes the checkpoint.
fn make_model(
    place: &Place,
    checkpoint: &PublishedCheckpoint,
    mut record: Record,
) -> Result<PathBuf, Problem> {
    let (unfinished, model, file) = (place.unfinished(), place.model(), place.checkpoint());
    remove_folder(&unfinished)?;
    let converted = convert(&ConvertOptions {
        checkpoint: file.clone(),
        backbone: None,
        output: unfinished.clone(),
        config: checkpoint.config.clone(),
        overwrite: Overwrite::Refuse,
        verify: true,
    });
    // Kept, it would only be in the way of a better one.
    std::fs::remove_file(&file).map_err(in_file(&file, "remove it"))?;
    std::fs::remove_file(place.partial_version()).ok();
    if let Err(error) = converted {
        remove_folder(&unfinished)?;
        return Err(format!("what is at {} is not the checkpoint of this model: {error}", record.address));
    }
    let weights = unfinished.join(WEIGHTS);
    record.weights_bytes = std::fs::metadata(&weights).map_err(in_file(&weights, "read it"))?.len();
    remove_folder(&model)?;
    std::fs::rename(&unfinished, &model).map_err(in_file(&unfinished, "rename it"))?;
    place.write_record(&record)?;
    Ok(model)
}

fn remove_folder(folder: &Path) -> Result<(), Problem> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(in_file(folder, "remove it")(error))
        }
        _ => Ok(()),
    }
}

fn in_file(path: &Path, action: &str) -> impl Fn(std::io::Error) -> Problem {
    move |error| format!("{}: cannot {action}: {error}", path.display())
}
