//! Safetensors files, read and written a tensor at a time: memory is that of the tensors, not of the file besides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::View;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::WeightsError;
use crate::checksum::{Checksum, is_own};
use crate::error::brief;

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
        let file = aff_files::open_regular(path)?;
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
        let metadata: Metadata = serde_json::from_slice(&header[8..]).map_err(|error| {
            refuse(format!("its header is not that of a safetensors file: {}", brief(&error.to_string())))
        })?;
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

    /// Type of a tensor's elements.
    ///
    /// # Errors
    /// [`WeightsError::Safetensors`] if there is no such tensor, or of a type that Candle has not.
    pub(crate) fn dtype(&self, name: &str) -> Result<DType, WeightsError> {
        let dtype = self.info(name)?.dtype;
        DType::try_from(dtype).map_err(|_| {
            self.refuse(format!("tensor {} has the type {dtype:?}, which is not supported", brief(name)))
        })
    }

    /// Reads one tensor.
    pub(crate) fn read(&mut self, name: &str, device: &Device) -> Result<Tensor, WeightsError> {
        let dtype = self.dtype(name)?;
        let bytes = self.read_bytes(name)?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &self.info(name)?.shape, device)?)
    }

    /// Reads every tensor, hands each to `take` and compares the checksum, if the file has one.
    ///
    /// # Errors
    /// What `take` returns; [`WeightsError::Safetensors`] if the contents are not those that the file was written with.
    pub(crate) fn read_all(
        &mut self,
        device: &Device,
        mut take: impl FnMut(String, Tensor) -> Result<(), WeightsError>,
    ) -> Result<(), WeightsError> {
        let texts = self.texts();
        let mut sum = Checksum::new(&texts);
        for name in self.names() {
            let dtype = self.dtype(&name)?;
            let bytes = self.read_bytes(&name)?;
            let info = self.info(&name)?;
            sum.tensor(&name, info.dtype, &info.shape, &bytes);
            let tensor = Tensor::from_raw_buffer(&bytes, dtype, &info.shape, device)?;
            take(name, tensor)?;
        }
        if sum.agrees_with(&texts) {
            return Ok(());
        }
        Err(self.refuse(
            "its contents are not those that it was written with (the checksum in its header differs)"
                .to_owned(),
        ))
    }

    /// The texts of the header.
    fn texts(&self) -> BTreeMap<String, String> {
        self.metadata.metadata().iter().flatten().map(|(key, text)| (key.clone(), text.clone())).collect()
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, WeightsError> {
        self.metadata.info(name).ok_or_else(|| self.refuse(format!("there is no tensor {}", brief(name))))
    }

    fn read_bytes(&mut self, name: &str) -> Result<Vec<u8>, WeightsError> {
        let (from, until) = self.info(name)?.data_offsets;
        let mut bytes = vec![0; until - from];
        let read = self
            .file
            .seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(WeightsError::io(&self.path, "read it"))?;
        Ok(bytes)
    }

    fn refuse(&self, problem: String) -> WeightsError {
        WeightsError::Safetensors { path: self.path.clone(), problem }
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
                "tensor {} of shape {} and type {:?} is said to lie from byte {from} to {until}; expected it to begin at {end} and \
                 to be as long as its shape says",
                brief(name),
                brief(&format!("{:?}", info.shape)),
                info.dtype
            ));
        }
        end = until;
    }
    if end as u64 != size {
        return Err(format!("it has {size} bytes of tensors; its header promises {end}"));
    }
    Ok(())
}

/// Reads every tensor of a safetensors file. What this project wrote carries a checksum, which is compared.
///
/// # Errors
/// [`WeightsError::File`] or [`WeightsError::Io`] if the file cannot be read, [`WeightsError::Safetensors`] if it is damaged.
pub fn read_tensor_file(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    Ok(read_tensor_file_with_metadata(path, device)?.0)
}

/// As [`read_tensor_file`], with the texts of the header but those of its checksum.
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
    let mut tensors = BTreeMap::new();
    file.read_all(device, |name, tensor| {
        tensors.insert(name, tensor);
        Ok(())
    })?;
    let texts = file.texts().into_iter().filter(|(key, _)| !is_own(key)).collect();
    Ok((tensors, texts))
}

/// Writes tensors as a safetensors file, whole or not at all, with a checksum of all that is in it.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("weights.safetensors");
/// use candle_core::{Device, Tensor};
///
/// let tensors = [("w".to_owned(), Tensor::new(&[1_f32, 2.0], &Device::Cpu).unwrap())].into();
/// aff_weights::write_tensor_file(&path, &tensors).unwrap();
///
/// let mut bytes = std::fs::read(&path).unwrap();
/// *bytes.last_mut().unwrap() ^= 1;
/// std::fs::write(&path, bytes).unwrap();
/// let error = aff_weights::read_tensor_file(&path, &Device::Cpu).unwrap_err();
/// assert!(error.to_string().contains("checksum"));
/// ```
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
    let mut texts = metadata;
    texts.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    let mut sum = Checksum::new(&texts);
    for (name, tensor) in tensors {
        sum.tensor(name, View::dtype(&tensor), tensor.dims(), &View::data(&tensor));
    }
    sum.write(&mut texts);

    // As other writers of the format have it: the widest types first, so that every tensor is aligned.
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(View::dtype(tensor)));
    let header = header(&order, &texts).map_err(|error| WeightsError::Safetensors {
        path: path.to_path_buf(),
        problem: error.to_string(),
    })?;
    let written = aff_files::write_atomically_with(path, |file| {
        file.write_all(&header)?;
        order.iter().try_for_each(|(_, tensor)| file.write_all(&View::data(tensor)))
    });
    written.map_err(WeightsError::io(path, "write it"))
}

/// What the tensors' bytes, in this order, come after: the length of the header and the header, filled up with spaces to a
/// multiple of eight bytes. Unlike the format's own writer this one keeps the texts in order, so that equal contents are equal files.
fn header(order: &[(&String, &Tensor)], texts: &BTreeMap<String, String>) -> serde_json::Result<Vec<u8>> {
    let mut json = serde_json::to_string(&BTreeMap::from([("__metadata__", texts)]))?;
    json.pop();
    let mut end = 0;
    for (name, tensor) in order {
        let start = end;
        end += View::data_len(tensor);
        let (dtype, shape) = (View::dtype(tensor), tensor.dims().to_vec());
        let info = TensorInfo { dtype, shape, data_offsets: (start, end) };
        json += &format!(",{}:{}", serde_json::to_string(name)?, serde_json::to_string(&info)?);
    }
    json.push('}');
    let mut header = json.into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header].concat())
}

/// Writes a file whole or not at all.
pub(crate) fn write_file(path: &Path, contents: &[u8]) -> Result<(), WeightsError> {
    aff_files::write_atomically(path, contents).map_err(WeightsError::io(path, "write it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_tensors() -> BTreeMap<String, Tensor> {
        let range = |count: u32| Tensor::arange(0, count, &Device::Cpu).unwrap();
        let tensors = [
            ("wide", range(3).to_dtype(DType::F64)),
            ("half", range(5).to_dtype(DType::F16)),
            ("a", range(6).reshape((3, 2)).and_then(|range| range.t()?.to_dtype(DType::F32))),
            ("b", range(6).reshape((2, 3)).and_then(|range| range.to_dtype(DType::F32))),
            ("empty", range(0).to_dtype(DType::F32)),
            ("byte", range(7).to_dtype(DType::U8)),
        ];
        tensors.map(|(name, tensor)| (name.to_owned(), tensor.unwrap())).into()
    }

    #[test]
    fn every_flipped_bit_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let texts = BTreeMap::from([("step".to_owned(), "12".to_owned())]);
        write_tensor_file_with_metadata(&path, &some_tensors(), texts.clone()).unwrap();
        let (_, found) = read_tensor_file_with_metadata(&path, &Device::Cpu).unwrap();
        assert_eq!(found["step"], "12");
        assert_eq!(found.len(), 2, "{found:?}");
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let read = read_tensor_bytes(&flipped, "flipped", &Device::Cpu);
                assert!(read.is_err(), "bit {bit} of byte {at}: {:?}", char::from(bytes[at]));
            }
        }
    }

    #[test]
    fn exchanged_names_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        write_tensor_file(&path, &some_tensors()).unwrap();
        let text: Vec<u8> = std::fs::read(&path).unwrap();
        let exchange = |from: &[u8], to: &[u8], bytes: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            [&bytes[..at], to, &bytes[at + from.len()..]].concat()
        };
        let exchanged = exchange(b"\"a\":", b"\"c\":", &text);
        let exchanged = exchange(b"\"b\":", b"\"a\":", &exchanged);
        let exchanged = exchange(b"\"c\":", b"\"b\":", &exchanged);
        let error = read_tensor_bytes(&exchanged, "exchanged", &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
    }

    #[test]
    fn files_of_other_programs_have_no_checksum() {
        let bytes = safetensors::serialize(some_tensors(), None).unwrap();
        let tensors = read_tensor_bytes(&bytes, "other", &Device::Cpu).unwrap();
        assert_eq!(tensors["a"].to_vec2::<f32>().unwrap(), [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]);
        assert_eq!(tensors["byte"].to_vec1::<u8>().unwrap(), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn other_programs_read_what_is_written_and_it_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let write = || {
            let path = folder.path().join("weights.safetensors");
            write_tensor_file(&path, &some_tensors()).unwrap();
            std::fs::read(&path).unwrap()
        };
        let bytes = write();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let theirs = safetensors::serialize(some_tensors(), None).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&theirs).unwrap();
        assert_eq!(read.len(), 6);
        for (name, tensor) in theirs.iter() {
            assert_eq!(read.tensor(name).unwrap(), tensor, "{name}");
        }
        for _ in 0..4 {
            assert!(write() == bytes);
        }
    }

    /// What is wrong there is the disk, not the file.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_no_damaged_file() {
        let full = Path::new("/dev/full");
        let error = write_tensor_file(full, &some_tensors()).unwrap_err();
        let WeightsError::Io { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }
}
