//! A data set of one's own: pictures that are red, green or blue.
use aff_train::data::{Category, DataSet, Sample};
use aff_train::{Recipe, TrainError, Trainer, targets::ClassTarget, targets::Target, tasks::TaskName};
use aff_vision::{Rgb, RgbImage};
#[derive(Debug)]
struct Colors([Category; 3]);
impl DataSet for Colors {
    fn categories(&self) -> &[Category] {
        &self.0
    }
    fn len(&self) -> usize {
        300
    }
    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let color = std::array::from_fn(|channel| if channel == index % 3 { 215 } else { 40 });
        let target = Target::Class(ClassTarget::of(index as u32 % 3));
        Ok(Sample { image: RgbImage::from_pixel(48, 32, Rgb(color)), target })
    }
}
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let colors = Colors([(0, "red"), (1, "green"), (2, "blue")].map(|(id, name)| Category::stuff(id, name)));
    let folder = tempfile::tempdir()?;
    let recipe = Recipe::smallest(TaskName::Classification, folder.path());
    Ok(Trainer::builder(recipe).train_data(colors).build()?.run(&mut ())?)
}
