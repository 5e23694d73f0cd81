//! Pictures that are made up: coloured shapes on a dark ground, for examples, tests and first steps.

use aff_vision::{ImageSize, LabelMap, Rgb, RgbImage};
use rand::Rng;

use super::{Category, DataSet, Sample};
use crate::TrainError;
use crate::random::{Purpose, generator};
use crate::targets::{ClassTarget, IGNORED, SegmentTarget, Target, TargetSegment};
use crate::tasks::TaskName;

/// Red squares and green discs on a dark ground, up to three in a picture. A picture depends on its number alone.
///
/// ```
/// use aff_train::data::{DataSet, Shapes};
/// use aff_train::tasks::TaskName;
///
/// let data = Shapes::new(TaskName::Panoptic, 10);
/// assert_eq!((data.len(), data.class_names()), (10, ["square", "disc", "ground"].map(String::from).to_vec()));
/// ```
#[derive(Debug, Clone)]
pub struct Shapes {
    task: TaskName,
    count: usize,
    size: ImageSize,
    categories: Vec<Category>,
}

/// The class of the ground.
const GROUND: u16 = 2;

impl Shapes {
    /// `count` pictures of 48 x 32 pixels with what a task learns from. For classification a picture has shapes of one kind.
    pub fn new(task: TaskName, count: usize) -> Self {
        let mut categories = vec![Category::thing(1, "square"), Category::thing(2, "disc")];
        if matches!(task, TaskName::Semantic | TaskName::Panoptic) {
            categories.push(Category::stuff(3, "ground"));
        }
        Self { task, count, size: ImageSize::new(32, 48), categories }
    }

    /// The picture and, for each pixel, which shape it belongs to; the class of each shape.
    fn draw(&self, index: usize) -> (RgbImage, Vec<u16>, Vec<u16>) {
        let mut rng = generator(index as u64, Purpose::Shapes, 0);
        let ImageSize { height, width } = self.size;
        let mut image =
            RgbImage::from_fn(width, height, |_, _| Rgb(std::array::from_fn(|_| rng.random_range(0..50))));
        let mut owner = vec![IGNORED; self.size.area() as usize];
        let single = rng.random_range(0..2u16);
        let mut classes = Vec::new();
        for shape in 0..rng.random_range(1..=3u16) {
            let class =
                if self.task == TaskName::Classification { single } else { rng.random_range(0..2u16) };
            classes.push(class);
            let radius = rng.random_range(4..9i32);
            let center = [rng.random_range(0..width as i32), rng.random_range(0..height as i32)];
            for (place, owner) in owner.iter_mut().enumerate() {
                let (x, y) =
                    (place as i32 % width as i32 - center[0], place as i32 / width as i32 - center[1]);
                let inside =
                    if class == 0 { x.abs().max(y.abs()) < radius } else { x * x + y * y < radius * radius };
                if inside {
                    *owner = shape;
                    let mut color = [30; 3];
                    color[usize::from(class)] = rng.random_range(190..240);
                    image.put_pixel(place as u32 % width, place as u32 / width, Rgb(color));
                }
            }
        }
        (image, owner, classes)
    }

    fn target(&self, owner: &[u16], classes: &[u16]) -> Result<Target, TrainError> {
        let of_shape = |&shape: &u16| classes.get(usize::from(shape)).copied().unwrap_or(GROUND);
        Ok(match self.task {
            TaskName::Classification => Target::Class(ClassTarget::of(u32::from(classes[0]))),
            TaskName::Semantic => {
                Target::Semantic(LabelMap::new(self.size, owner.iter().map(of_shape).collect())?)
            }
            TaskName::Instance | TaskName::Panoptic | TaskName::Detection => {
                let mut segments: Vec<_> =
                    classes.iter().map(|&class| TargetSegment::new(u32::from(class))).collect();
                let mut map = owner.to_vec();
                if self.task == TaskName::Panoptic {
                    let ground = segments.len() as u16;
                    map.iter_mut().filter(|shape| **shape == IGNORED).for_each(|shape| *shape = ground);
                    segments.push(TargetSegment::new(u32::from(GROUND)));
                }
                let all = SegmentTarget::from_map(LabelMap::new(self.size, map)?, segments)?;
                let segments = Target::Segments(all.without_empty()?);
                if self.task == TaskName::Detection { segments.to_boxes()?.into() } else { segments }
            }
        })
    }
}

impl DataSet for Shapes {
    fn categories(&self) -> &[Category] {
        &self.categories
    }

    fn len(&self) -> usize {
        self.count
    }

    fn name(&self, index: usize) -> String {
        format!("shapes-{index}")
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let (image, owner, classes) = self.draw(index);
        Ok(Sample { image, target: self.target(&owner, &classes)? })
    }
}
