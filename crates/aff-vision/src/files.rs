//! Pictures and JSON as files, written whole or not at all.

use std::io::Cursor;
use std::path::Path;

use aff_files::write_atomically;
use image::{ImageFormat, RgbImage};
use serde::Serialize;

use crate::VisionError;

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
