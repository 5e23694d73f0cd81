//! Outputs compared with inputs, before anything is computed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::FileError;
use crate::identity::Identity;
use crate::target::{folder_of, follow_links};

/// Files that are read, and files that will be written: none of the latter may be one of the former, or be written twice.
///
/// Files are the same if the system says so (through symbolic and hard links, `..` and relative paths), or if they lie in one folder
/// under names that differ in upper and lower case at most: on many systems these are one file, and results should not depend on that.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let photo = folder.path().join("Street.jpg");
/// std::fs::write(&photo, b"...").unwrap();
/// let mut files = aff_files::Protected::default();
/// files.protect(&photo);
/// assert!(files.claim(folder.path().join("./street.JPG")).is_err());
/// files.claim(folder.path().join("street.map.png")).unwrap();
/// let error = files.claim(folder.path().join("STREET.map.png")).unwrap_err().to_string();
/// assert!(error.contains("another output"), "{error}");
/// ```
#[derive(Debug, Default)]
pub struct Protected {
    inputs: HashMap<Key, PathBuf>,
    folders: HashMap<Identity, PathBuf>,
    outputs: HashMap<Key, PathBuf>,
}

impl Protected {
    /// Adds a file that is read, or a folder of which nothing but its name is read.
    pub fn protect(&mut self, input: impl AsRef<Path>) {
        let input = input.as_ref();
        for key in Key::all_of(input) {
            self.inputs.entry(key).or_insert_with(|| input.to_path_buf());
        }
    }

    /// Adds a folder in which no file may be written, however deep.
    pub fn protect_folder(&mut self, folder: impl AsRef<Path>) {
        let folder = folder.as_ref();
        if let Some(identity) = Identity::of_path(folder) {
            self.folders.entry(identity).or_insert_with(|| folder.to_path_buf());
        }
    }

    /// Whether a file may be written.
    ///
    /// # Errors
    /// [`FileError::OverwritesInput`], [`FileError::OverwritesOutput`].
    pub fn check(&self, output: impl AsRef<Path>) -> Result<(), FileError> {
        let output = output.as_ref();
        let keys = Key::all_of(output);
        let found = |files: &HashMap<Key, PathBuf>| keys.iter().find_map(|key| files.get(key).cloned());
        let output = output.to_path_buf();
        if let Some(input) = found(&self.inputs).or_else(|| self.folder_around(&output)) {
            return Err(FileError::OverwritesInput { output, input });
        }
        match found(&self.outputs) {
            Some(other) => Err(FileError::OverwritesOutput { output, other }),
            None => Ok(()),
        }
    }

    /// As [`check`](Self::check); from now on the file is an output.
    ///
    /// # Errors
    /// The same.
    pub fn claim(&mut self, output: impl AsRef<Path>) -> Result<(), FileError> {
        let output = output.as_ref();
        self.check(output)?;
        self.outputs.extend(Key::all_of(output).into_iter().map(|key| (key, output.to_path_buf())));
        Ok(())
    }

    fn folder_around(&self, output: &Path) -> Option<PathBuf> {
        if self.folders.is_empty() {
            return None;
        }
        let (folder, _) = existing_folder(output)?;
        let folder = std::fs::canonicalize(folder).ok()?;
        folder.ancestors().find_map(|folder| self.folders.get(&Identity::of_path(folder)?).cloned())
    }
}

/// What two paths have in common that name one file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    File(Identity),
    /// The names from an existing folder on, in lower case: one for a file in that folder.
    Name(Identity, Vec<String>),
}

impl Key {
    /// None for devices and pipes, which keep nothing that could be overwritten.
    fn all_of(path: &Path) -> Vec<Self> {
        let metadata = std::fs::metadata(path);
        if metadata.is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            return Vec::new();
        }
        let file = Identity::of_path(path).map(Self::File);
        let name = existing_folder(path)
            .and_then(|(folder, names)| Some(Self::Name(Identity::of_path(&folder)?, names)));
        file.into_iter().chain(name).collect()
    }
}

/// The innermost folder that exists on the way to a file, and the names from there, in lower case.
fn existing_folder(path: &Path) -> Option<(PathBuf, Vec<String>)> {
    let mut path = follow_links(path).ok()?;
    let mut names = Vec::new();
    loop {
        names.push(path.file_name()?.to_string_lossy().to_lowercase());
        path = folder_of(&path).to_path_buf();
        if path.is_dir() {
            names.reverse();
            return Some((path, names));
        }
    }
}
