//! Servers that want to write elsewhere, fill the disk, or are asked for what no hub has.

use std::path::Path;

use crate::hub;
use crate::server::{COMMIT, MODEL, Reply, Server, Site, WEIGHTS};

/// Every file and folder in a cache that a cache does not have: all names in it are digests, or of files that were asked for.
fn strangers(folder: &Path) -> Vec<String> {
    let known = [
        "models--org--aff-nano",
        ".locks",
        "blobs",
        "refs",
        "snapshots",
        ".aff",
        "main",
        COMMIT,
        "config.json",
        "preprocessor_config.json",
        WEIGHTS,
    ];
    let is_digest = |name: &str| {
        let bare = name.strip_suffix(".lock").unwrap_or(name);
        [40, 64].contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(strangers(&entry.path()));
        }
        if !known.contains(&name.as_str()) && !is_digest(&name) {
            found.push(name);
        }
    }
    found
}

#[test]
fn names_from_a_server_write_nothing_elsewhere() {
    let target = tempfile::tempdir().unwrap();
    let absolute = target.path().join("written");
    let absolute = absolute.to_str().unwrap();
    let long = "a".repeat(400);
    let etags = [
        "../../../written",
        "..",
        absolute,
        "a/b",
        "a\\..\\b",
        "\"../../x\"",
        "W/\"../x\"",
        "",
        "a.lock",
        &long,
    ];
    let commits = ["../../../../written", "..", absolute, "main", "", &long[..41], "0123"];
    let attacks = etags
        .iter()
        .flat_map(|etag| [("ETag", *etag), ("X-Linked-Etag", *etag)])
        .chain(commits.iter().map(|commit| ("X-Repo-Commit", *commit)));
    for (header, value) in attacks {
        for file in ["config.json", WEIGHTS] {
            let (site, text) = (Site::new(), value.to_owned());
            let server = Server::start(move |request| match site.answer(request) {
                reply if request.path.ends_with(file) => reply.with(header, text.clone()),
                reply => reply,
            });
            let outside = tempfile::tempdir().unwrap();
            let cache = outside.path().join("a/b/cache");
            std::fs::create_dir_all(&cache).unwrap();
            let error = hub(&server, &cache).fetch(MODEL, "main").unwrap_err().to_string();
            assert!(error.contains(header) && error.len() < 1000, "{header} {value}: {error}");
            assert_eq!(strangers(&cache), Vec::<String>::new(), "{header} {value}");
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
            assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
            assert_eq!(server.count(|request| request.is_get_of(file)), 0, "it was not asked for its file");
        }
    }
}

#[test]
fn another_commit_than_asked_for_is_refused() {
    let site = Site::new().moved();
    let server = Server::start(move |request| match site.answer(request) {
        reply if request.path.ends_with(WEIGHTS) => reply.with("X-Repo-Commit", COMMIT),
        reply => reply,
    });
    let cache = tempfile::tempdir().unwrap();
    let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
    assert!(error.contains(COMMIT), "{error}");
}

#[test]
fn an_index_names_only_files_beside_it() {
    for shard in [
        "../../../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "config.json",
        "..",
        "x\\u0000.safetensors",
    ] {
        let mut site = Site::new();
        site.files().remove(WEIGHTS);
        let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
        site.files().insert("model.safetensors.index.json", index.into_bytes());
        let (server, cache) = (site.start(), tempfile::tempdir().unwrap());
        let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains("names the shard"), "{shard}: {error}");
    }
}

#[test]
fn ids_and_revisions_that_lead_elsewhere_are_refused_before_a_request() {
    let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
    for id in ["../x", "/etc/passwd", "a/b/c", "org/..", "", "org\\name", "org/na me"] {
        let error = hub(&server, cache.path()).fetch(id, "main").unwrap_err().to_string();
        assert!(error.contains("no such model"), "{id}: {error}");
    }
    for revision in ["", "/etc/cron.d/x", "../../x", "a/../b", ".", "..", "a\\b", "a\nb", "C:\\x", "a/./b"] {
        let error = hub(&server, cache.path()).fetch(MODEL, revision).unwrap_err().to_string();
        assert!(error.contains("no such revision"), "{revision}: {error}");
    }
    assert!(server.requests().is_empty());
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn sizes_without_bounds_are_refused_before_the_download() {
    for (file, header, size) in [
        ("config.json", "Content-Length", (100_u64 << 20).to_string()),
        ("config.json", "X-Linked-Size", u64::MAX.to_string()),
        (WEIGHTS, "X-Linked-Size", (100_u64 << 30).to_string()),
        (WEIGHTS, "X-Linked-Size", "-1".to_owned()),
        (WEIGHTS, "X-Linked-Size", "99999999999999999999999".to_owned()),
    ] {
        let (site, value) = (Site::new(), size.clone());
        let server = Server::start(move |request| match site.answer(request) {
            reply if request.path.ends_with(file) => reply.with(header, value.clone()),
            reply => reply,
        });
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains(&size) || error.contains("not a number"), "{error}");
        assert_eq!(server.count(|request| request.is_get_of(file)), 0);
    }
}

#[test]
fn refusals_say_what_to_do() {
    for (status, code, token, parts) in [
        (401, None, None, ["set HF_TOKEN", "private or gated"]),
        (401, None, Some("x"), ["not valid", "HF_TOKEN"]),
        (403, None, None, ["set HF_TOKEN", "private or gated"]),
        (403, None, Some("x"), ["no access", "HF_TOKEN"]),
        (401, Some("RepoNotFound"), None, ["knows no such model", "set HF_TOKEN"]),
        (404, Some("RepoNotFound"), Some("x"), ["knows no such model", "HF_TOKEN has no access"]),
        (401, Some("GatedRepo"), None, ["accept its terms at http://127.0.0.1", "set HF_TOKEN"]),
        (403, Some("GatedRepo"), Some("x"), ["accept its terms at http://127.0.0.1", "owner of the token"]),
        (404, Some("RevisionNotFound"), None, ["no such revision", "branch"]),
        (404, Some("EntryNotFound"), None, ["it has no config.json", "model of this kind"]),
        (404, None, None, ["check the name", "revision"]),
        (429, None, None, ["too many requests", "HF_TOKEN"]),
        (503, None, None, ["out of order", "503"]),
        (418, None, None, ["status 418", "config.json"]),
    ] {
        let server = Server::start(move |_| match code {
            Some(code) => Reply::status(status).with("X-Error-Code", code),
            None => Reply::status(status),
        });
        let cache = tempfile::tempdir().unwrap();
        let mut hub = hub(&server, cache.path());
        hub.token = token.and_then(aff_weights::Token::new);
        let error = hub.fetch(MODEL, "main").unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part) && error.contains(MODEL), "{status} {code:?}: {error}");
        }
    }
}

#[test]
fn what_is_no_hub_is_said_to_be_none() {
    let cache = tempfile::tempdir().unwrap();
    let page = Server::start(|_| Reply::status(200));
    let error = hub(&page, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
    assert!(error.contains("X-Repo-Commit") && error.contains("is it a hub"), "{error}");
    for endpoint in ["huggingface.co", "ftp://huggingface.co", "", "file:///etc"] {
        let mut hub = hub(&page, cache.path());
        hub.endpoint = endpoint.to_owned();
        let error = hub.fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains("HF_ENDPOINT"), "{error}");
    }
}
