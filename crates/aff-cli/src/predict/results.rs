//! The files of a photo's results, and what they must not replace.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use autofocusformer::files::Protected;
use autofocusformer::vision::{self, RgbImage};

use super::pipeline::Found;
use crate::model_args::model_files;
use crate::sources::Source;

const OVERLAY: &str = "overlay.png";
const MAP: &str = "map.png";
const JSON: &str = "json";

/// Where results go and which there are.
pub(super) struct Results<'a> {
    pub(super) folder: &'a Path,
    pub(super) with_json: bool,
}

impl Results<'_> {
    /// Refuses results that would replace a photo, or one another.
    pub(super) fn check_sources(&self, sources: &[Source]) -> Result<()> {
        let mut files = Protected::default();
        for source in sources.iter().filter(|source| !source.is_stdin()) {
            files.protect(&source.path);
        }
        for source in sources {
            self.paths(source).try_for_each(|path| files.claim(path))?;
        }
        Ok(())
    }

    /// Refuses results that would replace a file of the model.
    pub(super) fn check_model(&self, model: &Path, sources: &[Source]) -> Result<()> {
        let mut files = Protected::default();
        let of_model = model_files(model);
        of_model.iter().for_each(|file| files.protect(file));
        if !of_model.is_empty() {
            sources.iter().flat_map(|source| self.paths(source)).try_for_each(|path| files.check(path))?;
        }
        Ok(())
    }

    /// Everything that may be written (or removed) for a photo.
    fn paths<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = PathBuf> + 'a {
        let kinds = [OVERLAY, MAP].into_iter().chain(self.with_json.then_some(JSON));
        kinds.map(|kind| self.path(source, kind))
    }

    fn path(&self, source: &Source, kind: &str) -> PathBuf {
        let mut path = self.folder.join(&source.name).into_os_string();
        path.push(".");
        path.push(kind);
        path.into()
    }

    /// Writes the results of a photo; returns the files.
    pub(super) fn write(&self, source: &Source, photo: &RgbImage, found: &Found) -> Result<Vec<PathBuf>> {
        let [overlay, map, json] = [OVERLAY, MAP, JSON].map(|kind| self.path(source, kind));
        if let Some(folder) = overlay.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot make the folder for the results", folder.display()))?;
        }
        vision::write_png(&overlay, &found.overlay(photo)?)?;
        let mut files = vec![overlay];
        let has_map = match found {
            Found::Segments(segmentation) => segmentation.write_map(&map)?,
            Found::Boxes(_) => false,
        };
        if has_map {
            files.push(map);
        } else {
            // That of an earlier run would contradict the other files.
            remove(&map)?;
        }
        if self.with_json {
            match found {
                Found::Segments(segmentation) => segmentation.write_json(&json)?,
                Found::Boxes(detections) => {
                    let name = source.name.file_name().unwrap_or_default();
                    detections.write_coco(&json, &name.to_string_lossy())?;
                }
            }
            files.push(json);
        }
        Ok(files)
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot remove the map of an earlier run", path.display()))
        }
        _ => Ok(()),
    }
}
