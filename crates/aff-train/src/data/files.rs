//! Files of data sets: listed, paired and named without leaving their folder.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::TrainError;

/// The most bytes of a text that describes a data set; the largest one of COCO has 450 million.
pub(super) const MAX_TEXT_BYTES: u64 = 4 << 30;

/// The error of a file or folder.
pub(super) fn refuse(path: impl Into<PathBuf>, problem: impl Into<String>) -> TrainError {
    TrainError::Data { path: path.into(), problem: problem.into() }
}

/// Reads a text that describes a data set.
pub(super) fn read_text(path: &Path) -> Result<String, TrainError> {
    aff_files::read_to_string(path, MAX_TEXT_BYTES).map_err(|error| refuse(path, error.to_string()))
}

/// Whether a name is that of a photo.
pub(super) fn is_photo(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// What is in a folder, by name.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    if !folder.is_dir() {
        return Err(refuse(folder, "there is no such folder"));
    }
    let list =
        || std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut entries = list().map_err(TrainError::io(folder, "list it"))?;
    entries.sort();
    Ok(entries)
}

/// The folders in a folder, by name; none if it is not there.
pub(super) fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).unwrap_or_default().into_iter().filter(|path| path.is_dir()).collect()
}

/// The photos in a folder, by name; at least one.
pub(super) fn photos(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let photos: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| is_photo(path)).collect();
    if photos.is_empty() {
        return Err(refuse(folder, "there are no photos (.jpg, .jpeg, .png) in it"));
    }
    Ok(photos)
}

/// The file of a name that another file states; `None` if the name leads out of the folder.
pub(super) fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let name = Path::new(name);
    let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    (is_plain && name.components().next().is_some()).then(|| folder.join(name))
}

/// Whether a name is one name, and no path.
pub(super) fn is_plain(name: &str) -> bool {
    inside(Path::new(""), name).is_some_and(|path| path.components().count() == 1)
}

/// Those of the files that are not there. Each folder is listed once.
pub(super) fn missing<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
    let mut listed: std::collections::HashMap<PathBuf, HashSet<OsString>> = std::collections::HashMap::new();
    let is_missing = |file: &&PathBuf| {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return true };
        if !listed.contains_key(folder) {
            let names = entries(folder)
                .unwrap_or_default()
                .iter()
                .filter_map(|path| path.file_name().map(Into::into))
                .collect();
            listed.insert(folder.to_path_buf(), names);
        }
        !listed[folder].contains(name)
    };
    files.into_iter().filter(is_missing).cloned().collect()
}

/// Name of a file without its folder and ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_folder() {
        let folder = Path::new("data");
        assert_eq!(inside(folder, "a/b.jpg"), Some(PathBuf::from("data/a/b.jpg")));
        assert!(is_plain("a.jpg") && !is_plain("a/b.jpg") && !is_plain(".."));
        for name in ["", "..", "../b.jpg", "a/../../b.jpg", "/etc/passwd", "./b.jpg"] {
            assert_eq!(inside(folder, name), None, "{name}");
        }
    }
}
