//! Servers that hang, are busy or gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::server::{COMMIT, MODEL, Reply, Sent, Server, Site, WEIGHTS, weights};
use crate::{Notebook, hasty, hub, offline};

/// Longer than three tries of 0.4 s, and shorter than a server hangs three times.
const PATIENCE: Duration = Duration::from_secs(4);

#[test]
fn what_hangs_ends() {
    type Change = fn(Reply) -> Reply;
    let hangs: [(&str, Change); 6] = [
        ("config.json", |reply| reply.sent(Sent::Silence)),
        ("config.json", |reply| reply.sent(Sent::Hang(1))),
        (WEIGHTS, |reply| reply.sent(Sent::Silence)),
        (WEIGHTS, |reply| reply.sent(Sent::Hang(0))),
        (WEIGHTS, |reply| reply.sent(Sent::Hang(10_000))),
        (WEIGHTS, |reply| reply.sent(Sent::Trickle)),
    ];
    for (number, (file, change)) in hangs.into_iter().enumerate() {
        let site = Site::new();
        let server = Server::start(move |request| match site.answer(request) {
            reply if request.path.ends_with(&format!("/{file}")) => change(reply),
            reply => reply,
        });
        let cache = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let error = hasty(hub(&server, cache.path())).fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains("in time") || error.contains("bytes arrived"), "{number}: {error}");
        assert!(start.elapsed() < PATIENCE, "{number}: {:?}", start.elapsed());
    }
}

/// A server that refuses the first requests for a file.
fn busy(file: &'static str, times: usize, refusal: Reply) -> Server {
    let (site, asked) = (Site::new(), AtomicUsize::new(0));
    Server::start(move |request| {
        let is_refused =
            request.path.ends_with(&format!("/{file}")) && asked.fetch_add(1, Ordering::SeqCst) < times;
        if is_refused { refusal.clone() } else { site.answer(request) }
    })
}

#[test]
fn busy_servers_are_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        let server = busy("config.json", 2, Reply::status(status));
        let cache = tempfile::tempdir().unwrap();
        let mut notebook = Notebook::default();
        assert!(hub(&server, cache.path()).fetch_observed(MODEL, "main", &mut notebook).is_ok(), "{status}");
        assert_eq!(notebook.pauses, [5, 10].map(Duration::from_millis));
    }
    // They are not asked for ever.
    let server = busy("config.json", 3, Reply::status(503));
    let cache = tempfile::tempdir().unwrap();
    assert!(hub(&server, cache.path()).fetch(MODEL, "main").is_err());
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_busy_server_says_when() {
    let server = busy(WEIGHTS, 1, Reply::status(429).with("Retry-After", "1"));
    let cache = tempfile::tempdir().unwrap();
    let mut notebook = Notebook::default();
    let start = Instant::now();
    assert!(hub(&server, cache.path()).fetch_observed(MODEL, "main", &mut notebook).is_ok());
    assert_eq!(notebook.pauses, [Duration::from_secs(1)]);
    assert!(start.elapsed() >= Duration::from_secs(1));
    // Too late.
    let server = busy(WEIGHTS, 9, Reply::status(429).with("Retry-After", "3600"));
    let cache = tempfile::tempdir().unwrap();
    let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
    assert!(error.contains("3600 s"), "{error}");
    assert_eq!(server.count(|request| request.path.ends_with(WEIGHTS)), 1);
}

#[test]
fn without_the_hub_what_is_kept_serves() {
    let cache = tempfile::tempdir().unwrap();
    let folder = hub(&Site::new().start(), cache.path()).fetch(MODEL, "main").unwrap();
    let gone = Server::start(|_| Reply::status(503));
    let silent = Server::start(|_| Reply::status(200).sent(Sent::Silence));
    for server in [&gone, &silent] {
        let start = Instant::now();
        assert_eq!(hasty(hub(server, cache.path())).fetch(MODEL, "main").unwrap(), folder);
        assert_eq!(server.requests().len(), 1);
        assert!(start.elapsed() < PATIENCE);
    }
    let mut nobody = hub(&gone, cache.path());
    nobody.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(nobody.fetch(MODEL, "main").unwrap(), folder);
    // Refusals are not outages.
    let refusing = Server::start(|_| Reply::status(403));
    assert!(hub(&refusing, cache.path()).fetch(MODEL, "main").is_err());
    assert_eq!(offline(hub(&refusing, cache.path())).fetch(MODEL, "main").unwrap(), folder);

    let empty = tempfile::tempdir().unwrap();
    nobody.cache = empty.path().to_owned();
    let error = nobody.fetch(MODEL, "main").unwrap_err().to_string();
    assert!(error.contains("could not be had from http://127.0.0.1:9"), "{error}");
}

#[test]
fn a_body_that_breaks_now_and_then_arrives() {
    let site = Site::new();
    let server = Server::start(move |request| match site.answer(request) {
        reply if request.is_get_of(WEIGHTS) => reply.sent(Sent::Cut(20_000)),
        reply => reply,
    });
    let cache = tempfile::tempdir().unwrap();
    let folder = hub(&server, cache.path()).fetch(MODEL, COMMIT).unwrap();
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    assert_eq!(server.count(|request| request.is_get_of(WEIGHTS)), 3);
}
