//! What `aff predict` says about a photo and at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autofocusformer::Timings;
use serde_json::json;

use super::pipeline::Found;
use crate::sources::Source;

/// Classes that a line names.
const MOST_CLASSES: usize = 12;

/// Time that went into each part of the work.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) load: Duration,
    pub(super) decode: Duration,
    pub(super) network: Timings,
    pub(super) write: Duration,
}

/// The line about a photo: JSON for programs, or words.
pub(super) fn line(source: &Source, found: &Found, files: &[PathBuf], as_json: bool) -> String {
    if !as_json {
        return format!("{}: {}", source.shown(), in_words(found));
    }
    let size = found.size();
    let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
    let mut line = json!({
        "source": source.path.to_string_lossy(),
        "width": size.width,
        "height": size.height,
        "files": files,
    });
    match found {
        Found::Segments(segmentation) => {
            line["task"] = json!(segmentation.task());
            line["segments"] = json!(segmentation.segments());
        }
        Found::Boxes(detections) => {
            line["task"] = json!("detection");
            line["objects"] = json!(detections.objects());
        }
    }
    line.to_string()
}

/// The line of JSON about a photo that was skipped.
pub(super) fn failure(source: &Source, error: &str) -> String {
    json!({"source": source.path.to_string_lossy(), "error": error}).to_string()
}

fn in_words(found: &Found) -> String {
    let size = found.size();
    let labels = found.labels();
    let noun = match found {
        Found::Segments(_) => "segment",
        Found::Boxes(_) => "object",
    };
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for &label in &labels {
        *classes.entry(label).or_default() += 1;
    }
    let name = |(label, count): (&&str, &usize)| match count {
        1 => (*label).to_owned(),
        count => format!("{count} {label}"),
    };
    let shown: Vec<String> = classes.iter().take(MOST_CLASSES).map(name).collect();
    let more = if classes.len() > shown.len() { ", ..." } else { "" };
    format!(
        "{} x {} pixels, {} {noun}{}: {}{more}",
        size.width,
        size.height,
        labels.len(),
        plural(labels.len()),
        shown.join(", ")
    )
}

pub(super) fn summary(photos: usize, folder: &Path, times: &Times) -> String {
    let Times { load, decode, network, write } = times;
    format!(
        "{photos} photo{} into {}; load {load:.2?}, decode {decode:.2?}, resize {:.2?}, backbone {:.2?}, decoder {:.2?}, \
         post-process {:.2?}, write {write:.2?}",
        plural(photos),
        folder.display(),
        network.preprocess,
        network.backbone,
        network.decoder,
        network.post_process,
    )
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
