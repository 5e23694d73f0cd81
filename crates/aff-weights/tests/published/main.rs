//! The downloader of published checkpoints against servers on the loopback address: a good one, and others.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../hub/server.rs"]
#[allow(dead_code, unused_qualifications, reason = "the tests of the hub use all of it")]
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aff_model::config::Architecture;
use aff_weights::{
    ConfigSource, ModelFolder, Network, Published, PublishedCheckpoint, Terms, WeightsError,
    published_checkpoint,
};
use server::{Reply, Request, Sent, Server, part};

const PATH: &str = "/base/classification/nano.pth";
const VERSION: &str = "\"v1\"";

/// A small checkpoint in the published format.
fn nano_bytes() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/classify-nano/checkpoint.pth");
    std::fs::read(path).unwrap()
}

fn nano() -> PublishedCheckpoint {
    let mut checkpoint = published_checkpoint("aff-mini").unwrap();
    checkpoint.name = "aff-nano".to_owned();
    checkpoint.path = "classification/nano.pth".to_owned();
    checkpoint.config = ConfigSource::Checkpoint;
    checkpoint
}

fn published(base: &str, cache: &Path) -> Published {
    let mut published = Published::from_env();
    published.base = format!("{base}/base/");
    published.cache = cache.to_owned();
    published.network = Network::Online;
    published.patience.connect = Duration::from_secs(2);
    published.patience.response = Duration::from_millis(500);
    published.patience.stall = Duration::from_millis(500);
    published.patience.tries = 2;
    published.patience.first_pause = Duration::from_millis(5);
    published
}

fn fetch(server: &Server, cache: &Path) -> Result<PathBuf, WeightsError> {
    published(&server.address(), cache).fetch(&nano(), Terms::Accepted, &mut ())
}

fn problem(server: &Server, cache: &Path) -> String {
    fetch(server, cache).unwrap_err().to_string()
}

/// A server that has the checkpoint, but for what `change` makes of the answers.
fn start(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let bytes = nano_bytes();
    Server::start(move |request| {
        if request.path != PATH {
            return Reply::status(404);
        }
        change(request, part(&bytes, request).with("ETag", VERSION))
    })
}

fn good() -> Server {
    start(|_, reply| reply)
}

fn is_get(request: &Request) -> bool {
    request.method == "GET"
}

#[test]
fn a_checkpoint_becomes_a_model_folder_once() {
    let (server, cache) = (good(), tempfile::tempdir().unwrap());
    let folder = fetch(&server, cache.path()).unwrap();
    let model = ModelFolder::open(&folder).unwrap();
    assert_eq!(model.config().architecture(), Architecture::ImageClassification);
    let record = std::fs::read_to_string(cache.path().join("published/aff-nano/checkpoint.json")).unwrap();
    assert!(record.contains(&server::sha256(&nano_bytes())) && record.contains(PATH), "{record}");
    assert!(!cache.path().join("published/aff-nano/checkpoint.pth").exists(), "the model is enough");
    let requests = server.requests().len();
    assert_eq!(fetch(&server, cache.path()).unwrap(), folder);
    let mut offline = published(&server.address(), cache.path());
    offline.network = Network::Offline;
    assert_eq!(offline.fetch(&nano(), Terms::AsNoted, &mut ()).unwrap(), folder);
    assert_eq!(server.requests().len(), requests);
}

#[test]
fn nothing_is_asked_before_the_terms_are_accepted() {
    let (server, cache) = (good(), tempfile::tempdir().unwrap());
    let published = published(&server.address(), cache.path());
    let error = published.fetch(&nano(), Terms::AsNoted, &mut ()).unwrap_err().to_string();
    assert!(error.contains("licence") && error.contains(aff_weights::PUBLISHED_TERMS[0]), "{error}");
    assert!(server.requests().is_empty());
    published.fetch(&nano(), Terms::Accepted, &mut ()).unwrap();
    std::fs::remove_dir_all(cache.path().join("published")).unwrap();
    assert!(published.fetch(&nano(), Terms::AsNoted, &mut ()).is_ok(), "it was noted");
    // What is kept needs no terms.
    std::fs::remove_dir_all(cache.path().join("published")).unwrap();
    let mut elsewhere = published;
    elsewhere.base = "http://127.0.0.1:9/".to_owned();
    let error = elsewhere.fetch(&nano(), Terms::AsNoted, &mut ()).unwrap_err().to_string();
    assert!(error.contains("licence"), "those of another base may be others: {error}");
}

#[test]
fn what_is_missing_or_refused_says_what_to_do() {
    for status in [403, 404, 410] {
        let (server, cache) = (start(move |_, _| Reply::status(status)), tempfile::tempdir().unwrap());
        let error = problem(&server, cache.path());
        assert!(error.contains("there is no file at http") && error.contains("aff convert"), "{error}");
    }
    let cache = tempfile::tempdir().unwrap();
    let mut offline = published("http://127.0.0.1:9", cache.path());
    offline.network = Network::Offline;
    let error = offline.fetch(&nano(), Terms::Accepted, &mut ()).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("aff-nano"), "{error}");
    let mut elsewhere = nano();
    elsewhere.name = "../x".to_owned();
    let published = published("http://127.0.0.1:9", cache.path());
    let error = published.fetch(&elsewhere, Terms::Accepted, &mut ()).unwrap_err().to_string();
    assert!(error.contains("no such model"), "{error}");
}

#[test]
fn an_interrupted_download_goes_on_unless_the_file_is_another() {
    let half = nano_bytes().len() / 2;
    let cut = move || {
        start(move |request, reply| match request.header("range") {
            None => reply.sent(Sent::Cut(half)),
            Some(_) => Reply::status(503),
        })
    };
    let ranges = |server: &Server| -> Vec<bool> {
        server
            .requests()
            .iter()
            .filter(|request| is_get(request))
            .map(|request| request.header("range").is_some())
            .collect()
    };
    let cache = tempfile::tempdir().unwrap();
    assert!(fetch(&cut(), cache.path()).is_err());
    let server = good();
    fetch(&server, cache.path()).unwrap();
    assert_eq!(ranges(&server), [true]);
    assert_eq!(server.requests().last().unwrap().header("if-range"), Some(VERSION));

    let cache = tempfile::tempdir().unwrap();
    assert!(fetch(&cut(), cache.path()).is_err());
    let other = start(|_, reply| reply.with("ETag", "\"v2\""));
    fetch(&other, cache.path()).unwrap();
    assert_eq!(ranges(&other), [false]);
}

#[test]
fn what_is_not_whole_or_not_the_checkpoint_is_refused() {
    let short = start(|request, reply| if is_get(request) { reply.sent(Sent::Cut(1000)) } else { reply });
    let long = start(|request, mut reply| {
        if is_get(request) {
            reply.body.push(0);
            reply.has_length = false;
        }
        reply
    });
    let page = start(|_, mut reply| {
        reply.body = b"<html>moved</html>".to_vec();
        reply
    });
    let huge = start(|_, reply| reply.with("Content-Length", "99999999999"));
    for (server, part) in [
        (short, "could not be had"),
        (long, "more than the"),
        (page, "is not the checkpoint of this model"),
        (huge, "at most"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let error = problem(&server, cache.path());
        assert!(error.contains(part), "{part}: {error}");
        assert!(!cache.path().join("published/aff-nano/checkpoint.json").exists(), "{part}: it is not noted");
        assert!(fetch(&good(), cache.path()).is_ok(), "{part}");
    }
    // A whole checkpoint, of another model.
    let (server, cache) = (good(), tempfile::tempdir().unwrap());
    let mut other = nano();
    other.config = ConfigSource::Preset("aff-mini".to_owned());
    let published = published(&server.address(), cache.path());
    let error = published.fetch(&other, Terms::Accepted, &mut ()).unwrap_err().to_string();
    assert!(error.contains("is not the checkpoint of this model"), "{error}");
}

#[test]
fn a_later_download_must_be_the_first_one() {
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch(&good(), cache.path()).unwrap();
    // The model is damaged, so that it is downloaded again.
    std::fs::write(folder.join("model.safetensors"), b"cut").unwrap();
    let other = start(|request, mut reply| {
        if is_get(request) {
            *reply.body.last_mut().unwrap() ^= 1;
        }
        reply.with("ETag", "\"v2\"")
    });
    let error = problem(&other, cache.path());
    assert!(error.contains("downloaded first") && error.contains("checkpoint.json"), "{error}");
    let longer = start(|_, mut reply| {
        reply.body.push(0);
        reply
    });
    let error = problem(&longer, cache.path());
    assert!(error.contains("downloaded first"), "{error}");
    fetch(&good(), cache.path()).unwrap();
    assert!(ModelFolder::open(folder).is_ok());
}

#[test]
fn redirects_are_followed_and_hanging_servers_end() {
    let store = good();
    let elsewhere = store.address();
    let server = Server::start(move |_| Reply::redirect(format!("{elsewhere}{PATH}")));
    let cache = tempfile::tempdir().unwrap();
    assert!(fetch(&server, cache.path()).is_ok());

    let round = Server::start(|request| Reply::redirect(request.path.clone()));
    let cache = tempfile::tempdir().unwrap();
    assert!(problem(&round, cache.path()).contains("redirects more than"));

    for sent in [Sent::Silence, Sent::Hang(10)] {
        let hanging = start(move |_, reply| reply.sent(sent.clone()));
        let cache = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        assert!(problem(&hanging, cache.path()).contains("in time"));
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}
