//! A server on the loopback address whose every answer a test can choose.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const MODEL: &str = "org/aff-nano";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const NEXT_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_get_of(&self, file: &str) -> bool {
        self.method == "GET" && self.path.ends_with(&format!("/{file}"))
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.header("authorization")
    }
}

/// What is sent of a body.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    Whole,
    /// The connection closes after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes, and the connection stays.
    Hang(usize),
    /// A byte comes now and then.
    Trickle,
    /// So much of the body comes each millisecond.
    Slow(usize),
    /// Not even the headers come.
    Silence,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) sent: Sent,
    /// Whether `Content-Length` tells the length of the body.
    pub(crate) has_length: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), sent: Sent::Whole, has_length: true }
    }

    pub(crate) fn redirect(location: impl Into<String>) -> Self {
        Self::status(302).with("Location", location)
    }

    /// With a header in place of any of its name.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn sent(self, sent: Sent) -> Self {
        Self { sent, ..self }
    }
}

/// Answers until the test ends.
pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(&stream.unwrap(), answer.as_ref(), &log));
            }
        });
        Self { port, requests }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, select: impl Fn(&Request) -> bool) -> usize {
        self.requests().iter().filter(|request| select(request)).count()
    }
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned())))
        .collect();
    let mut words = first.split(' ').map(str::to_owned);
    let request = Request { method: words.next().unwrap(), path: words.next().unwrap(), headers };
    log.lock().unwrap().push(request.clone());
    send(stream, &request, &answer(&request));
}

fn send(mut stream: &TcpStream, request: &Request, reply: &Reply) {
    let pause = |milliseconds| std::thread::sleep(Duration::from_millis(milliseconds));
    if matches!(reply.sent, Sent::Silence) {
        return pause(5000);
    }
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let is_given = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if reply.has_length && !is_given {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    stream.write_all((head + "\r\n").as_bytes()).ok();
    if request.method == "HEAD" {
        return;
    }
    let length = reply.body.len();
    match reply.sent {
        Sent::Whole | Sent::Silence => drop(stream.write_all(&reply.body)),
        Sent::Cut(bytes) => drop(stream.write_all(&reply.body[..bytes.min(length)])),
        Sent::Hang(bytes) => {
            stream.write_all(&reply.body[..bytes.min(length)]).ok();
            pause(5000);
        }
        Sent::Trickle => {
            for byte in reply.body.chunks(1).take(100) {
                stream.write_all(byte).ok();
                pause(50);
            }
        }
        Sent::Slow(bytes) => {
            for part in reply.body.chunks(bytes) {
                stream.write_all(part).ok();
                pause(1);
            }
        }
    }
}

/// What a hub has of [`MODEL`]: files by commit, and where `main` is.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) main: &'static str,
    pub(crate) commits: BTreeMap<&'static str, BTreeMap<&'static str, Vec<u8>>>,
    /// Where large files lie; here if nowhere else.
    pub(crate) store: Option<String>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let files = BTreeMap::from([
            ("config.json", b"{\"a\": 1}".to_vec()),
            ("preprocessor_config.json", b"{}".to_vec()),
            (WEIGHTS, weights()),
        ]);
        Self { main: COMMIT, commits: BTreeMap::from([(COMMIT, files)]), store: None }
    }

    pub(crate) fn files(&mut self) -> &mut BTreeMap<&'static str, Vec<u8>> {
        self.commits.get_mut(COMMIT).unwrap()
    }

    /// With a second commit that has another configuration and the same weights, at which `main` is.
    pub(crate) fn moved(mut self) -> Self {
        let mut files = self.files().clone();
        files.insert("config.json", b"{\"b\": 2}".to_vec());
        self.commits.insert(NEXT_COMMIT, files);
        self.main = NEXT_COMMIT;
        self
    }

    pub(crate) fn start(self) -> Server {
        Server::start(move |request| self.answer(request))
    }

    /// As the hub answers.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let not_found = |code: &str| Reply::status(404).with("X-Error-Code", code);
        let Some((revision, name)) =
            request.path.strip_prefix(&format!("/{MODEL}/resolve/")).and_then(|rest| rest.split_once('/'))
        else {
            return Reply::status(401).with("X-Error-Code", "RepoNotFound");
        };
        let commit = if matches!(revision, "main" | "refs%2Fpr%2F1") { self.main } else { revision };
        let Some((commit, files)) = self.commits.get_key_value(commit) else {
            return not_found("RevisionNotFound");
        };
        let Some(content) = files.get(name) else {
            return not_found("EntryNotFound").with("X-Repo-Commit", *commit);
        };
        let reply = match &self.store {
            Some(store) if name == WEIGHTS => Reply::redirect(format!("{store}/{commit}/{name}"))
                .with("X-Linked-Etag", format!("\"{}\"", sha256(content)))
                .with("X-Linked-Size", content.len().to_string())
                .with("ETag", "\"other\""),
            _ if name == WEIGHTS => part(content, request).with("ETag", format!("\"{}\"", sha256(content))),
            _ => part(content, request).with("ETag", format!("\"{}\"", git_sha1(content))),
        };
        reply.with("X-Repo-Commit", *commit)
    }
}

pub(crate) fn weights() -> Vec<u8> {
    (0..50_000_u32).map(|i| (i * 7 % 251) as u8).collect()
}

/// A file, or the part of it that is asked for.
pub(crate) fn part(content: &[u8], request: &Request) -> Reply {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let first: usize = range.map_or(0, |(first, _)| first.parse().unwrap());
    let mut reply = Reply::status(if range.is_some() { 206 } else { 200 });
    reply.body = content[first..].to_vec();
    if range.is_some() {
        let (last, length) = (content.len() - 1, content.len());
        reply = reply.with("Content-Range", format!("bytes {first}-{last}/{length}"));
    }
    reply
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex(Sha256::digest(content))
}

pub(crate) fn git_sha1(content: &[u8]) -> String {
    let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex(hasher.finalize())
}
