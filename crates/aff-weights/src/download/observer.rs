//! Who watches a download.

use std::time::Duration;

/// Told how the download of each file goes on. All methods do nothing unless implemented.
pub trait DownloadObserver {
    /// A file of `size` bytes is being downloaded; `done` bytes are here from an earlier, interrupted download.
    fn started(&mut self, file: &str, done: u64, size: u64) {
        let _ = (file, done, size);
    }

    /// Now `done` bytes of the file are here.
    fn advanced(&mut self, file: &str, done: u64) {
        let _ = (file, done);
    }

    /// The file is here and whole.
    fn finished(&mut self, file: &str) {
        let _ = file;
    }

    /// Another process downloads this file; its end is waited for.
    fn waiting(&mut self, file: &str) {
        let _ = file;
    }

    /// A request failed, and is made again after a pause.
    fn retrying(&mut self, file: &str, problem: &str, pause: Duration) {
        let _ = (file, problem, pause);
    }
}

/// Tells nobody.
impl DownloadObserver for () {}
