//! What is kept, where, and when it is asked about.

use std::collections::BTreeMap;
use std::path::Path;

use aff_weights::Links;

use crate::server::{COMMIT, MODEL, NEXT_COMMIT, Reply, Sent, Server, Site, WEIGHTS, weights};
use crate::{Notebook, hub, offline};

#[test]
fn a_model_is_downloaded_once_into_the_layout_of_the_python_client() {
    let mut site = Site::new();
    let files = site.files().clone();
    let (server, cache) = (site.start(), tempfile::tempdir().unwrap());
    let mut notebook = Notebook::default();
    let folder = hub(&server, cache.path()).fetch_observed(MODEL, "main", &mut notebook).unwrap();
    let model = cache.path().join("models--org--aff-nano");
    assert_eq!(folder, model.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    for (name, bytes) in &files {
        assert_eq!(&std::fs::read(folder.join(name)).unwrap(), bytes, "{name}");
        let target = std::fs::read_link(folder.join(name)).unwrap();
        assert!(target.starts_with("../../blobs"), "{target:?}");
    }
    assert_eq!(std::fs::read_dir(model.join("blobs")).unwrap().count(), 3);
    assert_eq!(notebook.finished, ["config.json", "preprocessor_config.json", WEIGHTS]);
    assert_eq!(notebook.last, weights().len() as u64);

    let before = server.requests().len();
    assert_eq!(hub(&server, cache.path()).fetch(MODEL, "main").unwrap(), folder);
    assert_eq!(server.requests().len(), before + 1, "only the branch was looked up");
    assert_eq!(hub(&server, cache.path()).fetch(MODEL, COMMIT).unwrap(), folder);
    let offline = offline(hub(&server, cache.path()));
    assert_eq!(offline.fetch(MODEL, "main").unwrap(), folder);
    assert_eq!(offline.fetch(MODEL, COMMIT).unwrap(), folder);
    assert_eq!(server.requests().len(), before + 1, "no request for a commit that is here, and none offline");
}

#[test]
fn a_branch_may_have_slashes() {
    let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
    hub(&server, cache.path()).fetch(MODEL, "refs/pr/1").unwrap();
    let noted = cache.path().join("models--org--aff-nano/refs/refs/pr/1");
    assert_eq!(std::fs::read_to_string(noted).unwrap(), COMMIT);
    assert!(offline(hub(&server, cache.path())).fetch(MODEL, "refs/pr/1").is_ok());
}

#[test]
fn shards_are_downloaded_by_their_index() {
    let mut site = Site::new();
    let files = site.files();
    let weights = files.remove(WEIGHTS).unwrap();
    let index =
        br#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}}"#;
    files.insert("model.safetensors.index.json", index.to_vec());
    files.insert("one.safetensors", weights.clone());
    files.insert("two.safetensors", weights);
    files.remove("preprocessor_config.json");
    let (server, cache) = (site.start(), tempfile::tempdir().unwrap());
    let folder = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    assert!(folder.join("one.safetensors").is_file() && folder.join("two.safetensors").is_file());
    assert!(!folder.join("preprocessor_config.json").exists());
    assert_eq!(server.count(|request| request.is_get_of("one.safetensors")), 1);
    assert_eq!(server.count(|request| request.is_get_of("two.safetensors")), 0, "its content was here");
    assert!(offline(hub(&server, cache.path())).fetch(MODEL, "main").is_ok());
    std::fs::remove_file(folder.join("two.safetensors")).unwrap();
    let error = offline(hub(&server, cache.path())).fetch(MODEL, "main").unwrap_err().to_string();
    assert!(error.contains("two.safetensors is not in the cache"), "{error}");
}

#[test]
fn a_branch_is_looked_up_again_and_moves_only_when_all_is_here() {
    let cache = tempfile::tempdir().unwrap();
    let first = hub(&Site::new().start(), cache.path()).fetch(MODEL, "main").unwrap();

    let moved = Site::new().moved();
    let broken = Server::start(move |request| match moved.answer(request) {
        reply if request.is_get_of("config.json") => reply.sent(Sent::Cut(1)),
        reply => reply,
    });
    assert!(hub(&broken, cache.path()).fetch(MODEL, "main").is_err());
    assert_eq!(offline(hub(&broken, cache.path())).fetch(MODEL, "main").unwrap(), first, "it is whole");

    let server = Site::new().moved().start();
    let second = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    assert!(second.ends_with(NEXT_COMMIT));
    assert_eq!(std::fs::read(second.join("config.json")).unwrap(), b"{\"b\": 2}");
    assert_eq!(std::fs::read(first.join("config.json")).unwrap(), b"{\"a\": 1}");
    assert_eq!(server.count(|request| request.is_get_of(WEIGHTS)), 0, "both commits have the same weights");
    assert_eq!(offline(hub(&server, cache.path())).fetch(MODEL, "main").unwrap(), second);
}

#[test]
fn a_branch_that_moves_during_a_download_mixes_nothing() {
    let (old, new) = (Site::new(), Site::new().moved());
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |request| {
        // From the second request on, `main` is the new commit.
        let site = if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 { &old } else { &new };
        site.answer(request)
    });
    let cache = tempfile::tempdir().unwrap();
    let folder = hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    assert!(folder.ends_with(COMMIT));
    assert_eq!(std::fs::read(folder.join("config.json")).unwrap(), b"{\"a\": 1}");
    assert_eq!(server.count(|request| request.path.contains("/resolve/main/")), 1);
}

#[test]
fn where_links_are_not_wanted_files_are_kept() {
    let (server, cache) = (Site::new().moved().start(), tempfile::tempdir().unwrap());
    let mut copying = hub(&server, cache.path());
    copying.links = Links::Copies;
    for revision in ["main", COMMIT] {
        let folder = copying.fetch(MODEL, revision).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            assert!(!entry.unwrap().path().is_symlink());
        }
        assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
        assert_eq!(offline(copying.clone()).fetch(MODEL, revision).unwrap(), folder);
    }
    let before = server.requests().len();
    copying.fetch(MODEL, COMMIT).unwrap();
    assert_eq!(server.requests().len(), before);
}

/// The cache as the Python client leaves it: links to blobs, no notes of ours.
#[test]
fn a_cache_of_the_python_client_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let mut site = Site::new();
    let files = site.files().clone();
    write_as_python(cache.path(), &files);
    let server = site.start();
    let folder = offline(hub(&server, cache.path())).fetch(MODEL, "main").unwrap();
    assert!(folder.ends_with(COMMIT));
    hub(&server, cache.path()).fetch(MODEL, "main").unwrap();
    assert_eq!(server.count(|request| request.method == "GET"), 0);
}

pub(crate) fn write_as_python(cache: &Path, files: &BTreeMap<&'static str, Vec<u8>>) {
    use crate::server::{git_sha1, sha256};
    let model = cache.join("models--org--aff-nano");
    let snapshot = model.join("snapshots").join(COMMIT);
    for folder in [&model.join("blobs"), &model.join("refs"), &snapshot] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(model.join("refs/main"), COMMIT).unwrap();
    for (name, content) in files {
        let etag = if *name == WEIGHTS { sha256(content) } else { git_sha1(content) };
        std::fs::write(model.join("blobs").join(&etag), content).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{etag}"), snapshot.join(name)).unwrap();
    }
}

const CHILD_ENDPOINT: &str = "AFF_TEST_CHILD_ENDPOINT";
const CHILD_CACHE: &str = "AFF_TEST_CHILD_CACHE";

/// Run by the test below in processes of their own.
#[test]
#[allow(clippy::print_stdout, reason = "the process that started this one reads it")]
fn child_that_fetches() {
    let (Ok(endpoint), Ok(cache)) = (std::env::var(CHILD_ENDPOINT), std::env::var(CHILD_CACHE)) else {
        return;
    };
    let server = Server::start(|_| Reply::status(500));
    let mut hub = hub(&server, Path::new(&cache));
    hub.endpoint = endpoint;
    let mut notebook = Notebook::default();
    let folder = hub.fetch_observed(MODEL, "main", &mut notebook).unwrap();
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    println!("downloaded {} waited {}", notebook.finished.contains(&WEIGHTS.to_owned()), notebook.waited > 0);
}

#[test]
fn a_second_process_waits_for_the_download_of_the_first() {
    let site = Site::new();
    let server = Server::start(move |request| match site.answer(request) {
        // Half a second, in which the others come.
        reply if request.is_get_of(WEIGHTS) => reply.sent(Sent::Slow(100)),
        reply => reply,
    });
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cache::child_that_fetches", "--nocapture"])
            .env(CHILD_ENDPOINT, server.address())
            .env(CHILD_CACHE, cache.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..3).map(|_| start()).collect();
    let outputs: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    let count = |text: &str| outputs.iter().filter(|output| output.contains(text)).count();
    assert_eq!((count("downloaded true"), count("downloaded false waited true")), (1, 2), "{outputs:?}");
    assert_eq!(server.count(|request| request.is_get_of(WEIGHTS)), 1);
}

#[test]
fn offline_without_the_model_names_the_folder_and_the_variables() {
    let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
    for revision in ["main", COMMIT] {
        let error = offline(hub(&server, cache.path())).fetch(MODEL, revision).unwrap_err().to_string();
        for part in ["models--org--aff-nano", "HF_HUB_OFFLINE", "HF_HUB_CACHE"] {
            assert!(error.contains(part), "{error}");
        }
    }
    assert!(server.requests().is_empty());
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0, "nothing was written");
}
