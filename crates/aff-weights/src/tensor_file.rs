//! Safetensors files, read and written a tensor at a time: memory is that of the tensors, not of the file besides.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::View;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::WeightsError;

/// A header beyond this is no model's.
const LARGEST_HEADER: u64 = 100 << 20;
const GIT_LFS_POINTER: &[u8] = b"version https://git-lfs";

/// An open file (or what would be in one) and its header.
pub(crate) struct TensorFile<R = File> {
    path: PathBuf,
    file: R,
    metadata: Metadata,
    /// Where the tensors' bytes start.
    start: u64,
}

impl TensorFile {
    /// Reads the header and checks that the file is as long as it says.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(WeightsError::io(path, "read it"))?;
        let size = file.metadata().map_err(WeightsError::io(path, "read it"))?.len();
        Self::new(file, size, path)
    }
}

impl<R: Read + Seek> TensorFile<R> {
    /// As [`Self::open`], of `size` bytes that are called `path` in errors.
    fn new(mut file: R, size: u64, path: &Path) -> Result<Self, WeightsError> {
        let refuse = |problem: String| WeightsError::Safetensors { path: path.to_path_buf(), problem };
        let mut header = vec![0; 8.min(size as usize)];
        file.read_exact(&mut header).map_err(WeightsError::io(path, "read it"))?;
        if GIT_LFS_POINTER.starts_with(&header) && !header.is_empty() {
            return Err(refuse("it is a Git LFS pointer; fetch the file itself (`git lfs pull`)".to_owned()));
        }
        let Ok(length) = <[u8; 8]>::try_from(header.as_slice()).map(u64::from_le_bytes) else {
            return Err(refuse(format!("it has {size} bytes, too few for a header")));
        };
        if length > LARGEST_HEADER || length > size - 8 {
            return Err(refuse(format!("a header of {length} bytes in a file of {size}")));
        }
        header.resize(8 + length as usize, 0);
        file.read_exact(&mut header[8..]).map_err(WeightsError::io(path, "read it"))?;
        let metadata: Metadata = serde_json::from_slice(&header[8..])
            .map_err(|error| refuse(format!("its header is not that of a safetensors file: {error}")))?;
        let start = 8 + length;
        check_layout(&metadata, size - start).map_err(refuse)?;
        Ok(Self { path: path.to_path_buf(), file, metadata, start })
    }

    /// Names of the tensors, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.metadata.tensors().into_keys().collect();
        names.sort();
        names
    }

    /// Reads one tensor.
    pub(crate) fn read(&mut self, name: &str, device: &Device) -> Result<Tensor, WeightsError> {
        let refuse = |problem: String| WeightsError::Safetensors { path: self.path.clone(), problem };
        let Some(info) = self.metadata.info(name) else {
            return Err(refuse(format!("there is no tensor {name}")));
        };
        let dtype = DType::try_from(info.dtype).map_err(|_| {
            refuse(format!("tensor {name} has the type {:?}, which is not supported", info.dtype))
        })?;
        let (from, until) = info.data_offsets;
        let mut bytes = vec![0; until - from];
        let read = self
            .file
            .seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(WeightsError::io(&self.path, "read it"))?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &info.shape, device)?)
    }
}

/// The tensors must fill the rest of the file one after another, each as long as its shape says: so that none lies outside, and many
/// cannot share a few bytes to fill the memory.
fn check_layout(metadata: &Metadata, size: u64) -> Result<(), String> {
    let mut all: Vec<_> = metadata.tensors().into_iter().collect();
    all.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in &all {
        let (from, until) = info.data_offsets;
        let count = info.shape.iter().try_fold(1_usize, |count, &length| count.checked_mul(length));
        let bits = count.and_then(|count| count.checked_mul(info.dtype.bitsize()));
        if from != end || until < from || bits != (until - from).checked_mul(8) {
            return Err(format!(
                "tensor {name} of shape {:?} and type {:?} is said to lie from byte {from} to {until}; expected it to begin at {end} and to \
                 be as long as its shape says",
                info.shape, info.dtype
            ));
        }
        end = until;
    }
    if end as u64 != size {
        return Err(format!("it has {size} bytes of tensors; its header promises {end}"));
    }
    Ok(())
}

/// Reads every tensor of a safetensors file.
///
/// # Errors
/// [`WeightsError::Io`] if the file cannot be read, [`WeightsError::Safetensors`] if it is damaged.
pub fn read_tensor_file(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    Ok(read_tensor_file_with_metadata(path, device)?.0)
}

/// As [`read_tensor_file`], with the texts of the header.
///
/// # Errors
/// The same.
pub fn read_tensor_file_with_metadata(path: &Path, device: &Device) -> Result<TensorsAndTexts, WeightsError> {
    read_all(TensorFile::open(path)?, device)
}

/// Reads every tensor of a safetensors file that is in memory; errors call it `name`.
///
/// # Errors
/// [`WeightsError::Safetensors`] if it is damaged.
pub fn read_tensor_bytes(
    bytes: &[u8],
    name: &str,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    let file = TensorFile::new(Cursor::new(bytes), bytes.len() as u64, Path::new(name))?;
    Ok(read_all(file, device)?.0)
}

/// Tensors by name, and the texts of the header by key.
pub type TensorsAndTexts = (BTreeMap<String, Tensor>, BTreeMap<String, String>);

fn read_all<R: Read + Seek>(
    mut file: TensorFile<R>,
    device: &Device,
) -> Result<TensorsAndTexts, WeightsError> {
    let metadata = file.metadata.metadata().clone().unwrap_or_default().into_iter().collect();
    let names = file.names();
    let tensors: Result<_, WeightsError> =
        names.into_iter().map(|name| Ok((name.clone(), file.read(&name, device)?))).collect();
    Ok((tensors?, metadata))
}

/// Writes tensors as a safetensors file, whole or not at all.
///
/// # Errors
/// [`WeightsError::Io`] if the file cannot be written.
pub fn write_tensor_file(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), WeightsError> {
    write_tensor_file_with_metadata(path, tensors, BTreeMap::new())
}

/// As [`write_tensor_file`], with texts in the header besides `format`.
///
/// # Errors
/// The same.
pub fn write_tensor_file_with_metadata(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let format = ("format".to_owned(), "pt".to_owned());
    let metadata: HashMap<String, String> = [format].into_iter().chain(metadata).collect();
    // Wider types first, as the format's own writer has it: then every tensor is aligned.
    let mut tensors: Vec<(&String, &Tensor)> = tensors.iter().collect();
    tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(View::dtype(tensor)));
    let header = header(&tensors, metadata)
        .map_err(|problem| WeightsError::Safetensors { path: path.to_path_buf(), problem })?;
    aff_files::write_atomically_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| file.write_all(&View::data(tensor)))
    })
    .map_err(WeightsError::io(path, "write it"))
}

/// The header of tensors that lie one after another in the given order, filled up to a multiple of 8 bytes.
fn header(tensors: &[(&String, &Tensor)], metadata: HashMap<String, String>) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let from = end;
        end += View::data_len(tensor);
        let shape = tensor.dims().to_vec();
        ((*name).clone(), TensorInfo { dtype: View::dtype(tensor), shape, data_offsets: (from, end) })
    });
    let metadata = Metadata::new(Some(metadata), infos.collect()).map_err(|error| error.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Writes a file whole or not at all.
pub(crate) fn write_file(path: &Path, contents: &[u8]) -> Result<(), WeightsError> {
    aff_files::write_atomically(path, contents).map_err(WeightsError::io(path, "write it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> BTreeMap<String, Tensor> {
        let range = |count: u32| Tensor::arange(0, count, &Device::Cpu).unwrap();
        let tensors = [
            ("wide", range(3).to_dtype(DType::F64)),
            ("b.half", range(5).to_dtype(DType::F16)),
            ("a.single", range(6).reshape((3, 2)).and_then(|range| range.t()?.to_dtype(DType::F32))),
            ("empty", range(0).to_dtype(DType::F32)),
            ("byte", range(7).to_dtype(DType::U8)),
        ];
        tensors.map(|(name, tensor)| (name.to_owned(), tensor.unwrap())).into()
    }

    #[test]
    fn files_are_those_of_the_formats_own_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_tensor_file(&path, &tensors()).unwrap();
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        assert_eq!(std::fs::read(&path).unwrap(), safetensors::serialize(tensors(), Some(metadata)).unwrap());
    }

    #[test]
    fn a_full_disk_is_no_damaged_file() {
        if Path::new("/dev/full").exists() {
            let error = write_tensor_file(Path::new("/dev/full"), &tensors()).unwrap_err().to_string();
            assert!(error.contains("cannot write it: No space left on device"), "{error}");
        }
    }
}
