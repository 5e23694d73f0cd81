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
