//! Safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::WeightsError;

/// Reads every tensor of a safetensors file.
///
/// # Errors
/// [`WeightsError::Io`] if the file cannot be read, [`WeightsError::Safetensors`] if it is damaged.
pub fn read_tensor_file(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    let bytes = std::fs::read(path).map_err(WeightsError::io(path, "read it"))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|error| safetensors_error(path, &bytes, &error))?;
    Ok(tensors.into_iter().collect())
}

/// Writes tensors as a safetensors file, whole or not at all.
///
/// # Errors
/// [`WeightsError::Io`] if the file cannot be written.
pub fn write_tensor_file(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), WeightsError> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|error| {
        WeightsError::Safetensors { path: path.to_path_buf(), problem: error.to_string() }
    })?;
    write_file(path, &bytes)
}

/// An error that says what the file looks like.
pub(crate) fn safetensors_error(path: &Path, bytes: &[u8], error: &dyn std::fmt::Display) -> WeightsError {
    let pointer = bytes.starts_with(b"version https://git-lfs");
    let problem = if pointer {
        "it is a Git LFS pointer; fetch the file itself (`git lfs pull`)".to_owned()
    } else {
        error.to_string()
    };
    WeightsError::Safetensors { path: path.to_path_buf(), problem }
}

/// Writes a file whole or not at all.
pub(crate) fn write_file(path: &Path, contents: &[u8]) -> Result<(), WeightsError> {
    aff_vision::write_atomically(path, contents).map_err(WeightsError::io(path, "write it"))
}
