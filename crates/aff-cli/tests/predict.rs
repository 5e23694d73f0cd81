//! `aff predict` as a user types it, with the model that is part of the program.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use assert_cmd::Command;
use autofocusformer::vision;
use common::{aff, names, photo, picture, read_json, refusal, root, stderr, stdout, write_picture};
use serde_json::Value;

/// `aff predict` for a small network input, so that the tests are quick.
fn predict(output: &Path) -> Command {
    let mut command = aff();
    command.arg("predict").arg("--output").arg(output).args(["--size", "96"]);
    command
}

#[test]
fn a_photo_is_all_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    // Far from the repository, with no home and no network to ask.
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("aff"));
    command.env_clear().current_dir(folder.path()).arg("predict").arg(photo().canonicalize().unwrap());
    let text = stdout(&mut command);
    assert!(text.contains("640 x 427 pixels") && text.contains("1 photo into output"), "{text}");
    for part in ["load", "decode", "backbone", "decoder", "post-process", "write"] {
        assert!(text.contains(part), "{text}");
    }
    let expected: BTreeSet<OsString> = ["tower.map.png", "tower.overlay.png"].map(OsString::from).into();
    assert_eq!(names(&folder.path().join("output")), expected);
    let map = vision::LabelMap::read(folder.path().join("output/tower.map.png")).unwrap();
    assert!(map.labels().iter().all(|&label| label < 11));
}

#[test]
fn every_kind_of_file_in_a_folder_is_used_or_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, output) = (folder.path().join("photos"), folder.path().join("output"));
    std::fs::create_dir(&photos).unwrap();
    let data = root().join("crates/aff-vision/tests/data");
    let mut good = BTreeSet::new();
    for (from, to) in [
        (photo(), "good.jpg"),
        (data.join("grey16.png"), "deep.png"),
        (data.join("rotated.jpg"), "rotated.jpg"),
        (data.join("animated.webp"), "animated.webp"),
    ] {
        std::fs::copy(&from, photos.join(to)).unwrap();
        good.insert(Path::new(to).file_stem().unwrap().to_owned());
    }
    vision::write_png(photos.join("single.png"), &vision::RgbImage::new(1, 1)).unwrap();
    good.insert("single".into());
    let bytes = std::fs::read(photo()).unwrap();
    std::fs::write(photos.join("bad-truncated.jpg"), &bytes[..bytes.len() / 2]).unwrap();
    let mut corrupt = bytes;
    corrupt[4000..9000].fill(0xFF);
    std::fs::write(photos.join("bad-corrupt.jpg"), corrupt).unwrap();
    std::fs::write(photos.join("bad-text.png"), "not a picture").unwrap();
    std::fs::write(photos.join("bad-empty.bmp"), "").unwrap();
    // A PNG header that promises 2^31 - 1 pixels each way.
    let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0".to_vec();
    huge.extend([0; 64]);
    std::fs::write(photos.join("bad-huge.png"), huge).unwrap();
    std::fs::write(photos.join("notes.txt"), "no photo at all").unwrap();

    let error = stderr(predict(&output).arg(&photos), 3);
    assert!(error.ends_with("error: 5 of 10 photos were skipped\n"), "{error}");
    for name in ["truncated", "corrupt", "text", "empty", "huge"] {
        assert!(error.contains(&format!("bad-{name}.")), "{name}: {error}");
    }
    let written: BTreeSet<OsString> = names(&output)
        .iter()
        .filter_map(|name| Some(OsString::from(name.to_str()?.strip_suffix(".overlay.png")?)))
        .collect();
    assert_eq!(written, good);
    assert_eq!(names(&output).len(), 2 * good.len());
    // The orientation in the file is applied: what comes out is as one sees it.
    let upright = vision::open(data.join("rotated.jpg")).unwrap();
    let overlay = vision::open(output.join("rotated.overlay.png")).unwrap();
    assert_eq!(overlay.dimensions(), upright.dimensions());
}

#[test]
#[cfg(unix)]
fn any_file_name_works() {
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let stems: [&[u8]; 6] =
        [b"with space", b"quote'd \"twice\"", b"two\nlines", b"\xFF\xFEraw", b"-dash", "grün".as_bytes()];
    let mut command = predict(&output);
    command.arg("--save-json").arg("--");
    for stem in stems {
        let path = folder.path().join(OsStr::from_bytes(&[stem, b".png"].concat()));
        vision::write_png(&path, &vision::RgbImage::new(12, 8)).unwrap();
        command.arg(path);
    }
    let text = stdout(&mut command);
    assert!(text.contains("two\\nlines"), "a name stays on its line: {text}");
    let expected: BTreeSet<OsString> = stems
        .iter()
        .flat_map(|stem| [&b".overlay.png"[..], b".map.png", b".json"].map(|end| [stem, end].concat()))
        .map(|name| OsStr::from_bytes(&name).to_owned())
        .collect();
    assert_eq!(names(&output), expected);
}

#[test]
fn batches_have_the_results_of_single_photos() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (name, width) in [("a", 64), ("b", 64), ("c", 48), ("d", 64)] {
        let path = folder.path().join(format!("{name}.png"));
        let mut image = picture(width, 48);
        image.put_pixel(0, 0, vision::Rgb([name.as_bytes()[0]; 3]));
        vision::write_png(&path, &image).unwrap();
        files.push(path);
    }
    // One that cannot be read, amid a batch.
    std::fs::write(folder.path().join("broken.png"), "no").unwrap();
    files.insert(2, folder.path().join("broken.png"));
    let run = |batch: &str| {
        let output = folder.path().join(batch);
        stderr(predict(&output).args(["--batch", batch, "--save-json"]).args(&files), 3);
        names(&output)
            .into_iter()
            .map(|name| (name.clone(), std::fs::read(output.join(name)).unwrap()))
            .collect::<Vec<_>>()
    };
    let single = run("1");
    assert_eq!(single.len(), 12);
    assert!(single == run("3"));
}

#[test]
fn json_lines_are_for_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.png"), "no picture").unwrap();
    let mut command = predict(&folder.path().join("out"));
    command.arg("--json").arg(photo()).arg(folder.path().join("bad.png"));
    let output = command.assert().code(3).get_output().stdout.clone();
    let lines: Vec<Value> =
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["width"], &lines[0]["task"]), (&Value::from(640), &Value::from("semantic")));
    assert!(
        lines[0]["files"].as_array().unwrap().iter().all(|file| Path::new(file.as_str().unwrap()).is_file())
    );
    assert!(!lines[0]["segments"].as_array().unwrap().is_empty());
    assert!(lines[1]["error"].as_str().unwrap().contains("is not an image"), "{}", lines[1]);
}

#[test]
fn classes_are_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let output = folder.path().join(name);
        stdout(predict(&output).arg("--save-json").args(arguments).arg(photo()));
        let json = read_json(&output.join("tower.json"));
        let labels: BTreeSet<String> = json["segments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|segment| segment["label"].as_str().unwrap().to_owned())
            .collect();
        (labels, vision::LabelMap::read(output.join("tower.map.png")).unwrap())
    };
    let (all, map) = run("all", &[]);
    let chosen = all.first().unwrap().clone();
    let (one, some) = run("one", &["--classes", &chosen]);
    assert!(all.len() > 1, "{all:?}");
    assert_eq!(one, BTreeSet::from([chosen]));
    let mut void = 0;
    for (&before, &after) in map.labels().iter().zip(some.labels()) {
        assert!(after == before || after == 255);
        void += usize::from(after == 255);
    }
    assert!(0 < void && void < map.labels().len());
    let output = folder.path().join("panoptic");
    let mut command = predict(&output);
    command.args([
        "--task",
        "panoptic",
        "--threshold",
        "0",
        "--overlap-threshold",
        "0",
        "--classes",
        "sky,road",
    ]);
    stdout(command.arg("--save-json").arg(photo()));
    let json: Value = serde_json::from_slice(&std::fs::read(output.join("tower.json")).unwrap()).unwrap();
    let labels =
        json["segments"].as_array().unwrap().iter().map(|segment| segment["label"].as_str().unwrap());
    assert!(labels.clone().count() > 0 && labels.clone().all(|label| ["sky", "road"].contains(&label)));

    let (two, _) = run("two", &["--classes", "Building , sky"]);
    assert!(two.iter().all(|label| ["building", "sky"].contains(&label.as_str())), "{two:?}");
    let error = stderr(predict(&folder.path().join("none")).args(["--classes", "car, cow"]).arg(photo()), 1);
    assert!(error.contains("the model has no class \"cow\"; it knows sky, building"), "{error}");
}

#[test]
fn other_precisions_agree() {
    let folder = tempfile::tempdir().unwrap();
    let map = |dtype: &str| {
        let output = folder.path().join(dtype);
        stdout(predict(&output).args(["--dtype", dtype]).arg(photo()));
        vision::LabelMap::read(output.join("tower.map.png")).unwrap()
    };
    let reference = map("f64");
    for (dtype, least) in [("f32", 0.999), ("f16", 0.95)] {
        let found = map(dtype);
        let same = reference.labels().iter().zip(found.labels()).filter(|(a, b)| a == b).count();
        let share = same as f64 / found.labels().len() as f64;
        assert!(share > least, "{dtype}: {share}");
    }
}

#[test]
fn wrong_arguments_are_errors_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let run = |arguments: &[&str], code| stderr(predict(&output).arg(photo()).args(arguments), code);
    assert!(run(&["--size", "0"], 2).contains("cannot be used multiple times"));
    let mut command = aff();
    let error = refusal(command.arg("predict").arg(photo()).args(["--size", "0"]).arg("-o").arg(&output));
    assert!(error.contains("invalid value '0' for '--size <PIXELS>': 0 is not in 8..=8192"), "{error}");
    assert!(run(&["--batch", "0"], 2).contains("--batch"));
    assert!(run(&["--dtype", "f8"], 2).contains("possible values: f16, f32, f64"));
    assert!(run(&["--json", "--quiet"], 2).contains("cannot be used with"));
    assert!(run(&["--revision", "v2"], 2).contains("--model"));
    // A folder that is no folder is found out first, before the model is looked for.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = stderr(predict(&file).arg(photo()).args(["--model", "no/such/model/folder"]), 1);
    assert!(error.contains("cannot make the folder for the results"), "{error}");
}

#[test]
fn folders_below_are_searched_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir_all(photos.join("day/noon")).unwrap();
    std::fs::create_dir_all(photos.join(".thumbnails")).unwrap();
    for name in ["a.png", "day/a.png", "day/noon/b.png", ".thumbnails/c.png"] {
        write_picture(photos.join(name));
    }
    let output = folder.path().join("flat");
    let note = stderr(predict(&output).arg(&photos), 0);
    assert!(note.contains("1 folder in it left out; --recursive searches them"), "{note}");
    assert_eq!(names(&output).len(), 2);
    assert_eq!(stderr(predict(&folder.path().join("quiet")).arg(&photos).arg("--quiet"), 0), "");

    let output = folder.path().join("mirrored");
    assert_eq!(stderr(predict(&output).arg(&photos).arg("--recursive"), 0), "");
    for name in ["a", "day/a", "day/noon/b"] {
        assert!(output.join(format!("{name}.map.png")).is_file(), "{name}");
    }
    assert_eq!(names(&output).len(), 3);
    // Results beside their photos.
    stdout(predict(&photos).arg(&photos).arg("--recursive"));
    assert!(photos.join("day/noon/b.overlay.png").is_file());

    std::fs::remove_file(photos.join("a.png")).unwrap();
    std::fs::remove_file(photos.join("a.map.png")).unwrap();
    std::fs::remove_file(photos.join("a.overlay.png")).unwrap();
    let error = stderr(predict(&output).arg(&photos), 1);
    assert!(error.contains("no photo in this folder") && error.contains("--recursive"), "{error}");
}

#[test]
fn photos_that_differ_in_their_endings_have_results_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for name in ["x.png", "X.PNG.png", "y.png"] {
        write_picture(photos.join(name));
    }
    std::fs::copy(photo(), photos.join("x.jpg")).unwrap();
    let output = folder.path().join("output");
    stdout(predict(&output).arg(&photos));
    let maps: Vec<OsString> =
        names(&output).into_iter().filter(|name| name.to_string_lossy().contains("map")).collect();
    // `x.png.map.png` and `X.PNG.map.png` would be one file on many systems.
    assert_eq!(maps.len(), 4, "{maps:?}");
}

#[test]
fn what_is_computed_is_told_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = predict(folder.path());
    let log = stderr(command.arg(photo()).env("RUST_LOG", "debug").env("NO_COLOR", "1"), 0);
    for part in ["loaded", "aff-pico-camvid", "decoded", "width=640", "backbone", "tokens", "post-process"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

/// What a user reads must change on purpose only: `cargo insta review` shows the differences.
#[test]
fn texts() {
    for (name, arguments) in [
        ("aff", vec!["--help"]),
        ("predict", vec!["predict", "--help"]),
        ("train", vec!["train", "--help"]),
        ("eval", vec!["eval", "--help"]),
        ("convert", vec!["convert", "--help"]),
    ] {
        let mut command = aff();
        insta::assert_snapshot!(format!("help_{name}"), stdout(command.args(arguments)));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut errors = String::new();
    for arguments in [
        vec!["no.jpg"],
        vec!["no*.jpg"],
        vec!["no.jpg", "--model", "no/such/folder"],
        vec!["no.jpg", "--model", "random:aff-huge"],
        vec!["no.jpg", "--device", "cuda:0"],
        vec!["no.jpg", "--threshold", "2", "--task", "panoptic"],
        vec!["no.jpg", "--threshold", "0.5"],
    ] {
        let mut command = aff();
        command.current_dir(folder.path()).arg("predict").args(&arguments);
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        errors +=
            &format!("$ aff predict {}\n{error}[{}]\n\n", arguments.join(" "), output.status.code().unwrap());
    }
    insta::assert_snapshot!("errors", errors);
    let mut command = aff();
    let info = stdout(command.arg("info"));
    assert!(
        info.contains("aff-pico-camvid") && info.contains("1744857") && info.contains("CC BY-NC 4.0"),
        "{info}"
    );
    let mut command = aff();
    let black = folder.path().join("black.png");
    vision::write_png(&black, &vision::RgbImage::new(32, 32)).unwrap();
    command
        .arg("predict")
        .args(["--save-json", "--quiet", "--output"])
        .arg(folder.path().join("out"))
        .arg(black);
    assert_eq!(stdout(&mut command), "");
    let json: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("out/black.json")).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(", ");
    insta::assert_snapshot!(
        "json_keys",
        format!("{}\nsegments: {}", keys(&json), keys(&json["segments"][0]))
    );
}

/// Ctrl-C at any moment: what was written is whole, and nothing else is left.
#[test]
#[cfg(unix)]
fn an_interrupted_run_leaves_whole_files() {
    use std::process::{Command as Process, Stdio};

    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for index in 0..200 {
        std::fs::copy(photo(), photos.join(format!("{index:03}.jpg"))).unwrap();
    }
    for files in [1, 4, 9] {
        let output = folder.path().join(format!("after-{files}"));
        let mut command = common::process();
        command.arg("predict").arg(&photos).arg("-o").arg(&output).args(["--size", "64", "--save-json"]);
        let mut run = command.stdout(Stdio::null()).spawn().unwrap();
        while !output.is_dir() || names(&output).len() < files {
            assert!(run.try_wait().unwrap().is_none(), "it ended before it was interrupted");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Process::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(130));
        for name in names(&output) {
            let path = output.join(&name);
            match path.extension().and_then(OsStr::to_str) {
                Some("png") => assert!(vision::open(&path).is_ok(), "{path:?}"),
                Some("json") => {
                    let text = std::fs::read(&path).unwrap();
                    assert!(serde_json::from_slice::<Value>(&text).is_ok(), "{path:?}");
                }
                _ => panic!("{path:?} was left behind"),
            }
        }
    }
}

#[test]
fn completions_are_scripts_of_their_shell() {
    for (shell, words) in [("bash", "complete -F _aff"), ("zsh", "#compdef aff"), ("fish", "complete -c aff")]
    {
        let mut command = aff();
        let script = stdout(command.args(["completions", shell]));
        assert!(script.contains(words) && script.contains("predict"), "{shell}");
    }
}

#[test]
fn a_detector_gives_boxes_as_coco_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("000042.png");
    vision::write_png(&source, &picture(40, 30)).unwrap();
    let output = folder.path().join("output");
    let detect = || {
        let mut command = aff();
        command.arg("predict").arg(&source).arg("--output").arg(&output).args(["--size", "64"]);
        command.args(["--model", "random:aff-mini-coco-detection"]);
        command
    };
    std::fs::create_dir(&output).unwrap();
    std::fs::write(output.join("000042.map.png"), "of an earlier run").unwrap();
    let mut command = detect();
    command.args(["--task", "detection", "--threshold", "0", "--classes", "person,car", "--save-json"]);
    let line: Value = serde_json::from_str(&stdout(command.arg("--json"))).unwrap();
    assert_eq!((line["task"].as_str(), line["objects"].as_array().unwrap().len()), (Some("detection"), 100));
    let expected: BTreeSet<OsString> = ["000042.json", "000042.overlay.png"].map(OsString::from).into();
    assert_eq!(names(&output), expected);
    assert_eq!(vision::open(output.join("000042.overlay.png")).unwrap().dimensions(), (40, 30));
    let found = read_json(&output.join("000042.json"));
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), 100);
    for object in found {
        assert_eq!(object["image_id"], 42);
        assert!(["person", "car"].contains(&object["category_name"].as_str().unwrap()));
        let bbox: Vec<f64> = object["bbox"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(bbox.iter().all(|&side| side >= 0.0), "{bbox:?}");
        assert!(bbox[0] + bbox[2] <= 40.001 && bbox[1] + bbox[3] <= 30.001, "{bbox:?}");
    }
    // A detector is asked for boxes unless another task is named, which it does not know.
    let text = stdout(detect().args(["--threshold", "1"]));
    assert!(text.contains("40 x 30 pixels, 0 objects"), "{text}");
    let error = stderr(detect().args(["--task", "instance"]), 1);
    assert!(error.contains("the model is a detector, not a segmenter"), "{error}");
    let error = stderr(detect().args(["--mask-threshold", "0.5"]), 1);
    assert!(error.contains("--mask-threshold has no effect on this task"), "{error}");
    let error = stderr(predict(&output).arg(&source).args(["--max-detections", "5"]), 1);
    assert!(error.contains("--max-detections has no effect on this task"), "{error}");
    stdout(detect().args(["--threshold", "0", "--max-detections", "150", "--save-json"]));
    assert_eq!(read_json(&output.join("000042.json")).as_array().unwrap().len(), 150);
    let error = stderr(predict(&output).arg(&source).args(["--task", "detection"]), 1);
    assert!(error.contains("the model is a segmenter, not a detector; give --model"), "{error}");
}
