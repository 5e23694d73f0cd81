//! Every task learns, from any data set, with either head.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aff_model::config::{DecoderConfig, HcFormerConfig};
use aff_train::data::{Category, DataSet, Sample, Shapes};
use aff_train::losses::Losses;
use aff_train::targets::{SegmentTarget, TargetSegment};
use aff_train::tasks::{Classification, TaskName, Update};
use aff_train::{Observer, Recipe, StepReport, TrainError, Trainer};
use aff_vision::{ImageSize, LabelMap, Rgb, RgbImage};
use candle_core::{DType, Device, Tensor};

use super::mean;

/// Remembers what every step said.
#[derive(Default)]
struct Steps(Vec<StepReport>);

impl Observer for Steps {
    fn stepped(&mut self, report: &StepReport, _: Duration) {
        self.0.push(report.clone());
    }
}

fn hcformer() -> DecoderConfig {
    let mut head = HcFormerConfig::default();
    (head.hidden_dim, head.mask_feature_size, head.num_attention_heads) = (16, 16, 2);
    (head.encoder_layers, head.decoder_layers) = (1, 2);
    (head.encoder_feedforward_dim, head.decoder_feedforward_dim) = (32, 32);
    (head.assignment_dim, head.assignment_neighbors) = (16, 9);
    head.into()
}

fn run(recipe: Recipe) -> Vec<StepReport> {
    let data = Shapes::new(recipe.task, 16);
    let mut trainer = Trainer::builder(recipe).train_data(data).build().unwrap();
    let mut steps = Steps::default();
    trainer.run(&mut steps).unwrap();
    steps.0
}

#[test]
fn every_task_lowers_its_loss_with_either_head() {
    let folder = tempfile::tempdir().unwrap();
    use TaskName::{Classification, Detection, Instance, Panoptic, Semantic};
    let cases = [Classification, Semantic, Instance, Panoptic, Detection]
        .map(|task| (task, None))
        .into_iter()
        .chain([Instance, Panoptic].map(|task| (task, Some(hcformer()))));
    for (number, (task, head)) in cases.enumerate() {
        let has_temperature = head.is_some();
        let mut recipe = Recipe::smallest(task, folder.path().join(number.to_string()));
        recipe.model.decoder = head.or(recipe.model.decoder);
        (recipe.run.steps, recipe.run.checkpoint_every) = (60, 60);
        let steps = run(recipe);
        let losses: Vec<f64> = steps.iter().map(|report| report.loss).collect();
        let (first, last) = (mean(&losses[..6]), mean(&losses[50..]));
        assert!(last < 0.85 * first, "{task}: {first} {last}");
        let temperature = steps[0].parts.get("regularization");
        assert_eq!(temperature.is_some(), has_temperature);
        if let Some(temperature) = temperature {
            // 0.1 times three temperatures of 0.1, and part of the loss.
            assert!((temperature - 0.03).abs() < 1e-6, "{temperature}");
            let sum: f64 = steps[0].parts.values().sum();
            assert!((sum - steps[0].loss).abs() < 1e-9);
        }
    }
}

#[test]
fn every_task_is_validated_by_its_metric() {
    use TaskName::{Classification, Detection, Instance, Panoptic, Semantic};
    let folder = tempfile::tempdir().unwrap();
    for (task, metric) in [
        (Classification, "top1"),
        (Semantic, "mean_iou"),
        (Instance, "ap"),
        (Panoptic, "pq"),
        (Detection, "ap"),
    ] {
        let output = folder.path().join(task.to_string());
        let mut recipe = Recipe::smallest(task, &output);
        (recipe.run.steps, recipe.run.validate_every, recipe.run.checkpoint_every) = (4, 4, 4);
        let data = Shapes::new(task, 6);
        let builder = Trainer::builder(recipe).train_data(data.clone()).validation_data(data);
        let mut trainer = builder.build().unwrap();
        trainer.run(&mut ()).unwrap();
        let best = trainer.best().unwrap();
        assert_eq!((best.metric.as_str(), best.step), (metric, 4));
        assert!((0.0..=1.0).contains(&best.value));
        let log = super::metrics(&output);
        assert!(log.contains(&format!("\"decides\":\"{metric}\"")), "{log}");
    }
}

/// Pictures that are all alike, with another number of objects in each: batch norms see the same whichever share a pass.
#[derive(Debug)]
struct Alike(Vec<Category>);

impl DataSet for Alike {
    fn categories(&self) -> &[Category] {
        &self.0
    }

    fn len(&self) -> usize {
        4
    }

    fn name(&self, index: usize) -> String {
        index.to_string()
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let image = RgbImage::from_fn(32, 32, |x, y| Rgb([(8 * x) as u8, (8 * y) as u8, 100]));
        let objects = index as u16 + 1;
        let map = (0..32 * 32u32).map(|place| (place % 32 / 4) as u16 % objects).collect();
        let segments = (0..objects).map(|object| TargetSegment::new(u32::from(object % 2))).collect();
        let target = SegmentTarget::from_map(LabelMap::new(ImageSize::new(32, 32), map)?, segments)?;
        Ok(Sample { image, target: target.into() })
    }
}

#[test]
fn two_passes_are_one_pass_over_the_same_images() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, batch_size: usize, accumulation: usize| {
        let mut recipe = Recipe::smallest(TaskName::Instance, folder.path().join(name));
        recipe.augmentation.flip = 0.0;
        recipe.run =
            aff_train::RunOptions { steps: 2, batch_size, accumulation, checkpoint_every: 2, ..recipe.run };
        let data = Alike(vec![Category::thing(1, "left"), Category::thing(2, "right")]);
        let mut trainer = Trainer::builder(recipe).train_data(data).build().unwrap();
        let mut steps = Steps::default();
        trainer.run(&mut steps).unwrap();
        (steps.0, trainer.parameters().vars())
    };
    let (one, weights_of_one) = run("one", 4, 1);
    let (four, weights_of_four) = run("four", 1, 4);
    // After a step, rounding may decide a match or a point.
    for ((a, b), tolerance) in one.iter().zip(&four).zip([1e-4, 2e-2]) {
        for (name, value) in &a.parts {
            let other = b.parts[name];
            assert!((value - other).abs() < tolerance * value.abs().max(1.0), "{name}: {value} {other}");
        }
        assert!((a.gradient_norm - b.gradient_norm).abs() < 10.0 * tolerance * a.gradient_norm);
    }
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (mut differing, mut all) = (0, 0);
    for (name, var) in weights_of_one.iter().filter(|(name, _)| !name.contains(".running_")) {
        for (a, b) in values(var).iter().zip(values(&weights_of_four[name])) {
            all += 1;
            differing += usize::from((a - b).abs() > 2e-4);
        }
    }
    // The first steps of Adam go by the sign of a gradient, which rounding decides where there is hardly any.
    assert!(differing * 30 < all, "{differing} of {all}");
}

fn last(folder: &Path) -> BTreeMap<String, Tensor> {
    let folder = aff_weights::ModelFolder::open(folder.join("last")).unwrap();
    folder.tensors(DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_model_is_trained_further_with_other_classes_and_for_other_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let short = |task: TaskName, name: &str| {
        let mut recipe = Recipe::smallest(task, folder.path().join(name));
        (recipe.run.steps, recipe.run.checkpoint_every) = (3, 3);
        recipe
    };
    run(short(TaskName::Panoptic, "first"));
    run(short(TaskName::Classification, "classifier"));
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let of = |task, from: &str| {
        let mut recipe = short(task, &format!("from-{from}"));
        recipe.model.initial = Some(folder.path().join(from).join("last"));
        let data = Shapes::new(task, 16);
        Trainer::builder(recipe).train_data(data).build().unwrap()
    };
    // Three classes and "no object" become two.
    let mut trainer = of(TaskName::Instance, "first");
    let before = last(&folder.path().join("first"));
    let class = "sem_seg_head.predictor.class_embed.weight";
    let vars = trainer.parameters().vars();
    assert_eq!((before[class].dims()[0], vars[class].dims()[0]), (4, 3));
    let same = vars.iter().filter(|(name, var)| before.get(*name).is_some_and(|t| t.dims() == var.dims()));
    assert!(same.clone().count() + 2 == vars.len());
    assert!(same.clone().all(|(name, var)| values(var) == values(&before[name])));
    trainer.run(&mut ()).unwrap();
    let config = aff_weights::ModelFolder::open(folder.path().join("from-first/last")).unwrap();
    assert_eq!(config.config().id2label.values().collect::<Vec<_>>(), ["square", "disc"]);
    // A classifier's backbone.
    let trainer = of(TaskName::Semantic, "classifier");
    let classifier = last(&folder.path().join("classifier"));
    let name = "layers.2.blocks.0.attn.q.weight";
    assert_eq!(values(&trainer.parameters().vars()[&format!("backbone.{name}")]), values(&classifier[name]));
}

#[test]
fn a_loss_of_ones_own_takes_the_place_of_the_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = Recipe::smallest(TaskName::Classification, folder.path());
    (recipe.run.steps, recipe.run.checkpoint_every, recipe.run.accumulation) = (2, 2, 2);
    let own =
        |logits: &Tensor, _: &Update<'_>| Ok(Losses { parts: vec![("own", logits.sqr()?.mean_all()?)] });
    let builder = Trainer::builder(recipe).train_data(Shapes::new(TaskName::Classification, 8));
    let mut trainer = builder.task(move |setup| Classification::new(setup)?.with_loss(own)).build().unwrap();
    let mut steps = Steps::default();
    trainer.run(&mut steps).unwrap();
    assert_eq!(steps.0[1].parts.keys().collect::<Vec<_>>(), [&"own"]);
}

#[test]
fn targets_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::smallest(TaskName::Instance, folder.path());
    let data = Shapes::new(TaskName::Classification, 8);
    let mut trainer = Trainer::builder(recipe).train_data(data).build().unwrap();
    let error = trainer.run(&mut ()).unwrap_err().to_string();
    assert!(error.contains("a target is a label; expected a set of segments"), "{error}");
    let recipe = Recipe::smallest(TaskName::Classification, folder.path().join("empty"));
    let nothing = Trainer::builder(recipe).train_data(Shapes::new(TaskName::Classification, 0)).build();
    assert!(nothing.unwrap_err().to_string().contains("no images to learn from"));
}

/// Detectors resume as all do, and begin with a class probability of 1 % and boxes at their references.
#[test]
fn a_detector_resumes_to_the_same_losses_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = |name: &str, steps: u64| {
        let mut recipe = Recipe::smallest(TaskName::Detection, folder.path().join(name));
        (recipe.run.checkpoint_every, recipe.run.accumulation, recipe.run.steps) = (2, 2, 6);
        recipe.run.validate_every = steps;
        recipe
    };
    let data = || Shapes::new(TaskName::Detection, 8);
    let whole = Trainer::builder(recipe("whole", 6)).train_data(data());
    let mut whole = whole.build().unwrap();
    let bias = whole.parameters().vars()["class_embed.1.bias"].to_vec1::<f32>().unwrap();
    assert!(bias.iter().all(|bias| (bias + 99f32.ln()).abs() < 1e-5), "{bias:?}");
    whole.run(&mut ()).unwrap();
    let build = || Trainer::builder(recipe("halves", 4)).train_data(data()).validation_data(data()).build();
    build().unwrap().run(&mut super::EndsEarly).unwrap();
    let mut second = build().unwrap();
    assert_eq!(second.step(), 4);
    second.run(&mut ()).unwrap();
    assert_eq!(second.step(), 6);
    let values = |trainer: &Trainer| -> Vec<Vec<f32>> {
        let vars = trainer.parameters().vars().into_values();
        vars.map(|var| var.flatten_all().unwrap().to_vec1().unwrap()).collect()
    };
    assert!(values(&whole) == values(&second));
}

#[test]
fn a_detector_begins_with_the_encoder_of_a_segmenter() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = Recipe::smallest(TaskName::Instance, folder.path().join("segmenter"));
    (recipe.run.steps, recipe.run.checkpoint_every) = (2, 2);
    run(recipe);
    let mut recipe = Recipe::smallest(TaskName::Detection, folder.path().join("detector"));
    recipe.model.initial = Some(folder.path().join("segmenter/last"));
    let data = Shapes::new(TaskName::Detection, 8);
    let trainer = Trainer::builder(recipe).train_data(data).build().unwrap();
    let (segmenter, detector) = (last(&folder.path().join("segmenter")), trainer.parameters().vars());
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let encoder = "transformer.encoder.layers.0.linear1.weight";
    let in_segmenter = format!("sem_seg_head.pixel_decoder.{encoder}");
    assert_eq!(values(&detector[encoder]), values(&segmenter[&in_segmenter]));
    // What the segmenter does not have begins as ever.
    let bias = values(&detector["class_embed.0.bias"]);
    assert!(bias.iter().all(|bias| (bias + 99f32.ln()).abs() < 1e-5), "{bias:?}");
}
