//! Who is asked, and who learns the token.

use aff_weights::Token;

use crate::hub;
use crate::server::{COMMIT, MODEL, Reply, Request, Server, Site, WEIGHTS, part, weights};

const TOKEN: &str = "hf_secret";

/// The hub's answer, if it is shown the token.
fn gate(request: &Request, reply: Reply) -> Reply {
    if request.token() == Some(&format!("Bearer {TOKEN}")) { reply } else { Reply::status(401) }
}

fn store() -> Server {
    Server::start(|request| part(&weights(), request))
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let store = store();
    let site = Site { store: Some(store.address()), ..Site::new() };
    let server = Server::start(move |request| gate(request, site.answer(request)));
    let cache = tempfile::tempdir().unwrap();
    let mut hub = hub(&server, cache.path());
    assert!(hub.fetch(MODEL, "main").is_err());
    hub.token = Token::new(TOKEN);
    let folder = hub.fetch(MODEL, "main").unwrap();
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    let requests = store.requests();
    assert_eq!(requests.len(), 1, "the body alone: what is said about it, the hub says");
    assert!(requests.iter().all(|request| request.token().is_none()));
}

#[test]
fn metadata_of_another_server_is_neither_asked_for_nor_taken() {
    let thief = Server::start(|request| Site::new().answer(request));
    let elsewhere = thief.address();
    let server = Server::start(move |request| Reply::redirect(format!("{elsewhere}{}", request.path)));
    let cache = tempfile::tempdir().unwrap();
    let mut hub = hub(&server, cache.path());
    hub.token = Token::new(TOKEN);
    assert!(hub.fetch(MODEL, "main").is_err());
    assert_eq!(thief.requests().len(), 0);
}

#[test]
fn redirects_within_the_hub_keep_the_token() {
    let site = Site::new();
    let server = Server::start(move |request| match request.path.strip_prefix("/moved") {
        Some(path) => {
            let request = Request { path: path.to_owned(), ..request.clone() };
            gate(&request, site.answer(&request))
        }
        None => Reply::redirect(format!("/moved{}", request.path)),
    });
    let cache = tempfile::tempdir().unwrap();
    let mut hub = hub(&server, cache.path());
    hub.token = Token::new(TOKEN);
    assert!(hub.fetch(MODEL, "main").unwrap().ends_with(COMMIT));
}

#[test]
fn what_was_led_away_does_not_come_home_with_the_token() {
    // The hub sends the body's request to a store, which sends it to an address of the hub that only the token opens.
    let secret = format!("/{MODEL}/secret");
    let back = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let home = std::sync::Arc::clone(&back);
    let store = Server::start(move |_| Reply::redirect(home.lock().unwrap().clone()));
    let site = Site { store: Some(store.address()), ..Site::new() };
    let path = secret.clone();
    let server = Server::start(move |request| {
        gate(request, if request.path == path { part(&weights(), request) } else { site.answer(request) })
    });
    *back.lock().unwrap() = format!("{}{secret}", server.address());
    let cache = tempfile::tempdir().unwrap();
    let mut hub = hub(&server, cache.path());
    hub.token = Token::new(TOKEN);
    assert!(hub.fetch(MODEL, "main").is_err());
    let requests = server.requests();
    let last = requests.iter().find(|request| request.path == secret).unwrap();
    assert_eq!(last.token(), None);
}

#[test]
fn redirects_end() {
    for location in ["/again", "?again=1", "again"] {
        let server = Server::start(move |_| Reply::redirect(location));
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains("redirects more than"), "{error}");
        assert!(server.requests().len() < 20);
    }
}

#[test]
fn redirects_to_other_than_the_web_are_refused() {
    for location in
        ["file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:x", "http://user:word@127.0.0.1/", "http://"]
    {
        let server = Server::start(move |_| Reply::redirect(location));
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server, cache.path()).fetch(MODEL, "main").unwrap_err().to_string();
        assert!(error.contains("redirects to") && error.contains("no address"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_token_that_is_none_is_not_repeated() {
    let (server, cache) = (Site::new().start(), tempfile::tempdir().unwrap());
    let mut hub = hub(&server, cache.path());
    hub.token = Token::new("hf_secret\r\nX-Evil: 1");
    let error = hub.fetch(MODEL, "main").unwrap_err().to_string();
    assert!(error.contains("token") && !error.contains("secret"), "{error}");
    assert!(!format!("{hub:?}").contains("secret"));
    assert!(server.requests().is_empty());
}
