//! Names of models that are in no folder.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use assert_cmd::Command;

/// A hub that knows no model, and how many requests it had.
fn empty_hub() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            count.fetch_add(1, Ordering::SeqCst);
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            let answer = "HTTP/1.1 404 Not Found\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, requests)
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

/// `aff` with a server of published checkpoints that has none, and a cache of its own.
fn published(cache: &std::path::Path, base: &str, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::cargo_bin("aff").unwrap();
    command.args(arguments).current_dir(cache).env("AFF_CACHE", cache).env("AFF_PUBLISHED_BASE", base);
    command.env_remove("HF_HUB_OFFLINE").output().unwrap()
}

#[test]
fn a_published_model_that_is_not_here_names_the_command_that_fetches_it() {
    let ((base, requests), cache) = (empty_hub(), tempfile::tempdir().unwrap());
    let run = published(cache.path(), &base, &["info", "--model", "aff-tiny-ade20k-semantic"]);
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success() && error.contains("`aff pull aff-tiny-ade20k-semantic`"), "{error}");

    let run = published(cache.path(), &base, &["pull", "aff-tiny-ade20k-semantic"]);
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success() && error.contains("--accept-licence"), "{error}");
    assert!(error.contains("https://github.com/apple/ml-autofocusformer"), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 0, "nothing is asked before the licence is accepted");

    let run = published(cache.path(), &base, &["pull", "aff-tiny-ade20k-semantic", "--accept-licence"]);
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(error.contains("segmentation/ade_sem/aff_tiny.pth (status 404)"), "{error}");

    let run = published(cache.path(), &base, &["pull", "aff-huge", "--accept-licence"]);
    assert!(String::from_utf8(run.stderr).unwrap().contains("`aff models` lists them"));
}

#[test]
fn a_published_model_that_is_kept_needs_no_network() {
    let ((base, requests), cache) = (empty_hub(), tempfile::tempdir().unwrap());
    let folder = cache.path().join("published/aff-mini");
    let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/classify-nano/checkpoint.pth");
    let model = folder.join("model");
    let run = published(cache.path(), &base, &["convert", checkpoint, "--output", model.to_str().unwrap()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let bytes = std::fs::metadata(model.join("model.safetensors")).unwrap().len();
    let record = format!(r#"{{"address": "a", "bytes": 1, "sha256": "b", "weights_bytes": {bytes}}}"#);
    std::fs::write(folder.join("checkpoint.json"), record).unwrap();
    for arguments in [&["info", "--model", "aff-mini"][..], &["pull", "aff-mini"]] {
        let run = published(cache.path(), &base, arguments);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
    let list = String::from_utf8(published(cache.path(), &base, &["models"]).stdout).unwrap();
    let state = |name: &str| {
        let line = list.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.split_once(' ').unwrap().1.trim().to_owned()
    };
    assert!(state("aff-mini").starts_with("kept") && state("aff-mini").ends_with("top-1 78.2"), "{list}");
    assert!(state("aff-tiny").starts_with("aff pull"), "{list}");
    assert!(state("aff-pico-camvid").starts_with("built in"), "{list}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}
