//! Runs that are disturbed.

use std::path::Path;

use aff_train::data::Shapes;
use aff_train::tasks::TaskName;
use aff_train::{Observer, Recipe, TrainError, Trainer};
use rand::{Rng, SeedableRng};

use super::metrics;

/// Remembers the warnings.
#[derive(Default)]
struct Warnings(Vec<String>);

impl Observer for Warnings {
    fn warned(&mut self, warning: &str) {
        self.0.push(warning.to_owned());
    }
}

fn recipe(output: &Path) -> Recipe {
    let mut recipe = Recipe::smallest(TaskName::Classification, output);
    (recipe.run.steps, recipe.run.checkpoint_every) = (8, 3);
    recipe
}

fn trainer(output: &Path) -> Result<Trainer, TrainError> {
    Trainer::builder(recipe(output)).train_data(Shapes::new(TaskName::Classification, 8)).build()
}

fn model(output: &Path) -> Vec<u8> {
    std::fs::read(output.join("last/model.safetensors")).unwrap()
}

#[test]
fn a_second_trainer_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = trainer(folder.path()).unwrap();
    let error = trainer(folder.path()).unwrap_err().to_string();
    assert!(error.contains("works in it"), "{error}");
    drop(first);
    trainer(folder.path()).unwrap();
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before_and_the_run_ends_as_if_nothing_was() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, damaged) = (folder.path().join("whole"), folder.path().join("damaged"));
    for output in [&whole, &damaged] {
        trainer(output).unwrap().run(&mut ()).unwrap();
    }
    let path = damaged.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let mut again = trainer(&damaged).unwrap();
    assert_eq!(again.step(), 6);
    let mut seen = Warnings::default();
    again.run(&mut seen).unwrap();
    assert_eq!(seen.0.len(), 1);
    assert!(seen.0[0].contains("the checksum in its header differs"), "{:?}", seen.0);
    assert!(seen.0[0].ends_with("the run goes on from the checkpoint before it, of step 6"), "{:?}", seen.0);
    assert_eq!(metrics(&damaged), metrics(&whole));
    assert!(model(&damaged) == model(&whole));
}

#[test]
fn checkpoints_with_any_change_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    trainer(folder.path()).unwrap().run(&mut ()).unwrap();
    std::fs::remove_file(folder.path().join("checkpoint.previous.safetensors")).unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut changed: Vec<Vec<u8>> = Vec::new();
    for round in 0..60 {
        // Names and numbers of the header as often as values.
        let end = if round % 2 == 0 { 8 + header } else { bytes.len() };
        let mut copy = bytes.clone();
        copy[rng.random_range(0..end)] ^= 1 << rng.random_range(0..8);
        changed.push(copy);
    }
    changed.extend([0, 7, 8 + header / 2, 8 + header, bytes.len() - 1].map(|end| bytes[..end].to_vec()));
    changed.push([bytes.clone(), vec![0; 4]].concat());
    for (number, copy) in changed.iter().enumerate() {
        std::fs::write(&path, copy).unwrap();
        let error = trainer(folder.path()).expect_err(&format!("change {number} was taken")).to_string();
        assert!(error.contains("checkpoint.safetensors"), "{error}");
    }
    std::fs::copy(folder.path().join("last/model.safetensors"), &path).unwrap();
    let error = trainer(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is not a checkpoint of a run"), "{error}");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(trainer(folder.path()).unwrap().step(), 8);
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    trainer(&whole).unwrap().run(&mut ()).unwrap();
    let output = folder.path().join("run");
    /// Puts something in the way of the second checkpoint.
    struct InTheWay<'a>(&'a Path);
    impl Observer for InTheWay<'_> {
        fn stepped(&mut self, report: &aff_train::StepReport, _: std::time::Duration) {
            if report.step == 5 {
                std::fs::create_dir(self.0).unwrap();
            }
        }
    }
    let way = output.join("checkpoint.next.safetensors");
    let error = trainer(&output).unwrap().run(&mut InTheWay(&way)).unwrap_err().to_string();
    assert!(error.starts_with("the run cannot be saved: ") && error.contains("is whole"), "{error}");
    std::fs::remove_dir(&way).unwrap();
    let mut again = trainer(&output).unwrap();
    assert_eq!(again.step(), 3);
    again.run(&mut ()).unwrap();
    assert!(model(&output) == model(&whole));
}

#[test]
fn very_deep_networks_have_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(folder.path());
    recipe.run.steps = 1;
    if let Some(backbone) = &mut recipe.model.backbone {
        backbone.depths = [1, 1, 1, 200];
    }
    let data = Shapes::new(TaskName::Classification, 8);
    Trainer::builder(recipe).train_data(data).build().unwrap().run(&mut ()).unwrap();
}
