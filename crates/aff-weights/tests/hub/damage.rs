//! Downloads that are not whole, and files that were.

use std::path::Path;

use aff_weights::Links;

use crate::cache::write_as_python;
use crate::server::{COMMIT, MODEL, Reply, Request, Sent, Server, Site, WEIGHTS, sha256, weights};
use crate::{Notebook, hub, offline};

fn snapshot(cache: &Path) -> std::path::PathBuf {
    cache.join("models--org--aff-nano/snapshots").join(COMMIT)
}

/// A server that answers as a hub does, but for what `change` makes of the weights.
fn changed(file: &'static str, change: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Server {
    let site = Site::new();
    Server::start(move |request: &Request| {
        let reply = site.answer(request);
        if request.is_get_of(file) { change(reply) } else { reply }
    })
}

#[test]
fn a_download_that_is_not_whole_never_becomes_usable() {
    let cut = changed(WEIGHTS, |reply| reply.sent(Sent::Cut(20)));
    let short = changed(WEIGHTS, |mut reply| {
        reply.body.truncate(1000);
        reply.has_length = false;
        reply
    });
    let long = changed(WEIGHTS, |mut reply| {
        reply.body.extend([0; 9]);
        reply.has_length = false;
        reply
    });
    let announced = changed(WEIGHTS, |mut reply| {
        reply.body.extend([0; 9]);
        reply
    });
    let wrong = changed(WEIGHTS, |mut reply| {
        reply.body.reverse();
        reply
    });
    let wrong_small = changed("config.json", |mut reply| {
        reply.body.reverse();
        reply
    });
    let coded = changed(WEIGHTS, |reply| reply.with("Content-Encoding", "gzip"));
    for (server, part) in [
        (cut, "too early|of 50000 bytes|disconnected"),
        (short, "of 50000 bytes"),
        (long, "more than the 50000 bytes"),
        (announced, "announced 50000"),
        (wrong, "SHA-256"),
        (wrong_small, "Git SHA-1"),
        (coded, "coding"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
        let is_named = part.split('|').any(|part| error.contains(part));
        assert!(is_named, "{part}: {error}");
        assert!(offline(hub(&server, cache.path())).fetch(MODEL, "main").is_err(), "{part}");
        assert!(!snapshot(cache.path()).join(WEIGHTS).exists(), "{part}");
        // A server that has recovered makes it whole.
        let folder = hub(&Site::new().start(), cache.path()).fetch(MODEL, "main").unwrap();
        assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights(), "{part}");
    }
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended() {
    let server = changed(WEIGHTS, |reply| match reply.status {
        206 => reply,
        _ => reply.sent(Sent::Cut(20_000)),
    });
    let cache = tempfile::tempdir().unwrap();
    let mut notebook = Notebook::default();
    let folder = hub(&server, cache.path()).fetch_observed(MODEL, "main", &mut notebook).unwrap();
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    let starts: Vec<u64> =
        notebook.started.iter().filter(|(file, _)| file == WEIGHTS).map(|(_, done)| *done).collect();
    assert_eq!(starts, [0, 20_000]);
    assert_eq!(notebook.pauses.len(), 1);
}

/// Puts what an interrupted download left into a cache.
fn leave(cache: &Path, bytes: &[u8]) {
    let blobs = cache.join("models--org--aff-nano/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{}.incomplete", sha256(&weights()))), bytes).unwrap();
}

#[test]
fn what_another_run_left_is_kept_if_it_fits() {
    let ranges = |server: &Server| -> Vec<Option<String>> {
        let gets = server.requests().into_iter().filter(|request| request.is_get_of(WEIGHTS));
        gets.map(|request| request.header("range").map(str::to_owned)).collect()
    };
    let continued = Some("bytes=30000-".to_owned());
    for (left, expected) in [
        (weights()[..30_000].to_vec(), vec![continued.clone()]),
        (vec![1; 30_000], vec![continued.clone(), None]),
        (vec![1; 60_000], vec![None]),
        (weights(), vec![]),
    ] {
        let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
        leave(cache.path(), &left);
        let folder = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
        assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
        assert_eq!(ranges(&server), expected);
    }
    // Servers that do not continue, or continue elsewhere.
    let site = Site::new();
    let whole = Server::start(move |request| match site.answer(request) {
        mut reply if reply.status == 206 => {
            reply.status = 200;
            reply.body = weights();
            reply
        }
        reply => reply,
    });
    let site = Site::new();
    let never = Server::start(move |request| match site.answer(request) {
        reply if reply.status == 206 => Reply::status(416),
        reply => reply,
    });
    let elsewhere = changed(WEIGHTS, |reply| match reply.status {
        206 => reply.with("Content-Range", "bytes 0-49999/50000"),
        _ => reply,
    });
    for (server, expected) in [
        (whole, vec![continued.clone()]),
        (never, vec![continued.clone(), None]),
        (elsewhere, vec![continued, None]),
    ] {
        let cache = tempfile::tempdir().unwrap();
        leave(cache.path(), &weights()[..30_000]);
        let folder = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
        assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
        assert_eq!(ranges(&server), expected);
    }
}

/// How a file in the cache may be damaged.
fn damages() -> Vec<(&'static str, Vec<u8>)> {
    let mut flipped = weights();
    flipped[12_345] ^= 1;
    vec![("cut", weights()[..100].to_vec()), ("flipped", flipped), ("empty", Vec::new())]
}

#[test]
fn a_damaged_file_is_downloaded_again_or_reported() {
    for links in [Links::Symbolic, Links::Copies] {
        for (name, bytes) in damages() {
            let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
            let mut hub = hub(&server, cache.path());
            hub.links = links;
            let folder = hub.fetch(MODEL, "main").unwrap();
            // Times of files are told apart by the clock of the file system.
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::fs::write(folder.join(WEIGHTS), bytes).unwrap();
            let error = offline(hub.clone()).fetch(MODEL, "main").unwrap_err().to_string();
            assert!(error.contains(WEIGHTS) && error.contains("damaged"), "{name}: {error}");
            hub.fetch(MODEL, "main").unwrap();
            assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights(), "{name}");
            assert!(offline(hub).fetch(MODEL, "main").is_ok());
        }
    }
}

#[test]
fn damage_in_a_cache_of_the_python_client_is_found_too() {
    for (name, bytes) in damages() {
        let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
        write_as_python(cache.path(), Site::new().files());
        std::fs::write(snapshot(cache.path()).join(WEIGHTS), bytes).unwrap();
        let hub = hub(&server, cache.path());
        assert!(offline(hub.clone()).fetch(MODEL, "main").is_err(), "{name}");
        let folder = hub.fetch(MODEL, COMMIT).unwrap();
        assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights(), "{name}");
    }
}

#[test]
fn a_file_that_was_only_touched_is_not_downloaded_again() {
    let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
    let folder = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::write(folder.join(WEIGHTS), weights()).unwrap();
    hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    assert_eq!(server.count(|request| request.is_get_of(WEIGHTS)), 1);
}
