//! ImageNet and whatever lies like it: a folder for each class.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{entries, folders, is_photo, read_text, refuse, stem};
use super::{Category, DataSet, DataSource, Layout, Sample};
use crate::TrainError;
use crate::targets::{ClassTarget, Target};
use crate::tasks::TaskName;

/// `SPLIT/CLASS/*.JPEG`; without splits (ImageNet-22k) `CLASS/*.JPEG` is the training split.
#[derive(Debug)]
pub(super) struct ImagenetLayout;

impl Layout for ImagenetLayout {
    fn name(&self) -> &'static str {
        "imagenet"
    }

    fn description(&self) -> &'static str {
        "ImageNet and the like: photos in SPLIT/CLASS/, or in CLASS/ where there are no splits (ImageNet-22k, split train); classes are those of \
         train/, by name, with the names of LOC_synset_mapping.txt if it is there"
    }

    fn tasks(&self) -> &'static [TaskName] {
        &[TaskName::Classification]
    }

    fn recognizes(&self, folder: &Path) -> bool {
        let has_photos =
            |folder: &PathBuf| entries(folder).is_ok_and(|entries| entries.iter().any(|path| is_photo(path)));
        folders(&folder.join("train")).first().is_some_and(has_photos) || has_synsets(folder)
    }

    fn open(&self, source: &DataSource) -> Result<Box<dyn DataSet>, TrainError> {
        let own = source.folder.join(&source.split);
        let is_whole = !own.is_dir() && source.split == "train" && has_synsets(&source.folder);
        let split = if is_whole { source.folder.clone() } else { own };
        let train = source.folder.join("train");
        let classes = folders(if train.is_dir() { &train } else { &split });
        if classes.is_empty() {
            return Err(refuse(
                split,
                "there are no folders in it; expected one for each class, with its photos",
            ));
        }
        let names = synset_names(&source.folder.join("LOC_synset_mapping.txt"))?;
        let place: BTreeMap<String, u32> = classes.iter().map(|folder| file_name(folder)).zip(0..).collect();
        let category = |(folder, &id): (&String, &u32)| {
            Category::thing(id, names.get(folder).unwrap_or(folder).as_str())
        };
        let categories = place.iter().map(category).collect();
        let mut photos = Vec::new();
        let mut class_folders = Vec::new();
        for folder in folders(&split) {
            let Some(&class) = place.get(&file_name(&folder)) else {
                let problem = format!(
                    "is none of the {} classes, which are the folders in {}",
                    place.len(),
                    train.display()
                );
                return Err(refuse(folder, problem));
            };
            let own = entries(&folder)?.into_iter().filter(|path| is_photo(path));
            photos.extend(own.map(|path| (class_folders.len() as u32, file_name(&path).into_boxed_str())));
            class_folders.push((class, folder));
        }
        if photos.is_empty() {
            return Err(refuse(split, "there are no photos (.jpg, .jpeg, .png) in its folders"));
        }
        Ok(Box::new(ClassFolders { categories, class_folders, photos }))
    }
}

/// Whether there are folders named after WordNet's numbers, such as `n01440764`.
fn has_synsets(folder: &Path) -> bool {
    let is_synset = |folder: &PathBuf| {
        file_name(folder)
            .strip_prefix('n')
            .is_some_and(|number| number.len() == 8 && number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    folders(folder).iter().any(is_synset)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The first name of each class folder, if the file is there: a line has the folder, a space, and names parted by commas.
fn synset_names(path: &Path) -> Result<BTreeMap<String, String>, TrainError> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let name = |line: &str| {
        let (folder, names) = line.split_once(' ')?;
        Some((folder.to_owned(), names.split(',').next()?.trim().to_owned()))
    };
    Ok(read_text(path)?.lines().filter_map(name).collect())
}

/// Photos in folders that are their classes.
#[derive(Debug)]
struct ClassFolders {
    categories: Vec<Category>,
    /// Class and folder.
    class_folders: Vec<(u32, PathBuf)>,
    /// Place of its folder, and its name: ImageNet-22k has 14 million.
    photos: Vec<(u32, Box<str>)>,
}

impl ClassFolders {
    fn path(&self, index: usize) -> PathBuf {
        let (folder, name) = &self.photos[index];
        self.class_folders[*folder as usize].1.join(&**name)
    }
}

impl DataSet for ClassFolders {
    fn categories(&self) -> &[Category] {
        &self.categories
    }

    fn len(&self) -> usize {
        self.photos.len()
    }

    fn name(&self, index: usize) -> String {
        stem(&self.path(index))
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let path = self.path(index);
        Sample::new(aff_vision::open(&path)?, self.load_target(index)?, &path)
    }

    fn load_target(&self, index: usize) -> Result<Target, TrainError> {
        Ok(Target::Class(ClassTarget::of(self.class_folders[self.photos[index].0 as usize].0)))
    }
}
