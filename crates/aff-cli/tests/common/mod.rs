//! What the tests of the command share.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use assert_cmd::Command;
use autofocusformer::vision::{self, ImageSize, LabelMap, Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than any test's command takes, and shorter than for ever.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

pub(crate) fn photo() -> PathBuf {
    root().join("assets/tower.jpg")
}

/// The command with nothing of the tester's environment that changes what it says, and no network.
pub(crate) fn aff() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("aff"));
    command.env_remove("RUST_LOG").env("HF_HUB_OFFLINE", "1").timeout(TIMEOUT);
    command
}

/// As [`aff`], to be started and watched.
pub(crate) fn process() -> Process {
    let mut command = Process::new(assert_cmd::cargo::cargo_bin!("aff"));
    command.env_remove("RUST_LOG").env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
    command
}

/// What a command that must succeed prints.
pub(crate) fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// What a command that must end with `code` says, without panicking.
pub(crate) fn stderr(command: &mut Command, code: i32) -> String {
    let error = String::from_utf8_lossy(&command.assert().code(code).get_output().stderr).into_owned();
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// The error of a command that cannot do what it is asked.
pub(crate) fn failure(command: &mut Command) -> String {
    let error = stderr(command, 1);
    assert!(error.starts_with("error: "), "{error}");
    error
}

/// The error of a command with wrong arguments.
pub(crate) fn refusal(command: &mut Command) -> String {
    let error = stderr(command, 2);
    assert!(error.starts_with("error: "), "{error}");
    error
}

pub(crate) fn names(folder: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A picture with something in it.
pub(crate) fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(4 * x) as u8, (5 * y) as u8, (x * y) as u8]))
}

pub(crate) fn write_picture(path: impl AsRef<Path>) {
    vision::write_png(path, &picture(40, 30)).unwrap();
}

pub(crate) fn convert_segmenter(output: &Path) {
    let mut command = aff();
    command.arg("convert").arg(fixture("segment-nano/model_final.pth")).arg("--output").arg(output);
    command.arg("--config").arg(fixture("segment-nano/model.yaml")).assert().success();
}

pub(crate) fn convert_classifier(output: &Path) {
    let checkpoint = fixture("classify-nano/checkpoint.pth");
    aff().arg("convert").arg(checkpoint).arg("--output").arg(output).assert().success();
}

/// Both nano models in a folder that goes away with the test.
pub(crate) fn models() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (segmenter, classifier) = (folder.path().join("segmenter"), folder.path().join("classifier"));
    convert_segmenter(&segmenter);
    convert_classifier(&classifier);
    (folder, segmenter, classifier)
}

/// Pictures with a road below and sky above, the border at another height in each.
pub(crate) fn data() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 3), ("val", 2)] {
        let (photos, annotations) = (folder.path().join(split), folder.path().join(format!("{split}annot")));
        std::fs::create_dir_all(&photos).unwrap();
        std::fs::create_dir_all(&annotations).unwrap();
        for index in 0..count {
            let class = |y: u32| if y > 10 + 4 * index { 3 } else { 0 };
            let image = RgbImage::from_fn(48, 32, |x, y| {
                if class(y) == 3 { Rgb([90, 90, x as u8]) } else { Rgb([120, 180, 250]) }
            });
            let labels = (0..32).flat_map(|y| vec![class(y); 48]).collect();
            vision::write_png(photos.join(format!("{index}.png")), &image).unwrap();
            let map = LabelMap::new(ImageSize::new(32, 48), labels).unwrap();
            map.write_png(annotations.join(format!("{index}.png"))).unwrap();
        }
    }
    folder
}

pub(crate) fn recipe(data: &TempDir, steps: u32) -> PathBuf {
    let text = std::fs::read_to_string(root().join("crates/aff-train/tests/data/nano.yaml")).unwrap();
    let text = text.replace("steps: 10", &format!("steps: {steps}"));
    let path = data.path().join("recipe.yaml");
    std::fs::write(&path, text).unwrap();
    path
}
