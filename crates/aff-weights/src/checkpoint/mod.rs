//! Reading of reference checkpoints (section 12 of the method): torch archives and detectron2 pickles.
//!
//! A checkpoint is hostile until shown otherwise: nothing in it is executed, sizes are bounded by the file, and a tensor
//! that reaches outside its storage is refused.

mod archive;
mod numpy;
mod pickle;
mod python;
mod tensor;
mod torch;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

pub use pickle::PickleError;
pub use tensor::{CheckpointTensor, ElementType};

use archive::Archive;
use pickle::{Id, Pickle};

/// A pickle on its own, without an archive, is read whole; a larger one is no published checkpoint.
const LARGEST_PICKLE: u64 = 8 << 30;
/// Start of a zip archive.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// Start of a pickle of protocol 2 or later.
const PICKLE_MAGIC: u8 = 0x80;
/// What the first pickle of a torch file from before 1.6 holds.
const LEGACY_TORCH_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

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
pub enum CheckpointFormat {
    /// `torch.save` since 1.6: a zip archive.
    Torch,
    /// detectron2's model zoo: a pickle of numpy arrays.
    Detectron2,
}

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be opened or read.
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
    /// [`CheckpointError`] says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(CheckpointError::NotACheckpoint("a folder".to_owned()));
        }
        Self::read_from(file)
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
        if start.windows(LEGACY_TORCH_MAGIC.len()).any(|window| window == LEGACY_TORCH_MAGIC) {
            let problem = "a torch file from before 1.6 (load it with torch and save it again)";
            return Err(CheckpointError::NotACheckpoint(problem.to_owned()));
        }
        let rest = file.stream_position()?;
        if file.seek(SeekFrom::End(0))? > LARGEST_PICKLE {
            return Err(CheckpointError::NotACheckpoint(format!(
                "a pickle of more than {LARGEST_PICKLE} bytes"
            )));
        }
        file.seek(SeekFrom::Start(rest))?;
        let mut bytes = start;
        file.read_to_end(&mut bytes)?;
        let pickle = Pickle::parse(&bytes)?;
        let tensors = numpy::tensors(&pickle, model(&pickle)?)?;
        Ok(Self { format: CheckpointFormat::Detectron2, tensors, config: None, sha256 })
    }
}

fn read_torch(file: impl Read + Seek, sha256: String) -> Result<Checkpoint, CheckpointError> {
    let mut archive = Archive::open(file)?;
    let root = torch::root_folder(&archive)?;
    let bytes = torch::read_pickle(&mut archive, &root)?;
    let pickle = Pickle::parse(&bytes)?;
    let tensors = torch::tensors(&pickle, model(&pickle)?, &mut archive, &root)?;
    let config = pickle.get(pickle.root(), "config").map(|config| python::to_json(&pickle, config));
    Ok(Checkpoint { format: CheckpointFormat::Torch, tensors, config, sha256 })
}

/// The dictionary of the model's tensors.
fn model(pickle: &Pickle<'_>) -> Result<Id, CheckpointError> {
    let keys = || {
        let entries = pickle.entries(pickle.root()).unwrap_or(&[]);
        let names: Vec<_> = entries.iter().filter_map(|&(key, _)| pickle.str(key)).take(8).collect();
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
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn first_bytes(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing: it is empty".to_owned();
    }
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(16)]))
}
