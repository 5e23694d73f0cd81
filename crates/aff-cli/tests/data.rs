//! `aff data check` as a user types it.
#![allow(clippy::unwrap_used)]

mod common;

use autofocusformer::vision::{self, ImageSize, LabelMap};
use common::{aff, data, failure, read_json, stdout};

#[test]
fn what_is_there_is_counted_and_shown() {
    let data = data();
    let work = tempfile::tempdir().unwrap();
    let (sheet, report) = (work.path().join("sheet.png"), work.path().join("report.json"));
    let mut command = aff();
    command
        .args(["data", "check"])
        .arg(data.path())
        .arg("--contact-sheet")
        .arg(&sheet)
        .arg("-o")
        .arg(&report);
    let text = stdout(&mut command);
    assert!(text.contains("train: ") && text.contains("as `camvid` for semantic"), "{text}");
    let report = read_json(&report);
    // 3 pictures of 48 x 32 pixels, the border at rows 11, 15 and 19.
    let road = &report["train"]["classes"][3];
    assert_eq!((road["name"].as_str(), road["pixels"].as_u64()), (Some("road"), Some(48 * (21 + 17 + 13))));
    assert_eq!(
        (report["val"]["images"].as_u64(), report["val"]["problems"].as_array().map(Vec::len)),
        (Some(2), Some(0))
    );
    // Three cells in a row.
    let sheet = vision::open(sheet).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (3 * 244 + 4, 184 + 4));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let data = data();
    let wrong = LabelMap::new(ImageSize::new(32, 48), vec![77; 32 * 48]).unwrap();
    wrong.write_png(data.path().join("trainannot/1.png")).unwrap();
    std::fs::remove_file(data.path().join("trainannot/2.png")).unwrap();
    let mut command = aff();
    command.args(["data", "check", "--split", "train"]).arg(data.path());
    let output = command.assert().code(1).get_output().clone();
    let (text, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("missing files: 1") && text.contains("trainannot/2.png"), "{text}");
    assert!(text.contains("has the label 77; expected 0 to 11"), "{text}");
    assert!(error.contains("train: 1 missing files, 2 images with a problem"), "{error}");
    let mut command = aff();
    command.args(["data", "check"]).arg(data.path()).args(["--task", "panoptic"]);
    assert!(failure(&mut command).contains("has labels for semantic, not for panoptic"));
    let mut command = aff();
    command.args(["data", "check"]).arg(data.path()).args(["--split", "test"]);
    assert!(failure(&mut command).contains("split test: "));
    let mut command = aff();
    command
        .args(["data", "check"])
        .arg(data.path())
        .arg("--contact-sheet")
        .arg(data.path().join("train/0.png"));
    assert!(failure(&mut command).contains("is in the folder of the data"));
}
