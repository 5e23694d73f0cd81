//! What the command must not do: replace what it reads, read without end, panic where nobody listens.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::{
    aff, data, failure, fixture, models, names, photo, process, read_json, recipe, stderr, stdout,
    write_picture,
};

/// Every file in a folder with its content.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = names(folder).into_iter().map(|name| folder.join(name)).filter(|path| path.is_file());
    files.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn a_photo_that_is_named_like_a_result_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    for clash in ["street.overlay.png", "street.map.png", "STREET.Overlay.PNG"] {
        let photos = folder.path().join(clash);
        std::fs::create_dir(&photos).unwrap();
        write_picture(photos.join("street.png"));
        write_picture(photos.join(clash));
        // One more, before the others in the alphabet: nothing is computed before all is checked.
        write_picture(photos.join("a.png"));
        let before = contents(&photos);
        let mut command = aff();
        // The model is not even looked for.
        command.current_dir(&photos).args(["predict", ".", "-o", ".", "--model", "no/such/model"]);
        let error = failure(&mut command);
        assert!(error.contains("would overwrite") && error.contains(clash), "{error}");
        assert!(contents(&photos) == before, "{clash}");
    }
}

#[test]
#[cfg(unix)]
fn a_photo_is_not_replaced_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, linked) = (folder.path().join("photos"), folder.path().join("linked"));
    std::fs::create_dir(&photos).unwrap();
    write_picture(photos.join("street.png"));
    write_picture(photos.join("street.map.png"));
    let before = contents(&photos);
    // The folder of the results is that of the photos by another name.
    std::os::unix::fs::symlink(&photos, &linked).unwrap();
    assert!(failure(aff().arg("predict").arg(&photos).arg("-o").arg(&linked)).contains("would overwrite"));
    // The result is the photo by another name.
    let output = folder.path().join("output");
    std::fs::create_dir(&output).unwrap();
    std::fs::hard_link(photos.join("street.png"), output.join("street.overlay.png")).unwrap();
    let error = failure(aff().arg("predict").arg(photos.join("street.png")).arg("-o").arg(&output));
    assert!(error.contains("would overwrite"), "{error}");
    assert!(contents(&photos) == before);
}

#[test]
fn a_model_is_not_replaced_by_its_own_results() {
    let (folder, segmenter, _) = models();
    let before = contents(&segmenter);
    for (command, output) in
        [("features", "model.safetensors"), ("features", "config.json"), ("tokens", "model.safetensors")]
    {
        let mut aff = aff();
        aff.arg(command).arg(photo()).arg("--model").arg(&segmenter).arg("-o").arg(segmenter.join(output));
        assert!(failure(&mut aff).contains("would overwrite"), "{command}");
    }
    let config = folder.path().join("config.png");
    write_picture(&config);
    let mut command = aff();
    command.arg("predict").arg(&config).arg("--model").arg(&segmenter).arg("-o").arg(&segmenter);
    assert!(failure(command.arg("--save-json")).contains("config.json"));
    assert!(contents(&segmenter) == before);
    // The source itself.
    let mut command = aff();
    command.arg("features").arg(&config).arg("--model").arg(&segmenter).arg("-o").arg(&config);
    assert!(failure(&mut command).contains("would overwrite"));
}

#[test]
#[cfg(unix)]
fn results_keep_links_and_rights() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let (folder, segmenter, _) = models();
    let path = |name: &str| folder.path().join(name);
    let features = |output: &Path| {
        let mut command = aff();
        command.arg("features").arg(photo()).arg("--model").arg(&segmenter).arg("-o").arg(output);
        command.assert().success();
    };
    std::fs::write(path("target"), "old").unwrap();
    std::fs::set_permissions(path("target"), std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("target", path("link")).unwrap();
    features(&path("link"));
    assert!(path("link").symlink_metadata().unwrap().is_symlink(), "the link stays");
    assert!(std::fs::metadata(path("target")).unwrap().len() > 1000, "what it leads to is written");
    let mode = std::fs::metadata(path("target")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    symlink("/dev/null", path("nothing")).unwrap();
    features(&path("nothing"));
    assert!(path("nothing").symlink_metadata().unwrap().is_symlink(), "a device stays where it is");
}

/// Devices that never end, and pipes that nobody writes into.
#[test]
#[cfg(unix)]
fn endless_input_is_an_error_at_once() {
    let (folder, _, classifier) = models();
    let output = folder.path().join("output");
    let zeros = || std::process::Stdio::from(std::fs::File::open("/dev/zero").unwrap());
    let mut predict = process();
    let run = predict.args(["predict", "-", "-o"]).arg(&output).stdin(zeros()).output().unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.code() == Some(1) && error.contains("standard input"), "{error}");

    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for endless in [Path::new("/dev/zero"), &pipe] {
        let shown = endless.to_str().unwrap();
        let with = |arguments: &[&str]| {
            let mut command = aff();
            command.args(arguments).arg(endless);
            command
        };
        for mut command in [
            with(&["train", "--config"]),
            with(&["convert", "-o", output.to_str().unwrap()]),
            with(&["predict", "-o", output.to_str().unwrap()]),
            with(&["tokens", "-o", output.join("tokens.png").to_str().unwrap()]),
            with(&["features", "-o", output.join("features").to_str().unwrap()]),
            with(&["classify", "--model", classifier.to_str().unwrap()]),
        ] {
            let error = failure(&mut command);
            assert!(error.contains(shown), "{error}");
        }
        let mut convert = aff();
        convert.arg("convert").arg(fixture("segment-nano/model_final.pth")).arg("-o").arg(&output);
        assert!(failure(convert.arg("--config").arg(endless)).contains(shown));
    }
}

/// Nesting that would take a stack frame a level.
#[test]
fn deep_input_is_an_error() {
    let (folder, segmenter, _) = models();
    let deep = folder.path().join("deep.yaml");
    std::fs::write(&deep, "[".repeat(500_000)).unwrap();
    failure(aff().args(["train", "--config"]).arg(&deep));
    let mut convert = aff();
    convert
        .arg("convert")
        .arg(fixture("segment-nano/model_final.pth"))
        .arg("-o")
        .arg(folder.path().join("o"));
    failure(convert.arg("--config").arg(&deep));
    for file in ["config.json", "preprocessor_config.json"] {
        let text = std::fs::read(segmenter.join(file)).unwrap();
        std::fs::write(segmenter.join(file), "[".repeat(500_000)).unwrap();
        let error = failure(aff().arg("info").arg(&segmenter));
        assert!(error.contains(file), "{error}");
        std::fs::write(segmenter.join(file), text).unwrap();
    }
}

/// Runs a command whose standard output nobody reads beyond the first line (or at all).
#[cfg(unix)]
fn with_closed_output(command: &mut std::process::Command, first_line: bool) -> (Option<i32>, String) {
    use std::io::{BufRead, BufReader};

    let (reader, writer) = std::io::pipe().unwrap();
    let run = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The command must have the only other end.
    command.stdout(std::process::Stdio::null());
    if first_line {
        let mut line = String::new();
        BufReader::new(&reader).read_line(&mut line).unwrap();
        assert!(line.starts_with('{'), "{line}");
    }
    drop(reader);
    let output = run.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
#[cfg(unix)]
fn a_closed_pipe_ends_a_command_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for index in 0..40 {
        write_picture(photos.join(format!("{index:02}.png")));
    }
    let output = folder.path().join("output");
    let mut predict = process();
    predict.arg("predict").arg(&photos).arg("-o").arg(&output).args(["--size", "64", "--json"]);
    assert_eq!(with_closed_output(&mut predict, true), (Some(0), String::new()));
    assert!(names(&output).len() < 2 * 40, "it goes on for nobody");
    for arguments in [vec!["info"], vec!["completions", "bash"], vec!["predict", "--help"]] {
        assert_eq!(with_closed_output(process().args(&arguments), false), (Some(0), String::new()));
    }
    // Without --json the lines are no result: the pictures are.
    let mut predict = process();
    predict.arg("predict").arg(&photos).arg("-o").arg(&output).args(["--size", "64"]);
    assert_eq!(with_closed_output(&mut predict, false), (Some(0), String::new()));
    assert_eq!(names(&output).len(), 2 * 40);
}

#[test]
#[cfg(unix)]
fn a_closed_log_does_not_end_a_training() {
    let data = data();
    let run = data.path().join("run");
    let mut train = process();
    train.arg("train").arg("--config").arg(recipe(&data, 6)).arg("--data").arg(data.path());
    let (code, error) = with_closed_output(train.arg("-o").arg(&run), false);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(run.join("last/model.safetensors").is_file());
}

#[test]
#[cfg(unix)]
fn errors_that_nobody_reads_are_no_panics() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = process();
    command.args(["predict", "no.jpg"]).env("RUST_LOG", "trace").stderr(writer);
    let mut run = command.spawn().unwrap();
    drop((reader, command));
    assert_eq!(run.wait().unwrap().code(), Some(1));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = process().arg("info").stdout(full()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("cannot write to standard output"), "{error}");
}

#[test]
#[cfg(unix)]
fn what_killed_runs_left_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    std::fs::create_dir(&output).unwrap();
    // Named as the command names what it is writing; no process holds it.
    std::fs::write(output.join(".aff-0123456789ab.part"), "half a picture").unwrap();
    std::fs::write(output.join(".aff-notes"), "mine").unwrap();
    aff().arg("predict").arg(photo()).arg("-o").arg(&output).args(["--size", "32"]).assert().success();
    let hidden: Vec<_> =
        names(&output).into_iter().filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert_eq!(hidden, [".aff-notes"]);
}

#[test]
fn photos_of_too_many_pixels_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small.png");
    write_picture(&small);
    let run = |command: &str, limit: &str| {
        let mut aff = aff();
        aff.arg(command).arg(&small).args(["--max-pixels", limit, "-o"]).arg(folder.path().join("o.png"));
        aff
    };
    for command in ["tokens", "features"] {
        let error = failure(&mut run(command, "1199"));
        assert!(
            error.contains("exceeds the limit of 1199 pixels") && error.contains("--max-pixels"),
            "{error}"
        );
        run(command, "1200").assert().success();
    }
    let output = aff()
        .args(["predict", "-", "--max-pixels", "9", "-o"])
        .arg(folder.path().join("out"))
        .write_stdin(std::fs::read(&small).unwrap())
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("limit of 9 pixels"));
}

#[test]
fn a_rerun_leaves_nothing_that_contradicts_it() {
    let (folder, segmenter, _) = models();
    let output = folder.path().join("output");
    let run = |task: &str| {
        let mut command = aff();
        command.arg("predict").arg(photo()).arg("--model").arg(&segmenter).arg("-o").arg(&output);
        stdout(command.args(["--task", task, "--save-json"]));
        assert_eq!(read_json(&output.join("tower.json"))["task"], task);
        output.join("tower.map.png").exists()
    };
    assert!(run("semantic"));
    assert!(!run("instance"), "a map of classes beside instances");
    assert!(run("panoptic"));
}

#[test]
fn names_of_commands_that_fail_are_in_no_message_twice() {
    for arguments in
        [vec!["predict", "no.jpg"], vec!["train", "--config", "no.yaml"], vec!["info", "no/folder/at/all"]]
    {
        let error = stderr(aff().args(&arguments), 1);
        let name = arguments.last().unwrap();
        assert_eq!(error.matches(name).count(), 1, "{error}");
        assert!(
            error.matches("o such file").count() + error.matches("o such folder").count() == 1,
            "{error}"
        );
    }
}
