//! Models of the hub, downloaded before they are loaded, with a bar on a terminal.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use autofocusformer::weights::{DownloadObserver, Hub, ModelName};
use indicatif::{ProgressBar, ProgressStyle};

/// Where a model is: the folder in the cache of one that is on the hub, and what was given for any other.
pub(crate) fn local<'a>(model: &'a Path, revision: &str) -> Result<Cow<'a, Path>> {
    match ModelName::of(model) {
        Ok(ModelName::Hub(id)) => {
            let mut progress = Progress { bar: ProgressBar::hidden() };
            let folder = Hub::from_env().fetch_observed(id, revision, &mut progress);
            progress.bar.finish_and_clear();
            Ok(Cow::Owned(folder?))
        }
        // What is wrong with other names, loading them says.
        _ => Ok(Cow::Borrowed(model)),
    }
}

/// A bar for each file.
struct Progress {
    bar: ProgressBar,
}

impl DownloadObserver for Progress {
    fn started(&mut self, file: &str, done: u64, size: u64) {
        let style = ProgressStyle::with_template(
            "{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} (another {eta})",
        );
        self.bar.finish_and_clear();
        self.bar = ProgressBar::new(size).with_position(done).with_message(file.to_owned());
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.reset_eta();
    }

    fn advanced(&mut self, _file: &str, done: u64) {
        self.bar.set_position(done);
    }

    fn finished(&mut self, _file: &str) {
        self.bar.finish_and_clear();
    }

    fn retrying(&mut self, file: &str, _problem: &str, pause: Duration) {
        self.bar.set_message(format!("{file}, again in {} s", pause.as_secs()));
    }
}
