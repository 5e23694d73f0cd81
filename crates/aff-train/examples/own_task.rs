//! A task of one's own: how bright a picture is, by a linear layer on its mean colour.
use aff_train::tasks::{Task, TaskName, Update};
use aff_train::{Parameters, Recipe, TrainError, Trainer, data::Shapes, losses::Losses};
use candle_nn::{Linear, Module, linear};
struct Brightness(Linear);
fn brightness(parameters: &Parameters) -> Result<Brightness, TrainError> {
    Ok(Brightness(linear(3, 1, parameters.var_builder())?))
}
impl Task for Brightness {
    fn losses(&self, update: &Update<'_>) -> Result<Losses, TrainError> {
        let colors = update.batch().pixel_values.mean((2, 3))?;
        let error = (self.0.forward(&colors)? - colors.mean_keepdim(1)?)?.sqr()?.mean_all()?;
        Ok(Losses { parts: vec![("error", error)] })
    }
    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError> {
        Ok(Box::new(brightness(parameters)?))
    }
}
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let recipe = Recipe::smallest(TaskName::Classification, folder.path());
    let trainer = Trainer::builder(recipe).train_data(Shapes::new(TaskName::Classification, 50));
    Ok(trainer.task(|setup| brightness(setup.parameters)).build()?.run(&mut ())?)
}
