//! Whole runs on a data set of a few small pictures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should panic")]

mod recipes;
mod robust;
mod tasks;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use aff_train::{Observer, Recipe, StepReport, TrainError, Trainer, ValidationReport};
use aff_vision::{ImageSize, LabelMap, Rgb, RgbImage, write_png};
use tempfile::TempDir;

/// Pictures of two classes, road below and sky above, with a car somewhere; their colours tell them apart.
fn write_split(folder: &Path, split: &str, count: u32) {
    let (photos, annotations) = (folder.join(split), folder.join(format!("{split}annot")));
    std::fs::create_dir_all(&photos).unwrap();
    std::fs::create_dir_all(&annotations).unwrap();
    for index in 0..count {
        let class = |x: u32, y: u32| match (x, y) {
            _ if x.abs_diff(10 + 8 * index) < 6 && y.abs_diff(20) < 5 => 8,
            _ if y > 16 => 3,
            _ if x == 0 => 11,
            _ => 0,
        };
        let color = |class: u16, x: u32| match class {
            8 => Rgb([200, (3 * x) as u8, 20]),
            3 => Rgb([90, 90, 90 + (x % 7) as u8]),
            _ => Rgb([120, 180, 250 - (x % 5) as u8]),
        };
        let image = RgbImage::from_fn(48, 32, |x, y| color(class(x, y), x));
        let labels = (0..32).flat_map(|y| (0..48).map(move |x| class(x, y))).collect();
        write_png(photos.join(format!("{index}.png")), &image).unwrap();
        let map = LabelMap::new(ImageSize::new(32, 48), labels).unwrap();
        map.write_png(annotations.join(format!("{index}.png"))).unwrap();
    }
}

fn data() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_split(folder.path(), "train", 4);
    write_split(folder.path(), "val", 2);
    folder
}

/// The nano recipe of these tests, its text changed.
fn recipe(data: &Path, output: &Path, changes: &[(&str, &str)]) -> Result<Recipe, TrainError> {
    let mut text = include_str!("../data/nano.yaml").to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = output.with_extension("yaml");
    std::fs::write(&path, text).unwrap();
    let mut recipe = Recipe::read(&path)?;
    recipe.data.folder = data.to_path_buf();
    recipe.run.output = output.to_path_buf();
    Ok(recipe)
}

fn metrics(output: &Path) -> String {
    std::fs::read_to_string(output.join("metrics.jsonl")).unwrap()
}

fn losses(metrics: &str) -> Vec<f64> {
    let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64();
    metrics.lines().filter_map(loss).collect()
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Panics after a step, which is as sudden as being killed.
struct DiesAt(u64);

impl Observer for DiesAt {
    fn stepped(&mut self, report: &StepReport, _: Duration) {
        assert!(report.step < self.0, "killed");
    }
}

/// Remembers the validations.
#[derive(Default)]
struct Validations(Vec<f64>);

impl Observer for Validations {
    fn validated(&mut self, report: &ValidationReport) -> ControlFlow<()> {
        self.0.push(report.validation.value());
        ControlFlow::Continue(())
    }
}

/// Ends the run at its first validation.
struct EndsEarly;

impl Observer for EndsEarly {
    fn validated(&mut self, _: &ValidationReport) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_losses_and_weights() {
    let data = data();
    let whole = data.path().join("whole");
    Trainer::new(recipe(data.path(), &whole, &[]).unwrap()).unwrap().run(&mut ()).unwrap();
    let killed = data.path().join("killed");
    // Before the first checkpoint, at one, and after one.
    for step in [1, 4, 7] {
        let mut trainer = Trainer::new(recipe(data.path(), &killed, &[]).unwrap()).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| trainer.run(&mut DiesAt(step)))).is_err());
    }
    let mut trainer = Trainer::new(recipe(data.path(), &killed, &[]).unwrap()).unwrap();
    assert_eq!(trainer.step(), 6);
    trainer.run(&mut ()).unwrap();
    assert_eq!(metrics(&killed), metrics(&whole));
    for file in ["last/model.safetensors", "best/model.safetensors", "last/config.json", "curves.png"] {
        assert!(
            std::fs::read(killed.join(file)).unwrap() == std::fs::read(whole.join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn a_run_that_the_observer_ended_has_a_model_and_can_go_on() {
    let data = data();
    let whole = data.path().join("whole");
    Trainer::new(recipe(data.path(), &whole, &[]).unwrap()).unwrap().run(&mut ()).unwrap();
    let ended = data.path().join("ended");
    let mut trainer = Trainer::new(recipe(data.path(), &ended, &[]).unwrap()).unwrap();
    trainer.run(&mut EndsEarly).unwrap();
    assert_eq!(trainer.step(), 5);
    assert_eq!(losses(&metrics(&ended)), losses(&metrics(&whole))[..5]);
    assert!(ended.join("last/model.safetensors").is_file());
    drop(trainer);
    let mut trainer = Trainer::new(recipe(data.path(), &ended, &[]).unwrap()).unwrap();
    assert_eq!(trainer.step(), 5);
    trainer.run(&mut ()).unwrap();
    assert_eq!(metrics(&ended), metrics(&whole));
}

#[test]
fn losses_fall_and_do_not_depend_on_the_threads() {
    let data = data();
    let run = |name: &str, workers: &str, threads: usize| {
        let output = data.path().join(name);
        let recipe =
            recipe(data.path(), &output, &[("workers: 1", workers), ("steps: 10", "steps: 24")]).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut seen = Validations::default();
        pool.install(|| Trainer::new(recipe).unwrap().run(&mut seen)).unwrap();
        assert_eq!(seen.0.len(), 5);
        metrics(&output)
    };
    let found = run("one", "workers: 1", 1);
    assert_eq!(found, run("three", "workers: 3", 3));
    let losses = losses(&found);
    assert!(mean(&losses[20..]) < 0.8 * mean(&losses[..4]), "{losses:?}");
}

#[test]
#[ignore = "takes a minute: cargo test -p aff-train --test runs -- --ignored"]
fn a_minute_of_training_leaves_a_fifth_of_the_loss() {
    let data = data();
    let output = data.path().join("minute");
    let changes = [
        ("train: train, validation: val", "train: train, validation: train"),
        ("steps: 10", "steps: 2000"),
        ("checkpoint_every: 3", "checkpoint_every: 500"),
        ("validate_every: 5", "validate_every: 500"),
    ];
    let mut seen = Validations::default();
    Trainer::new(recipe(data.path(), &output, &changes).unwrap()).unwrap().run(&mut seen).unwrap();
    let losses = losses(&metrics(&output));
    let (first, last) = (mean(&losses[..20]), mean(&losses[1900..]));
    assert!(last < 0.2 * first, "{first} {last}");
    assert!(seen.0.last().unwrap() > &0.9, "{:?}", seen.0);
}

#[test]
fn a_checkpoint_of_another_recipe_is_refused_by_the_key_that_differs() {
    let data = data();
    let output = data.path().join("run");
    Trainer::new(recipe(data.path(), &output, &[]).unwrap()).unwrap().run(&mut ()).unwrap();
    let other = recipe(data.path(), &output, &[("learning_rate: 2.0e-3", "learning_rate: 1.0e-3")]).unwrap();
    let error = Trainer::new(other).unwrap_err().to_string();
    assert!(error.contains("checkpoint.safetensors: belongs to a run"), "{error}");
    assert!(error.contains("another `optimizer.learning_rate`"), "{error}");
}

#[test]
fn a_run_begins_from_the_weights_of_another() {
    let data = data();
    let first = data.path().join("first");
    Trainer::new(recipe(data.path(), &first, &[]).unwrap()).unwrap().run(&mut ()).unwrap();
    let mut second = recipe(data.path(), &data.path().join("second"), &[]).unwrap();
    second.model.initial = Some(first.join("last"));
    let trainer = Trainer::new(second).unwrap();
    let last = aff_weights::ModelFolder::open(first.join("last")).unwrap();
    let last = last.tensors(candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let name = "sem_seg_head.predictor.class_embed.weight";
    let values = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&trainer.parameters().vars()[name]), values(&last[name]));
}

#[test]
fn a_run_that_diverges_stops_and_names_step_and_tensor() {
    let data = data();
    let output = data.path().join("run");
    let changes = [("learning_rate: 2.0e-3", "learning_rate: 1000"), ("steps: 10", "steps: 60")];
    let mut trainer = Trainer::new(recipe(data.path(), &output, &changes).unwrap()).unwrap();
    let error = trainer.run(&mut ()).unwrap_err();
    let TrainError::NotFinite { step, tensor, value } = &error else { panic!("{error}") };
    assert!(*step > 1 && !value.is_finite(), "{error}");
    assert!(tensor.contains(" loss") || tensor.contains("the gradient of "), "{error}");
}

#[test]
fn recipes_with_mistakes_are_refused_by_name() {
    let data = data();
    let output = data.path().join("run");
    for (from, to, words) in [
        ("flip: 0.5", "flop: 0.5", "unknown field `flop`"),
        ("steps: 10", "steps: 0", "`run.steps` is 0; expected 1 to"),
        ("accumulation: 2", "accumulation: 65536", "`run.accumulation` is 65536; expected 1 to 256"),
        ("crop: {", "rand_augment: {}\n  crop: {", "`augmentation.rand_augment` is set"),
        ("scale: [", "scale_of: {area: {ratio: [1, 0.5]}}\n  scale: [", "two ascending ratios"),
        ("steps: 10", "steps: many", "steps"),
        ("flip: 0.5", "flip: 1.5", "`augmentation.flip` is 1.5; expected a probability from 0 to 1"),
        ("points: 64", "points: 0", "`loss.points` is 0"),
        ("learning_rate: 2.0e-3", "learning_rate: -1", "`optimizer.learning_rate` is -1"),
        ("decay: poly", "decay: sudden", "sudden"),
    ] {
        let error = recipe(data.path(), &output, &[(from, to)]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (from, to, words) in [
        (
            "num_queries: 12",
            "num_queries: 3",
            "`model.num_queries` is 3; expected one for each of the 11 classes",
        ),
        ("embed_dims: [8,", "embed_dims: [9,", "embed_dims[0]"),
        ("train: train", "train: test", "there is no such folder"),
        ("name: camvid", "name: snapshots", "`data.name` is snapshots; expected one of cityscapes, ade20k"),
    ] {
        let recipe = recipe(data.path(), &output, &[(from, to)]).unwrap();
        let error = Trainer::new(recipe).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn data_with_mistakes_are_refused_by_file() {
    use aff_train::data::{DataSource, open};
    use aff_train::tasks::TaskName;

    let data = data();
    let source = DataSource::new(data.path(), "train", TaskName::Semantic).with_layout("camvid");
    let photos = data.path().join("train");
    assert_eq!(open(&source).unwrap().len(), 4);

    LabelMap::new(ImageSize::new(32, 48), vec![12; 32 * 48])
        .unwrap()
        .write_png(data.path().join("trainannot/0.png"))
        .unwrap();
    let error = open(&source).unwrap().load(0).unwrap_err().to_string();
    assert!(error.contains("0.png: has the label 12; expected 0 to 11"), "{error}");
    LabelMap::new(ImageSize::new(1, 1), vec![0])
        .unwrap()
        .write_png(data.path().join("trainannot/1.png"))
        .unwrap();
    let error = open(&source).unwrap().load(1).unwrap_err().to_string();
    assert!(error.contains("1.png: is 48 x 32 (width x height); its masks are 1 x 1"), "{error}");
    std::fs::remove_file(data.path().join("trainannot/2.png")).unwrap();
    let error = open(&source).unwrap_err().to_string();
    assert!(error.contains("trainannot/2.png: is missing"), "{error}");
    std::fs::remove_dir_all(&photos).unwrap();
    std::fs::create_dir(&photos).unwrap();
    let error = open(&source).unwrap_err().to_string();
    assert!(error.contains("there are no photos"), "{error}");
}
