//! The hub's client against a server on the loopback address that speaks the hub's protocol, and against a cache as the Python client
//! writes it.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aff_weights::Hub;
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL: &str = "org/aff-nano";

/// How the server treats a large file.
#[derive(Clone, Copy, PartialEq)]
enum Large {
    Whole,
    /// The connection closes in the middle, although a length was announced.
    Cut,
    /// The body ends early without a length that would tell.
    Short,
    /// As many bytes as announced, but others.
    Wrong,
}

struct Server {
    address: String,
    requests: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Content {
    files: BTreeMap<&'static str, Vec<u8>>,
    large: Large,
    status: Option<u16>,
    token: Option<&'static str>,
}

impl Content {
    fn nano(large: Large) -> Self {
        let weights: Vec<u8> = (0..50_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        let files = BTreeMap::from([
            ("config.json", b"{\"a\": 1}".to_vec()),
            ("preprocessor_config.json", b"{}".to_vec()),
            ("model.safetensors", weights),
        ]);
        Self { files, large, status: None, token: None }
    }
}

fn serve(content: Content) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (requests, log) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let server = Server { address: address.clone(), requests: Arc::clone(&requests), log: Arc::clone(&log) };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (content, address, requests, log) =
                (content.clone(), address.clone(), Arc::clone(&requests), Arc::clone(&log));
            std::thread::spawn(move || answer(stream.unwrap(), &content, &address, &requests, &log));
        }
    });
    server
}

fn answer(
    mut stream: TcpStream,
    content: &Content,
    address: &str,
    requests: &AtomicUsize,
    log: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    requests.fetch_add(1, Ordering::SeqCst);
    log.lock().unwrap().push(first.clone());
    let header = |name: &str| {
        let find = |line: &String| {
            line.split_once(':')
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        headers.iter().find_map(find)
    };
    let mut reply = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok();
        stream.write_all(body).ok();
    };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let status = content.status.map(|code| format!("{code} Status"));
    let authorised =
        content.token.is_none_or(|token| header("authorization") == Some(format!("Bearer {token}")));
    if let Some(status) = status {
        return reply(&status, "Content-Length: 0\r\n", b"");
    }
    if !authorised && !path.starts_with("/cdn/") {
        return reply("401 Unauthorized", "Content-Length: 0\r\n", b"");
    }
    let resolve = format!("/{MODEL}/resolve/main/");
    let name = path.strip_prefix(&resolve).or(path.strip_prefix("/cdn/")).unwrap_or("");
    let Some(file) = content.files.get(name) else {
        return reply("404 Not Found", "Content-Length: 0\r\n", b"");
    };
    let digest: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    let is_large = name == "model.safetensors";
    if is_large && path.starts_with(&resolve) {
        let headers = format!(
            "X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{digest}\"\r\nX-Linked-Size: {}\r\nETag: \"other\"\r\n\
             Location: {address}/cdn/{name}\r\nContent-Length: 0\r\n",
            file.len()
        );
        return reply("302 Found", &headers, b"");
    }
    let range = header("range").and_then(|range| range.strip_prefix("bytes=").map(str::to_owned));
    let (start, end) = range
        .as_deref()
        .and_then(|range| range.split_once('-'))
        .map_or((0, file.len() - 1), |(start, end)| {
            (start.parse().unwrap(), end.parse().unwrap_or(file.len() - 1))
        });
    let mut body = file[start..=end].to_vec();
    let etag = if is_large { digest } else { digest[..40].to_owned() };
    let mut headers = format!(
        "X-Repo-Commit: {COMMIT}\r\nETag: \"{etag}\"\r\nContent-Range: bytes {start}-{end}/{}\r\n",
        file.len()
    );
    let is_body = is_large && body.len() > 1;
    if !(is_body && content.large == Large::Short) {
        headers += &format!("Content-Length: {}\r\n", body.len());
    }
    match content.large {
        Large::Cut | Large::Short if is_body => body.truncate(body.len() / 2),
        Large::Wrong if is_body => body.reverse(),
        _ => {}
    }
    reply("206 Partial Content", &headers, &body);
}

fn hub(server: &Server, cache: &Path) -> Hub {
    Hub {
        cache: cache.to_owned(),
        endpoint: server.address.clone(),
        token: None,
        offline: false,
        progress: false,
    }
}

#[test]
fn a_model_is_downloaded_once_into_the_layout_of_the_python_client() {
    let content = Content::nano(Large::Whole);
    let (server, cache) = (serve(content.clone()), tempfile::tempdir().unwrap());
    let folder = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    let model = cache.path().join("models--org--aff-nano");
    assert_eq!(folder, model.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    for (name, bytes) in &content.files {
        assert_eq!(&std::fs::read(folder.join(name)).unwrap(), bytes, "{name}");
        assert!(
            std::fs::canonicalize(folder.join(name))
                .unwrap()
                .starts_with(model.join("blobs").canonicalize().unwrap())
        );
    }
    let requests = server.requests.load(Ordering::SeqCst);
    let again = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    assert_eq!(again, folder);
    assert_eq!(server.requests.load(Ordering::SeqCst), requests, "all of it came from the cache");
    let offline = Hub { offline: true, ..hub(&server, cache.path()) };
    assert_eq!(offline.fetch(MODEL, "main").unwrap(), folder);
    assert_eq!(offline.fetch(MODEL, COMMIT).unwrap(), folder, "by its commit, too");
}

#[test]
fn shards_are_downloaded_by_their_index() {
    let mut content = Content::nano(Large::Whole);
    let weights = content.files.remove("model.safetensors").unwrap();
    content.files.insert(
        "model.safetensors.index.json",
        br#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#.to_vec(),
    );
    content.files.insert("one.safetensors", weights.clone());
    content.files.insert("two.safetensors", weights);
    content.files.remove("preprocessor_config.json");
    let (server, cache) = (serve(content), tempfile::tempdir().unwrap());
    let folder = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    assert!(folder.join("one.safetensors").is_file() && folder.join("two.safetensors").is_file());
    assert!(!folder.join("preprocessor_config.json").exists());
}

#[test]
fn a_download_that_is_not_whole_never_becomes_usable() {
    for large in [Large::Cut, Large::Short, Large::Wrong] {
        let (server, cache) = (serve(Content::nano(large)), tempfile::tempdir().unwrap());
        let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        let offline = Hub { offline: true, ..hub(&server, cache.path()) };
        assert!(offline.fetch(MODEL, "main").is_err(), "the cache has no whole model");
        let snapshot = cache.path().join("models--org--aff-nano/snapshots").join(COMMIT);
        assert!(!snapshot.join("model.safetensors").exists());
        // A server that has recovered makes it whole.
        let recovered = serve(Content::nano(Large::Whole));
        let folder = hub(&recovered, cache.path()).fetch(MODEL, "main").unwrap();
        assert_eq!(
            std::fs::read(folder.join("model.safetensors")).unwrap(),
            Content::nano(large).files["model.safetensors"]
        );
    }
}

#[test]
fn refusals_say_what_to_do() {
    let fetch = |status, part: &str| {
        let content = Content { status: Some(status), ..Content::nano(Large::Whole) };
        let (server, cache) = (serve(content), tempfile::tempdir().unwrap());
        let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(MODEL), "{status}: {error}");
    };
    fetch(401, "set HF_TOKEN");
    fetch(403, "set HF_TOKEN");
    fetch(404, "check the name");
    fetch(429, "too many requests");
    fetch(503, "out of order");
    let nobody = Hub { endpoint: "http://127.0.0.1:9".to_owned(), ..Hub::from_env() };
    let cache = tempfile::tempdir().unwrap();
    let error =
        Hub { cache: cache.path().to_owned(), ..nobody }.fetch(MODEL, "main").unwrap_err().to_string();
    assert!(error.contains("could not be downloaded from http://127.0.0.1:9"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let content = Content { token: Some("secret"), ..Content::nano(Large::Whole) };
    let (server, cache) = (serve(content), tempfile::tempdir().unwrap());
    let with = Hub { token: Some("secret".to_owned()), ..hub(&server, cache.path()) };
    assert!(with.fetch(MODEL, "main").is_ok());
    assert!(server.log.lock().unwrap().iter().any(|line| line.contains("/cdn/")));
    let other = tempfile::tempdir().unwrap();
    assert!(hub(&server, other.path()).fetch(MODEL, "main").is_err());
}

#[test]
fn offline_without_the_model_names_the_folder_and_the_variable() {
    let cache = tempfile::tempdir().unwrap();
    let offline = Hub { cache: cache.path().to_owned(), offline: true, ..Hub::from_env() };
    let error = offline.fetch(MODEL, "main").unwrap_err().to_string();
    for part in ["models--org--aff-nano", "HF_HUB_OFFLINE", "HF_HUB_CACHE"] {
        assert!(error.contains(part), "{error}");
    }
}
