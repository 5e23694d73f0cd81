//! A loss of one's own: a classifier that is trained by the squared error of its probabilities.
use aff_train::tasks::{Classification, TaskName, Update};
use aff_train::{Recipe, TrainError, Trainer, data::Shapes, losses::Losses};
use candle_core::Tensor;
fn brier(logits: &Tensor, update: &Update<'_>) -> Result<Losses, TrainError> {
    let (images, classes) = logits.dims2()?;
    let mut wanted = vec![0f32; images * classes];
    for (image, target) in update.batch().targets.iter().enumerate() {
        wanted[image * classes + target.class()?.most_probable() as usize] = 1.0;
    }
    let wanted = Tensor::from_vec(wanted, (images, classes), logits.device())?;
    let error = (candle_nn::ops::softmax(logits, 1)? - wanted)?.sqr()?.mean_all()?;
    Ok(Losses { parts: vec![("brier", error)] })
}
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let recipe = Recipe::smallest(TaskName::Classification, folder.path());
    let trainer = Trainer::builder(recipe).train_data(Shapes::new(TaskName::Classification, 50));
    Ok(trainer.task(|setup| Classification::new(setup)?.with_loss(brier)).build()?.run(&mut ())?)
}
