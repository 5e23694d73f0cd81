//! Whether a data set is whole: what is there, what is missing, what is wrong.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;

use super::{DataSet, IGNORED, Sample};
use crate::TrainError;
use crate::targets::{Crowd, SegmentTarget, Target};

/// What is in a split of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataCheck {
    /// Images, whether they could be read or not.
    pub images: usize,
    /// Files that are named and not there.
    pub missing_files: Vec<PathBuf>,
    /// Images that could not be read, or whose labels are wrong; those with missing files are among them.
    pub problems: Vec<DataProblem>,
    /// By class.
    pub classes: Vec<ClassCount>,
    /// Segments that are crowds; they are not among those of the classes.
    pub crowds: u64,
    /// Pixels that nothing is known of. Images with a label alone have none.
    pub unlabelled_pixels: u64,
}

/// An image that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataProblem {
    /// Name of the image.
    pub image: String,
    /// What is wrong with it, and where.
    pub problem: String,
}

/// How often a class occurs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// Images that have it.
    pub images: u64,
    /// Objects and regions; of label maps one for each image.
    pub segments: u64,
    /// Pixels. Images with a label or boxes alone have none.
    pub pixels: u64,
}

impl DataCheck {
    /// Whether nothing is missing and nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing_files.is_empty() && self.problems.is_empty()
    }
}

/// Reads every image and its target, on all threads; `observe` is told of each that is done. A data set that [`open`](super::open) refuses for
/// missing files is opened with [`open_unchecked`](super::open_unchecked).
#[must_use]
pub fn check(data: &dyn DataSet, observe: impl Fn() + Sync) -> DataCheck {
    let count_image = |index: usize| {
        let counts = data.load(index).and_then(|sample| Counts::of(&sample, data.categories().len()));
        observe();
        match counts {
            Ok(counts) => (counts, None),
            Err(error) => (
                Counts::new(data.categories().len()),
                Some(DataProblem { image: data.name(index), problem: error.to_string() }),
            ),
        }
    };
    let nothing = || (Counts::new(data.categories().len()), Vec::new());
    let (counts, problems) = (0..data.len())
        .into_par_iter()
        .map(count_image)
        .fold(nothing, |(sum, mut problems), (counts, problem)| {
            problems.extend(problem);
            (sum.plus(&counts), problems)
        })
        .reduce(nothing, |(a, mut problems), (b, more)| {
            problems.extend(more);
            (a.plus(&b), problems)
        });
    let class = |(category, count): (&super::Category, &[u64; 3])| {
        let &[images, segments, pixels] = count;
        ClassCount { name: category.name.clone(), images, segments, pixels }
    };
    DataCheck {
        images: data.len(),
        missing_files: data.missing_files(),
        problems,
        classes: data.categories().iter().zip(&counts.classes).map(class).collect(),
        crowds: counts.crowds,
        unlabelled_pixels: counts.unlabelled,
    }
}

/// What is counted.
#[derive(Debug, Clone)]
struct Counts {
    /// Images, segments and pixels of each class.
    classes: Vec<[u64; 3]>,
    crowds: u64,
    unlabelled: u64,
}

impl Counts {
    fn new(classes: usize) -> Self {
        Self { classes: vec![[0; 3]; classes], crowds: 0, unlabelled: 0 }
    }

    fn plus(mut self, other: &Self) -> Self {
        for (sum, count) in self.classes.iter_mut().flatten().zip(other.classes.iter().flatten()) {
            *sum += count;
        }
        self.crowds += other.crowds;
        self.unlabelled += other.unlabelled;
        self
    }

    fn of(sample: &Sample, classes: usize) -> Result<Self, TrainError> {
        let mut counts = Self::new(classes);
        match &sample.target {
            Target::Class(class) => {
                for &(class, _) in class.shares() {
                    counts.add(class, 1, 0)?;
                }
            }
            Target::Semantic(map) => {
                for (class, pixels) in map.areas() {
                    if class == IGNORED {
                        counts.unlabelled += pixels;
                    } else {
                        counts.add(class.into(), 1, pixels)?;
                    }
                }
            }
            Target::Segments(segments) => counts.add_segments(segments)?,
            Target::Boxes(boxes) => {
                for object in boxes.boxes() {
                    match object.crowd {
                        Crowd::Crowd => counts.crowds += 1,
                        Crowd::Single => counts.add(object.class, 1, 0)?,
                    }
                }
            }
        }
        for count in &mut counts.classes {
            count[0] = count[0].min(1);
        }
        Ok(counts)
    }

    fn add_segments(&mut self, target: &SegmentTarget) -> Result<(), TrainError> {
        let mut covered: Option<aff_vision::Rle> = None;
        // Counted once for a map, mask by mask where they may overlap.
        let areas: Vec<u64> = match target.map() {
            Some(map) => {
                let mut areas = vec![0; target.segments().len()];
                for (place, pixels) in map.areas() {
                    match areas.get_mut(usize::from(place)) {
                        Some(area) => *area = pixels,
                        None => self.unlabelled += pixels,
                    }
                }
                areas
            }
            None => {
                let mut areas = Vec::with_capacity(target.segments().len());
                for index in 0..target.segments().len() {
                    let mask = target.mask(index)?;
                    areas.push(mask.area());
                    covered = Some(match covered {
                        Some(covered) => covered.union(&mask)?,
                        None => mask.into_owned(),
                    });
                }
                self.unlabelled += target.size().area() - covered.map_or(0, |covered| covered.area());
                areas
            }
        };
        for (segment, pixels) in target.segments().iter().zip(areas) {
            match segment.crowd {
                Crowd::Crowd => self.crowds += 1,
                Crowd::Single => self.add(segment.class, 1, pixels)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, class: u32, segments: u64, pixels: u64) -> Result<(), TrainError> {
        let classes = self.classes.len();
        let count = self.classes.get_mut(class as usize).ok_or_else(|| TrainError::Target {
            problem: format!("has the class {class}; expected one below {classes}"),
        })?;
        count[0] += 1;
        count[1] += segments;
        count[2] += pixels;
        Ok(())
    }
}
