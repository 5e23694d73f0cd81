//! ADE20K in the 150 classes of the scene parsing benchmark (Zhou et al. 2017).

use std::path::Path;

use super::files::{photos, read_text, refuse};
use super::label_maps::{LabelTable, LabelledPhotos};
use super::{Category, DataSet, DataSource, Layout};
use crate::TrainError;
use crate::tasks::TaskName;

/// `images/training`, `annotations/training` and the like, and the classes in `objectInfo150.txt`.
#[derive(Debug)]
pub(super) struct Ade20kLayout;

impl Layout for Ade20kLayout {
    fn name(&self) -> &'static str {
        "ade20k"
    }

    fn description(&self) -> &'static str {
        "ADE20K in 150 classes (ADEChallengeData2016): photos in images/training and images/validation, label maps (0 is other) in annotations/, \
         names in objectInfo150.txt; splits train and val"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Semantic]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        ["training", "validation"].iter().any(|split| folder.join("annotations").join(split).is_dir())
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        let split = match source.split.as_str() {
            "train" => "training",
            "val" => "validation",
            other => other,
        };
        let photos = photos(&source.folder.join("images").join(split))?;
        let label_folder = source.folder.join("annotations").join(split);
        let categories = read_classes(&source.folder.join("objectInfo150.txt"))?;
        // Label 0 is "other": no class. Class c has the label c + 1.
        let values = (1..=categories.len() as u16).zip(0..);
        Ok(Box::new(LabelledPhotos {
            labels: LabelTable::new(values, [0]),
            files: LabelledPhotos::pairs(photos, &label_folder),
            categories,
            suffix: "",
        }))
    }
}

/// The table of classes: columns parted by tabs, a head, the number (from 1) first and the names, parted by commas, last.
fn read_classes(path: &Path) -> Result<Vec<Category>, TrainError> {
    let text = read_text(path)?;
    let class = |(expected, line): (u32, &str)| {
        let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
        let number = columns[0].parse::<u32>().ok().filter(|&number| number == expected);
        let name = columns.last().filter(|_| columns.len() > 1).and_then(|names| names.split(',').next());
        match (number, name) {
            (Some(number), Some(name)) => Ok(Category::stuff(number, name.trim())),
            _ => Err(refuse(
                path,
                format!("has the line {line:?}; expected the number {expected}, tabs and a name"),
            )),
        }
    };
    let lines = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    let categories = (1..).zip(lines).map(class).collect::<Result<Vec<_>, _>>()?;
    if categories.is_empty() || categories.len() > 255 {
        return Err(refuse(path, format!("names {} classes; expected 1 to 255", categories.len())));
    }
    Ok(categories)
}
