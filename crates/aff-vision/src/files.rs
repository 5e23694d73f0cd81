//! Files that are written whole or not at all.

use std::io::{Cursor, Write};
use std::path::Path;

use image::{ImageFormat, RgbImage};
use serde::Serialize;

use crate::VisionError;

/// Writes a file beside its target and renames it into place, so that a crash leaves the old file or the new one.
///
/// # Errors
/// What the system says; nothing is left behind then.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("result.json");
/// aff_vision::write_atomically(&path, b"{}").unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"{}");
/// assert!(aff_vision::write_atomically(&folder.path().join("no/such/folder.json"), b"{}").is_err());
/// ```
pub fn write_atomically(path: impl AsRef<Path>, contents: &[u8]) -> std::io::Result<()> {
    write_atomically_with(path, |temporary| {
        std::fs::OpenOptions::new().write(true).open(temporary)?.write_all(contents)
    })
}

/// As [`write_atomically`], with contents that `write` puts into the file it is given the path of.
///
/// # Errors
/// What the system or `write` says; nothing is left behind then.
pub fn write_atomically_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let path = path.as_ref();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".aff-");
    // Temporary files are private by default; results are not secrets.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let file = builder.tempfile_in(folder)?;
    write(file.path())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Writes a picture as PNG, whole or not at all.
///
/// # Errors
/// [`VisionError::Write`].
pub fn write_png(path: impl AsRef<Path>, image: &RgbImage) -> Result<(), VisionError> {
    write_encoded(path.as_ref(), |bytes| image.write_to(bytes, ImageFormat::Png))
}

/// Writes any serialisable value as indented JSON with a final newline, whole or not at all.
///
/// # Errors
/// [`VisionError::Write`].
pub fn write_json(path: impl AsRef<Path>, value: &impl Serialize) -> Result<(), VisionError> {
    let path = path.as_ref();
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| VisionError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
        source: None,
    })?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Encodes a PNG in memory, then writes it.
pub(crate) fn write_encoded(
    path: &Path,
    encode: impl FnOnce(&mut Cursor<Vec<u8>>) -> image::ImageResult<()>,
) -> Result<(), VisionError> {
    let mut bytes = Cursor::new(Vec::new());
    encode(&mut bytes).map_err(|error| VisionError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
        source: None,
    })?;
    write(path, bytes.get_ref())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), VisionError> {
    write_atomically(path, bytes).map_err(|error| VisionError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
        source: Some(error),
    })
}
