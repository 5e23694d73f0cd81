//! Reading of reference checkpoints (section 12 of the method): torch archives and detectron2 pickles.
//!
//! A checkpoint is hostile until shown otherwise: nothing in it is executed, sizes are bounded by the file, and a tensor
//! that reaches outside its storage is refused. Its tensors take at most twice the bytes of the file, and reading it at most 160
//! bytes for each byte of a pickle, up to 256 MiB.

mod archive;
mod legacy;
mod numpy;
mod pickle;
mod python;
mod state;
mod tensor;
mod torch;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

pub use pickle::PickleError;
pub use tensor::{CheckpointTensor, ElementType};

use archive::{Archive, ArchiveStorages, archive_error};
use pickle::{Id, Pickle};
use tensor::Budget;
use torch::NoStorages;

use crate::WeightsError;
use crate::checksum::hex;
use crate::error::brief;

/// A pickle on its own, without an archive, is read whole; a larger one is no published checkpoint.
const LARGEST_PICKLE: u64 = 8 << 30;
/// Longest pickle of an archive, which holds no tensors; published ones have a few hundred kilobytes, with an optimiser a few
/// megabytes.
const LARGEST_ARCHIVE_PICKLE: u64 = 64 << 20;
/// Start of a zip archive.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// Start of a pickle of protocol 2 or later.
const PICKLE_MAGIC: u8 = 0x80;
/// What a reference checkpoint holds.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// How the file was written.
    pub format: CheckpointFormat,
    /// Every tensor of `model`, by name.
    pub tensors: BTreeMap<String, CheckpointTensor>,
    /// The configuration that a classification checkpoint carries, as plain data.
    pub config: Option<serde_json::Value>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// How a checkpoint was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointFormat {
    /// `torch.save` since 1.6: a zip archive.
    Torch,
    /// detectron2's model zoo: a pickle of numpy arrays, or of torch tensors.
    Detectron2,
}

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is something else.
    #[error(
        "{0}; expected a checkpoint written by torch.save (1.6 or later) or a pickle of detectron2's model zoo"
    )]
    NotACheckpoint(String),
    /// The archive is damaged or of a kind that torch does not write.
    #[error("the archive is damaged or not written by torch: {0}")]
    Archive(String),
    /// The pickle is damaged or of a kind that checkpoints do not use.
    #[error("the pickle is damaged: {0}")]
    Pickle(#[from] PickleError),
    /// The pickle is whole, but what it describes is no checkpoint.
    #[error("not a checkpoint of the reference implementation: {0}")]
    Structure(String),
    /// A tensor is described in a way that cannot be.
    #[error("tensor `{name}`: {problem}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl Checkpoint {
    /// Reads the model and, if there is one, the configuration of a checkpoint; what else it holds (optimiser, schedule)
    /// is not read.
    ///
    /// # Errors
    /// [`WeightsError::File`] if it is no regular file or cannot be opened, [`WeightsError::Checkpoint`] says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        Self::read_from(aff_files::open_regular(path)?)
            .map_err(|source| WeightsError::Checkpoint { path: path.to_path_buf(), source })
    }

    /// As [`Self::read`], from anything that can be read at any place.
    ///
    /// ```
    /// use std::io::Cursor;
    ///
    /// let error = aff_weights::Checkpoint::read_from(Cursor::new(b"# not a checkpoint")).unwrap_err();
    /// assert!(error.to_string().contains("# not a checkpoi"));
    /// ```
    ///
    /// # Errors
    /// [`CheckpointError`] says what is wrong with it.
    pub fn read_from(mut file: impl Read + Seek) -> Result<Self, CheckpointError> {
        let sha256 = sha256(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        let mut start = Vec::new();
        file.by_ref().take(64).read_to_end(&mut start)?;
        if start.starts_with(&ZIP_MAGIC) {
            return read_torch(file, sha256);
        }
        if start.first() != Some(&PICKLE_MAGIC) {
            return Err(CheckpointError::NotACheckpoint(format!(
                "a file that starts with {}",
                first_bytes(&start)
            )));
        }
        if legacy::is_legacy(&start) {
            let problem = "a torch file from before 1.6 (load it with torch and save it again)";
            return Err(CheckpointError::NotACheckpoint(problem.to_owned()));
        }
        let length = file.seek(SeekFrom::End(0))?;
        if length > LARGEST_PICKLE {
            return Err(CheckpointError::NotACheckpoint(format!("a pickle of {length} bytes")));
        }
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(length).read_to_end(&mut bytes)?;
        let pickle = Pickle::parse(&bytes)?;
        let tensors = state::tensors(&pickle, model(&pickle)?, &mut NoStorages, Budget::of_file(length))?;
        Ok(Self { format: CheckpointFormat::Detectron2, tensors, config: None, sha256 })
    }
}

fn read_torch(mut file: impl Read + Seek, sha256: String) -> Result<Checkpoint, CheckpointError> {
    let budget = Budget::of_file(file.seek(SeekFrom::End(0))?);
    let mut archive = Archive::open(file)?;
    let root = archive.root_folder()?;
    let bytes = archive_pickle(&mut archive, &root)?;
    let pickle = Pickle::parse(&bytes)?;
    let mut storages = ArchiveStorages { archive: &mut archive, root: &root };
    let tensors = state::tensors(&pickle, model(&pickle)?, &mut storages, budget)?;
    let config = pickle.get(pickle.root(), "config").map(|config| python::to_json(&pickle, config));
    let config = config
        .transpose()
        .map_err(|problem| CheckpointError::Structure(format!("its entry `config` {problem}")))?;
    Ok(Checkpoint { format: CheckpointFormat::Torch, tensors, config, sha256 })
}

/// The pickle that describes an archive's checkpoint.
fn archive_pickle<R: Read + Seek>(archive: &mut Archive<R>, root: &str) -> Result<Vec<u8>, CheckpointError> {
    let byte_order = format!("{root}/byteorder");
    if let Some(length) = archive.length(&byte_order) {
        let order = archive.read(&byte_order, 0, length.min(16))?;
        if order.trim_ascii() != b"little" {
            return Err(archive_error(
                "it was written on a big-endian machine; load it there and save it again",
            ));
        }
    }
    let name = format!("{root}/data.pkl");
    let length = archive.length(&name).unwrap_or(0);
    if length > LARGEST_ARCHIVE_PICKLE {
        return Err(archive_error(format!("its pickle has {length} bytes")));
    }
    archive.read(&name, 0, length)
}

/// The dictionary of the model's tensors.
fn model(pickle: &Pickle<'_>) -> Result<Id, CheckpointError> {
    let keys = || {
        let entries = pickle.entries(pickle.root()).unwrap_or(&[]);
        let names: Vec<_> =
            entries.iter().filter_map(|&(key, _)| pickle.str(key)).map(brief).take(8).collect();
        names.join(", ")
    };
    let Some(model) = pickle.get(pickle.root(), "model") else {
        let problem = format!("expected a dictionary with an entry `model`; found the entries [{}]", keys());
        return Err(CheckpointError::Structure(problem));
    };
    if pickle.entries(model).is_none() {
        return Err(CheckpointError::Structure("its entry `model` is not a dictionary".to_owned()));
    }
    Ok(model)
}

fn sha256(file: &mut impl Read) -> Result<String, CheckpointError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    Ok(hex(&hasher.finalize()))
}

fn first_bytes(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing: it is empty".to_owned();
    }
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(16)]))
}
