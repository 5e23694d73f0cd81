//! The hub's client against servers on the loopback address: one that speaks the hub's protocol, and hostile ones.
// Caches are compared link by link.
#![cfg(all(feature = "hub", unix))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod cache;
mod damage;
mod hostile;
mod outages;
mod redirects;
mod server;

use std::path::Path;
use std::time::Duration;

use aff_weights::{DownloadObserver, Hub, Network, Patience};
use server::Server;

/// A hub for a server, with an empty environment and short pauses.
fn hub(server: &Server, cache: &Path) -> Hub {
    let mut hub = Hub::from_env();
    hub.cache = cache.to_owned();
    hub.endpoint = server.address();
    hub.token = None;
    hub.network = Network::Online;
    hub.links = aff_weights::Links::Symbolic;
    hub.patience = Patience::default();
    hub.patience.connect = Duration::from_secs(2);
    hub.patience.response = Duration::from_secs(3);
    hub.patience.stall = Duration::from_secs(3);
    hub.patience.tries = 3;
    hub.patience.first_pause = Duration::from_millis(5);
    hub.patience.longest_pause = Duration::from_secs(2);
    hub
}

/// With little patience, for servers that hang.
fn hasty(mut hub: Hub) -> Hub {
    hub.patience.response = Duration::from_millis(400);
    hub.patience.stall = Duration::from_millis(400);
    hub
}

fn offline(mut hub: Hub) -> Hub {
    hub.network = Network::Offline;
    hub
}

/// Writes down what it is told.
#[derive(Default)]
struct Notebook {
    started: Vec<(String, u64)>,
    last: u64,
    finished: Vec<String>,
    waited: usize,
    pauses: Vec<Duration>,
}

impl DownloadObserver for Notebook {
    fn started(&mut self, file: &str, done: u64, _size: u64) {
        self.started.push((file.to_owned(), done));
    }

    fn advanced(&mut self, _file: &str, done: u64) {
        self.last = done;
    }

    fn finished(&mut self, file: &str) {
        self.finished.push(file.to_owned());
    }

    fn waiting(&mut self, _file: &str) {
        self.waited += 1;
    }

    fn retrying(&mut self, _file: &str, _problem: &str, pause: Duration) {
        self.pauses.push(pause);
    }
}
