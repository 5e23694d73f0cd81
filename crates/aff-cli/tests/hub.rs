//! Names of models that are in no folder.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use assert_cmd::Command;
use autofocusformer::models::Network;
use autofocusformer::weights::published_models;

#[path = "../../aff-weights/tests/common/mod.rs"]
#[allow(clippy::unwrap_used)]
mod checkpoints;

/// A server of a few files by their paths, and how many requests it had.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            count.fetch_add(1, Ordering::SeqCst);
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let headers: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let mut request = headers[0].split(' ');
            let (method, path) = (request.next().unwrap(), request.next().unwrap());
            let answer = match files.iter().find(|(known, _)| *known == path) {
                None => "404 Not Found\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0".to_owned(),
                Some((_, body)) => format!("200 OK\r\nContent-Length: {}", body.len()),
            };
            let answer = format!("HTTP/1.1 {answer}\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            let body = files.iter().find(|(known, _)| *known == path && method == "GET");
            // The command may have heard enough.
            let _ = stream.write_all(body.map_or(&[][..], |(_, body)| body));
        }
    });
    (address, requests)
}

/// A hub that knows no model.
fn empty_hub() -> (String, Arc<AtomicUsize>) {
    serve(Vec::new())
}

/// What `aff info --model` says on its standard error, and the requests it made.
fn info(model: &str) -> (String, usize) {
    let (endpoint, requests) = empty_hub();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let output = Command::cargo_bin("aff")
        .unwrap()
        .args(["info", "--model", model])
        .current_dir(folder.path())
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", folder.path())
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .unwrap();
    assert!(!output.status.success());
    (String::from_utf8(output.stderr).unwrap(), requests.load(Ordering::SeqCst))
}

#[test]
fn a_mistyped_folder_is_asked_of_nobody() {
    for model in ["models/typo", "./typo", "typo", "models/a/b"] {
        let (error, requests) = info(model);
        assert!(error.contains("there is no such folder") && error.contains(model), "{error}");
        assert_eq!(requests, 0, "{model}");
    }
}

#[test]
fn a_model_that_the_hub_has_not_is_asked_for_once() {
    let (error, requests) = info("organisation/typo");
    assert!(error.contains("knows no such model") && error.contains("organisation/typo"), "{error}");
    assert_eq!(requests, 1);
}

/// `aff` with a server of published checkpoints and a cache of its own.
struct Site<'a> {
    base: &'a str,
    cache: &'a Path,
}

impl Site<'_> {
    /// Whether it went well, and what was said: results or problems.
    fn aff(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::cargo_bin("aff").unwrap();
        command.args(arguments).current_dir(self.cache).env("AFF_CACHE", self.cache);
        command.env("AFF_PUBLISHED_BASE", self.base).env_remove("HF_HUB_OFFLINE").env_remove("RUST_LOG");
        let output = command.output().unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn failure(&self, arguments: &[&str]) -> String {
        let (is_well, said) = self.aff(arguments);
        assert!(!is_well && !said.contains("panicked"), "{said}");
        said
    }

    fn success(&self, arguments: &[&str]) -> String {
        let (is_well, said) = self.aff(arguments);
        assert!(is_well, "{said}");
        said
    }
}

#[test]
fn a_published_model_that_is_not_here_names_the_command_that_fetches_it() {
    let ((base, requests), cache) = (empty_hub(), tempfile::tempdir().unwrap());
    let site = Site { base: &base, cache: cache.path() };
    const NAME: &str = "aff-tiny-ade20k-semantic";
    let error = site.failure(&["info", "--model", NAME]);
    assert!(error.contains("`aff pull aff-tiny-ade20k-semantic`"), "{error}");
    let error = site.failure(&["pull", NAME]);
    assert!(error.contains("--accept-licence"), "{error}");
    assert!(error.contains("https://github.com/apple/ml-autofocusformer"), "{error}");
    let error = site.failure(&["info", "--model", "random:aff-mini", "--accept-licence"]);
    assert!(error.contains("unexpected argument"), "info downloads nothing: {error}");
    let error = site.failure(&["bench", "--model", "random:aff-mini", "--accept-licence"]);
    assert!(error.contains("--accept-licence is for published models"), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 0, "nothing is asked before the licence is accepted");

    for arguments in
        [&["pull", NAME, "--accept-licence"][..], &["bench", "--model", NAME, "--accept-licence"]]
    {
        let error = site.failure(arguments);
        assert!(error.contains("segmentation/ade_sem/aff_tiny.pth (status 404)"), "{error}");
    }
    let error = site.failure(&["pull", "aff-mini", NAME]);
    assert!(error.contains("skipped: aff-mini: ") && error.contains("2 of 2 models"), "{error}");
    assert!(site.failure(&["pull", "aff-huge", "--accept-licence"]).contains("`aff models` lists them"));
}

#[test]
fn a_published_model_is_downloaded_once_and_then_needs_no_network() {
    const NAME: &str = "aff-mini";
    const PATH: &str = "/classification/aff_mini.pth";
    let cache = tempfile::tempdir().unwrap();
    let preset = published_models().into_iter().find(|preset| preset.name == NAME).unwrap();
    let file = cache.path().join("zeros.pth");
    checkpoints::write_torch(&file, &Network::expected_tensors(&preset.config).unwrap());
    let bytes = std::fs::read(&file).unwrap();
    let (base, requests) = serve(vec![(PATH, bytes.clone())]);
    let site = Site { base: &base, cache: cache.path() };
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/tower.jpg");
    let classify = ["classify", photo, "--model", NAME];

    let error = site.failure(&classify);
    assert!(error.contains("`aff pull aff-mini`"), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
    let state = |list: &str, name: &str| {
        let line = list.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let list = site.success(&["models"]);
    let expected = "classify 1000 27.0 MB pull top-1 78.2, top-5 93.6, 1.08 GMACs the authors'";
    assert_eq!(state(&list, NAME), expected);
    let expected = "semantic 11 3.5 MB built in mIoU 70.5 CC BY-NC 4.0, as CamVid: research and personal use, no commercial use";
    assert_eq!(state(&list, "aff-pico-camvid"), expected);

    site.success(&[&classify[..], &["--accept-licence"]].concat());
    let asked = requests.load(Ordering::SeqCst);
    assert_eq!(asked, 2, "its size, and its bytes");
    for arguments in [&classify[..], &["pull", NAME], &["info", "--model", NAME]] {
        site.success(arguments);
    }
    assert!(state(&site.success(&["models"]), NAME).contains("kept top-1 78.2"));
    assert_eq!(requests.load(Ordering::SeqCst), asked);

    // A damaged model is downloaded again, under the licence that was accepted; it must be what it was.
    let model = cache.path().join("published/aff-mini/model/model.safetensors");
    std::fs::write(&model, b"cut").unwrap();
    assert!(site.failure(&classify).contains("`aff pull aff-mini`"));
    site.success(&["pull", NAME]);
    site.success(&classify);
    std::fs::write(&model, b"cut").unwrap();
    let mut other = bytes;
    *other.last_mut().unwrap() ^= 1;
    let (base, _) = serve(vec![(PATH, other)]);
    let error = Site { base: &base, cache: cache.path() }.failure(&["pull", NAME, "--accept-licence"]);
    assert!(error.contains("is not the file that was downloaded first"), "{error}");
}
