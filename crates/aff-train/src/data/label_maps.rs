//! Photos with a label map each: a class for every pixel, as a grey PNG.

use std::path::{Path, PathBuf};

use aff_vision::LabelMap;

use super::files::{missing, refuse, stem};
use super::{Category, DataSet, IGNORED, Sample};
use crate::TrainError;
use crate::targets::Target;

/// What the values of label maps mean.
#[derive(Debug, Clone)]
pub(super) struct LabelTable {
    /// By value: a class, [`IGNORED`], or `None` if no pixel may have it.
    classes: Vec<Option<u16>>,
}

impl LabelTable {
    /// The values that stand for classes, and those that are ignored.
    pub(super) fn new(
        classes: impl IntoIterator<Item = (u16, u16)>,
        ignored: impl IntoIterator<Item = u16>,
    ) -> Self {
        let mut table = vec![None; 1 << 16];
        for value in ignored {
            table[usize::from(value)] = Some(IGNORED);
        }
        for (value, class) in classes {
            table[usize::from(value)] = Some(class);
        }
        Self { classes: table }
    }

    /// Reads a label map and gives its pixels their classes.
    pub(super) fn read(&self, path: &Path) -> Result<LabelMap, TrainError> {
        let map = LabelMap::read(path)?;
        let class =
            |&value: &u16| self.classes[usize::from(value)].ok_or_else(|| refuse(path, self.unknown(value)));
        let classes = map.labels().iter().map(class).collect::<Result<_, _>>()?;
        Ok(LabelMap::new(map.size(), classes)?)
    }

    fn unknown(&self, value: u16) -> String {
        let known: Vec<usize> =
            (0..self.classes.len()).filter(|&value| self.classes[value].is_some()).collect();
        let ranges: Vec<String> = known
            .chunk_by(|a, b| a + 1 == *b)
            .map(|range| match range {
                [value] => value.to_string(),
                range => format!("{} to {}", range[0], range[range.len() - 1]),
            })
            .collect();
        format!("has the label {value}; expected {}", ranges.join(" or "))
    }
}

/// Photos with a label map each.
#[derive(Debug, Clone)]
pub(super) struct LabelledPhotos {
    pub(super) categories: Vec<Category>,
    pub(super) labels: LabelTable,
    /// Photo and label map, in the order of the names.
    pub(super) files: Vec<(PathBuf, PathBuf)>,
    /// Ending of the photos' names that their labels do not share.
    pub(super) suffix: &'static str,
}

impl LabelledPhotos {
    /// Photos and the label maps of the same names, as PNG, in another folder.
    pub(super) fn pairs(photos: Vec<PathBuf>, label_folder: &Path) -> Vec<(PathBuf, PathBuf)> {
        let pair = |photo: PathBuf| {
            // Not `with_extension`: a stem may have points of its own.
            let labels = label_folder.join(format!("{}.png", stem(&photo)));
            (photo, labels)
        };
        photos.into_iter().map(pair).collect()
    }
}

impl DataSet for LabelledPhotos {
    fn categories(&self) -> &[Category] {
        &self.categories
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        let name = stem(&self.files[index].0);
        name.strip_suffix(self.suffix).map(str::to_owned).unwrap_or(name)
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let (photo, _) = &self.files[index];
        Sample::new(aff_vision::open(photo)?, self.load_target(index)?, photo)
    }

    fn load_target(&self, index: usize) -> Result<Target, TrainError> {
        Ok(Target::Semantic(self.labels.read(&self.files[index].1)?))
    }

    fn missing_files(&self) -> Vec<PathBuf> {
        missing(self.files.iter().flat_map(|(photo, labels)| [photo, labels]))
    }
}
