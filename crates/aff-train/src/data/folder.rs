//! One's own photos and label maps: `classes.txt`, `SPLIT/`, `SPLITannot/`.

use std::path::Path;

use super::files::{photos, read_text, refuse};
use super::label_maps::{LabelTable, LabelledPhotos};
use super::{Category, DataSet, DataSource, Layout};
use crate::TrainError;
use crate::tasks::TaskName;

/// The value of pixels that nothing is known of.
const UNKNOWN: u16 = 255;

/// Photos in `SPLIT/`, label maps in `SPLITannot/`, classes in `classes.txt`.
#[derive(Debug)]
pub(super) struct FolderLayout;

impl Layout for FolderLayout {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn description(&self) -> &'static str {
        "your own label maps: classes.txt (a line a class: number and name, or the name), photos in SPLIT/, grey PNGs of the same names \
         (255 is ignored) in SPLITannot/"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Semantic]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        let is_labels =
            |folder: &Path| folder.file_name().is_some_and(|name| name.to_string_lossy().ends_with("annot"));
        folder.join("classes.txt").is_file()
            && super::files::folders(folder).iter().any(|folder| is_labels(folder))
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        let categories = read_classes(&source.folder.join("classes.txt"))?;
        let label_folder = source.folder.join(format!("{}annot", source.split));
        let photos = photos(&source.folder.join(&source.split))?;
        let values = categories.iter().map(|category| category.id as u16);
        Ok(Box::new(LabelledPhotos {
            labels: LabelTable::new(values.zip(0..), [UNKNOWN]),
            files: LabelledPhotos::pairs(photos, &label_folder),
            categories,
            suffix: "",
        }))
    }
}

/// Classes, a line each: number and name, or the name alone where lines are numbered from 0. Empty lines are left out.
fn read_classes(path: &Path) -> Result<Vec<Category>, TrainError> {
    let text = read_text(path)?;
    let lines: Vec<(usize, &str)> =
        (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()).collect();
    let numbered = |line: &str| {
        let (number, name) = line.split_once(char::is_whitespace)?;
        Some((number.parse::<u16>().ok()?, name.trim().to_owned()))
    };
    let all_numbered: Option<Vec<(u16, String)>> = lines.iter().map(|(_, line)| numbered(line)).collect();
    let mut classes =
        all_numbered.unwrap_or_else(|| (0..).zip(lines.iter().map(|(_, line)| (*line).to_owned())).collect());
    classes.sort_by_key(|class| class.0);
    if classes.is_empty() {
        return Err(refuse(path, "names no class; expected a line for each: number and name, or the name"));
    }
    if let Some(pair) = classes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(refuse(
            path,
            format!("gives the number {} to {:?} and to {:?}", pair[0].0, pair[0].1, pair[1].1),
        ));
    }
    if let Some((number, name)) = classes.iter().find(|class| class.0 == UNKNOWN || class.0 == u16::MAX) {
        return Err(refuse(
            path,
            format!("gives the number {number} to {name:?}; it stands for ignored pixels"),
        ));
    }
    Ok(classes.into_iter().map(|(number, name)| Category::stuff(number.into(), name)).collect())
}
