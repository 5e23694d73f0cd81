//! Memory does not grow while a run goes on. In a binary of its own, for its allocator counts what all threads have.

use std::time::Duration;

use aff_train::data::Shapes;
use aff_train::tasks::TaskName;
use aff_train::{Observer, Recipe, StepReport, Trainer};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[derive(Default)]
struct Usage(Vec<usize>);

impl Observer for Usage {
    fn stepped(&mut self, _: &StepReport, _: Duration) {
        self.0.push(ALLOCATOR.current_usage());
    }
}

#[test]
fn memory_does_not_grow_over_the_steps() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = Recipe::smallest(TaskName::Instance, folder.path());
    (recipe.run.steps, recipe.run.checkpoint_every) = (160, 20);
    let data = Shapes::new(TaskName::Instance, 16);
    let mut usage = Usage::default();
    Trainer::builder(recipe).train_data(data).build().unwrap().run(&mut usage).unwrap();
    // What is held between steps varies with the batches that wait; its least does not.
    let least = |from: usize, to: usize| usage.0[from..to].iter().min().copied().unwrap();
    let (early, late) = (least(30, 70), least(120, 160));
    assert!(late < early + 20_000, "{early} bytes early, {late} late");
}
