//! How a download gets on, as a bar on a terminal.

use std::time::Duration;

use autofocusformer::weights::DownloadObserver;
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::note;

/// A bar for the file that is being downloaded; none where standard error is no terminal.
pub(crate) struct DownloadBar {
    bar: ProgressBar,
}

impl DownloadBar {
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::hidden() }
    }
}

impl DownloadObserver for DownloadBar {
    fn started(&mut self, file: &str, done: u64, size: u64) {
        let style = ProgressStyle::with_template(
            "{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} (another {eta})",
        );
        self.bar.finish_and_clear();
        self.bar = ProgressBar::new(size).with_position(done).with_message(file.to_owned());
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.reset_eta();
    }

    fn advanced(&mut self, _: &str, done: u64) {
        self.bar.set_position(done);
    }

    fn finished(&mut self, _: &str) {
        self.bar.finish_and_clear();
    }

    fn waiting(&mut self, file: &str) {
        note(format_args!("{file}: another process downloads it; waiting for its end"));
    }

    fn retrying(&mut self, file: &str, problem: &str, pause: Duration) {
        self.bar.suspend(|| note(format_args!("{file}: {problem}; again in {pause:.0?}")));
    }
}
