//! Photos as a user names them: files, folders, patterns, standard input.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use autofocusformer::vision::{self, RgbImage};

/// Endings of files that a folder is searched for.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "jfif"];
/// Stands for standard input.
const STDIN: &str = "-";

/// A photo and the name of its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// Of whatever bytes the system allows.
    pub(crate) stem: OsString,
}

impl Source {
    /// Reads the photo.
    pub(crate) fn open(&self) -> Result<RgbImage> {
        if self.path != Path::new(STDIN) {
            return Ok(vision::open(&self.path)?);
        }
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        vision::decode(&bytes).context("standard input")
    }
}

/// All photos that the arguments name, folders in alphabetical order; no two may have results of one name.
pub(crate) fn expand(arguments: &[PathBuf]) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            paths.extend(photos_in(argument)?);
        } else if !argument.exists() && argument.to_string_lossy().contains(['*', '?', '[']) {
            paths.extend(matches(&argument.to_string_lossy())?);
        } else {
            paths.push(argument.clone());
        }
    }
    let mut seen: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    let mut sources = Vec::with_capacity(paths.len());
    for path in paths {
        let stem = if path == Path::new(STDIN) {
            OsString::from("stdin")
        } else {
            path.file_stem()
                .map(OsString::from)
                .with_context(|| format!("{}: not the name of a photo", path.display()))?
        };
        if let Some(other) = seen.insert(stem.clone(), path.clone()) {
            bail!(
                "{}: another photo is named {stem:?} as well ({}); their results would overwrite each other",
                path.display(),
                other.display()
            );
        }
        sources.push(Source { path, stem });
    }
    Ok(sources)
}

fn photos_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{}: cannot read the folder", folder.display()))?;
    let is_photo = |path: &PathBuf| {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
    };
    let mut photos: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_photo).collect();
    if photos.is_empty() {
        bail!(
            "{}: no photo in this folder; expected files that end in .{}",
            folder.display(),
            ENDINGS.join(", .")
        );
    }
    photos.sort();
    Ok(photos)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let found = glob::glob(pattern).with_context(|| format!("{pattern}: not a pattern of file names"))?;
    let found: Vec<PathBuf> = found.filter_map(Result::ok).filter(|path| path.is_file()).collect();
    if found.is_empty() {
        bail!("{pattern}: no file matches this pattern");
    }
    Ok(found)
}
