//! `aff train` and `aff eval` as a user types them.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use autofocusformer::vision::LabelMap;
use common::{aff, data, process, recipe, root};
use serde_json::Value;
use tempfile::TempDir;

fn train(data: &TempDir, recipe: &Path, output: &Path) -> Process {
    let mut command = process();
    command.arg("train").arg("--config").arg(recipe).arg("--data").arg(data.path());
    command.arg("--output").arg(output).arg("--quiet").stdout(Stdio::null());
    command
}

fn metrics(output: &Path) -> String {
    std::fs::read_to_string(output.join("metrics.jsonl")).unwrap_or_default()
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_one_that_was_not() {
    let data = data();
    let recipe = recipe(&data, 40);
    let (whole, killed) = (data.path().join("whole"), data.path().join("killed"));
    assert!(train(&data, &recipe, &whole).status().unwrap().success());

    let mut kills = 0;
    for lines in [3, 12, 25] {
        let mut run = train(&data, &recipe, &killed).spawn().unwrap();
        let start = Instant::now();
        while metrics(&killed).lines().count() < lines && run.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(120), "the run does not get on");
            std::thread::sleep(Duration::from_millis(1));
        }
        kills += usize::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        run.wait().unwrap();
    }
    assert!(kills > 0, "a run was killed before its end");
    assert!(train(&data, &recipe, &killed).status().unwrap().success());
    assert_eq!(metrics(&killed), metrics(&whole));
    for file in ["best/model.safetensors", "last/model.safetensors"] {
        assert!(
            std::fs::read(killed.join(file)).unwrap() == std::fs::read(whole.join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn evaluation_is_what_the_written_maps_say() {
    let data = data();
    let run = data.path().join("run");
    assert!(train(&data, &recipe(&data, 12), &run).status().unwrap().success());
    let (model, report) = (run.join("best"), data.path().join("report.json"));
    let mut command = aff();
    command.arg("eval").arg("--model").arg(&model).arg("--data").arg(data.path()).args(["--split", "val"]);
    let table = command.arg("--output").arg(&report).assert().success().get_output().stdout.clone();
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("mean IoU") && table.contains("pedestrian"), "{table}");

    let maps = data.path().join("maps");
    aff()
        .arg("predict")
        .arg(data.path().join("val"))
        .arg("--model")
        .arg(&model)
        .arg("-o")
        .arg(&maps)
        .assert()
        .success();
    let mut pixels = Vec::new();
    for index in 0..2 {
        let truth = LabelMap::read(data.path().join(format!("valannot/{index}.png"))).unwrap();
        let found = LabelMap::read(maps.join(format!("{index}.map.png"))).unwrap();
        pixels.extend(truth.labels().iter().copied().zip(found.labels().iter().copied()));
    }
    let ious: Vec<f64> = (0..11)
        .filter_map(|class| {
            let both = pixels.iter().filter(|(t, f)| *t == class && *f == class).count();
            let either = pixels.iter().filter(|(t, f)| *t == class || *f == class).count();
            (either > 0).then(|| both as f64 / either as f64)
        })
        .collect();
    let mean = ious.iter().sum::<f64>() / ious.len() as f64;
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert!((report["mean_iou"].as_f64().unwrap() - mean).abs() < 1e-9, "{report} {mean}");
    assert_eq!(report["images"], 2);
}

#[test]
fn mistakes_are_named() {
    let data = data();
    let failure = |command: &mut assert_cmd::Command| {
        let error = String::from_utf8(command.assert().code(1).get_output().stderr.clone()).unwrap();
        assert!(error.starts_with("error: ") && !error.contains("panicked"), "{error}");
        error
    };
    let recipe = recipe(&data, 1);
    let text = std::fs::read_to_string(&recipe).unwrap();
    std::fs::write(&recipe, text + "colour: red\n").unwrap();
    let error = failure(aff().arg("train").arg("--config").arg(&recipe));
    assert!(error.contains("recipe.yaml: ") && error.contains("unknown field `colour`"), "{error}");
    assert!(failure(aff().args(["train", "--config", "no.yaml"])).contains("\"no.yaml\": cannot read it"));
    let mut command = aff();
    command.arg("eval").arg("--data").arg(data.path()).args(["--split", "test"]);
    assert!(failure(&mut command).contains("there is no such folder"));
    let mut command = aff();
    command.arg("eval").arg("--data").arg(data.path()).args([
        "--split",
        "val",
        "--model",
        "random:aff-mini-ade20k-semantic",
    ]);
    let error = failure(&mut command);
    assert!(
        error.contains("it has 150 classes: wall, ") && error.contains("the data set has 11: sky, "),
        "{error}"
    );
}

#[test]
fn without_a_recipe_settings_are_chosen_said_and_written() {
    let data = data();
    let run = data.path().join("run");
    let mut command = aff();
    command.arg("train").arg("--data").arg(data.path()).arg("--output").arg(&run).args(["--steps", "1"]);
    let text = common::stdout(&mut command);
    for words in [
        "chosen for semantic:",
        "3 images of 11 classes",
        "by the 2 images of `val`",
        "; 1 updates",
        "best mean iou",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let recipe = aff_train::Recipe::read(run.join("recipe.yaml")).unwrap();
    assert_eq!((recipe.run.steps, recipe.run.output.as_path()), (1, run.as_path()));
    // What was written is the run: with it, the run goes on, here from its end.
    let mut command = aff();
    command.arg("train").arg("--config").arg(run.join("recipe.yaml")).assert().success();
    assert_eq!(metrics(&run).lines().filter(|line| line.contains("\"loss\"")).count(), 1);

    // Further from there, for other classes and without a split to choose by.
    let other = tempfile::tempdir().unwrap();
    for name in ["train", "trainannot"] {
        std::fs::rename(data.path().join(name), other.path().join(name)).unwrap();
    }
    std::fs::write(other.path().join("classes.txt"), "0 sky\n3 road\n").unwrap();
    let further = other.path().join("further");
    let mut command = aff();
    command.arg("train").arg("--data").arg(other.path()).args(["--task", "semantic", "--steps", "1"]);
    command.arg("--model").arg(run.join("last")).arg("--output").arg(&further);
    let text = common::stdout(&mut command);
    assert!(text.contains("begins with the weights of") && text.contains("no split `val`"), "{text}");
    let config = common::read_json(&further.join("last/config.json"));
    assert_eq!(config["id2label"], serde_json::json!({"0": "sky", "1": "road"}));

    let mut command = aff();
    command.arg("train").arg("--data").arg(other.path()).args(["--model", "aff-giant"]);
    assert!(common::failure(&mut command).contains("neither a model folder nor one of the models aff-mini"));
    let mut command = aff();
    command.args(["train", "--config", "a.yaml", "--task", "instance"]);
    assert!(common::refusal(&mut command).contains("cannot be used with"));
    assert!(common::refusal(aff().arg("train")).contains("--config"));
}

/// The recipes of the repository are recipes.
#[test]
fn every_recipe_can_be_read() {
    let mut count = 0;
    let folders =
        ["recipes", "recipes/ablation"].map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
    for path in folders.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        let recipe = aff_train::Recipe::read(&path).unwrap();
        let names = aff_train::data::CAMVID_CLASSES;
        let categories: Vec<_> =
            (0..).zip(names).map(|(id, name)| aff_train::data::Category::stuff(id, name)).collect();
        recipe.model_config(&categories).unwrap();
        count += 1;
    }
    assert!(count >= 5);
}
