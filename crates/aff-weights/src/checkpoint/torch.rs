//! Tensors of a torch archive: a pickle that names storages, and one entry for each storage.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::archive::Archive;
use super::pickle::{Id, Node, Object, Pickle};
use super::tensor::reach;
use super::{CheckpointError, CheckpointTensor, ElementType};

/// Longest pickle of an archive; published ones have a few hundred kilobytes, with an optimiser a few megabytes.
const LARGEST_PICKLE: u64 = 1 << 30;

/// The folder that all entries of the archive lie in.
pub(super) fn root_folder<R: Read + Seek>(archive: &Archive<R>) -> Result<String, CheckpointError> {
    let mut roots = archive.names().filter_map(|name| name.strip_suffix("/data.pkl"));
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root.to_owned()),
        (None, _) => Err(CheckpointError::Archive("there is no entry `data.pkl`".to_owned())),
        _ => Err(CheckpointError::Archive("there are several entries `data.pkl`".to_owned())),
    }
}

/// The pickle that describes the checkpoint.
pub(super) fn read_pickle<R: Read + Seek>(
    archive: &mut Archive<R>,
    root: &str,
) -> Result<Vec<u8>, CheckpointError> {
    let byte_order = format!("{root}/byteorder");
    if let Some(length) = archive.length(&byte_order) {
        let order = archive.read(&byte_order, 0, length.min(16))?;
        if order.trim_ascii() != b"little" {
            let problem =
                "it was written on a big-endian machine; load it there and save it again".to_owned();
            return Err(CheckpointError::Archive(problem));
        }
    }
    let name = format!("{root}/data.pkl");
    let length = archive.length(&name).unwrap_or(0);
    if length > LARGEST_PICKLE {
        return Err(CheckpointError::Archive(format!("its pickle has {length} bytes")));
    }
    archive.read(&name, 0, length)
}

/// Every tensor of a state dictionary.
pub(super) fn tensors<R: Read + Seek>(
    pickle: &Pickle<'_>,
    model: Id,
    archive: &mut Archive<R>,
    root: &str,
) -> Result<BTreeMap<String, CheckpointTensor>, CheckpointError> {
    let mut tensors = BTreeMap::new();
    for &(key, value) in pickle.entries(model).unwrap_or(&[]) {
        let Some(name) = pickle.str(key) else {
            return Err(CheckpointError::Structure("a tensor of the model has no name".to_owned()));
        };
        let Some(view) = View::read(pickle, value) else {
            return Err(tensor_error(name, "is not a dense tensor with a plain storage"));
        };
        let tensor = view.load(archive, root).map_err(|problem| match problem {
            Problem::Tensor(problem) => tensor_error(name, problem),
            Problem::Archive(error) => error,
        })?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn tensor_error(name: &str, problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Tensor { name: name.to_owned(), problem: problem.into() }
}

/// Why a view could not be loaded.
enum Problem {
    Tensor(String),
    Archive(CheckpointError),
}

/// A tensor's place in a storage, in elements.
struct View {
    storage: String,
    element_type: ElementType,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// Understands `_rebuild_tensor_v2(storage, offset, size, stride, ..)` and `_rebuild_parameter(tensor, ..)`.
    fn read(pickle: &Pickle<'_>, value: Id) -> Option<Self> {
        let Node::Object(object) = pickle.node(value) else { return None };
        let arguments = pickle.sequence(object.arguments)?;
        match pickle.callable(object)? {
            ("torch._utils", "_rebuild_parameter") => {
                let inner = *arguments.first()?;
                // One level: a parameter of a parameter does not exist.
                match pickle.node(inner) {
                    Node::Object(tensor) => Self::read_tensor(pickle, tensor),
                    _ => None,
                }
            }
            _ => Self::read_tensor(pickle, object),
        }
    }

    fn read_tensor(pickle: &Pickle<'_>, object: &Object) -> Option<Self> {
        if pickle.callable(object)? != ("torch._utils", "_rebuild_tensor_v2") {
            return None;
        }
        let &[storage, offset, shape, strides, ..] = pickle.sequence(object.arguments)? else { return None };
        let Node::Persistent(reference) = pickle.node(storage) else { return None };
        let &[_, class, key, ..] = pickle.sequence(*reference)? else { return None };
        let Node::Global(_, class) = pickle.node(class) else { return None };
        let sizes = |id: Id| -> Option<Vec<usize>> {
            pickle.sequence(id)?.iter().map(|&size| usize::try_from(pickle.int(size)?).ok()).collect()
        };
        Some(Self {
            storage: pickle.str(key)?.to_owned(),
            element_type: storage_type(class)?,
            offset: usize::try_from(pickle.int(offset)?).ok()?,
            shape: sizes(shape)?,
            strides: sizes(strides)?,
        })
    }

    fn load<R: Read + Seek>(self, archive: &mut Archive<R>, root: &str) -> Result<CheckpointTensor, Problem> {
        let entry = format!("{root}/data/{}", self.storage);
        let size = self.element_type.size() as u64;
        let Some(stored) = archive.length(&entry) else {
            return Err(Problem::Tensor(format!("its storage {entry:?} is missing")));
        };
        let reach = reach(&self.shape, &self.strides)
            .ok_or_else(|| Problem::Tensor("its shape and strides do not fit or overflow".to_owned()))?;
        let first = (self.offset as u64).checked_mul(size);
        let bytes = (reach as u64).checked_mul(size);
        let inside = first.zip(bytes).and_then(|(first, bytes)| first.checked_add(bytes));
        let (Some(first), Some(bytes), true) = (first, bytes, inside.is_some_and(|end| end <= stored)) else {
            let elements = stored / size;
            let problem = format!("reaches {reach} elements from {} in a storage of {elements}", self.offset);
            return Err(Problem::Tensor(problem));
        };
        let storage = archive.read(&entry, first, bytes).map_err(Problem::Archive)?;
        CheckpointTensor::gather(self.element_type, self.shape, &self.strides, &storage)
            .map_err(Problem::Tensor)
    }
}

fn storage_type(class: &str) -> Option<ElementType> {
    Some(match class {
        "FloatStorage" => ElementType::F32,
        "DoubleStorage" => ElementType::F64,
        "HalfStorage" => ElementType::F16,
        "BFloat16Storage" => ElementType::Bf16,
        "LongStorage" => ElementType::I64,
        "IntStorage" => ElementType::I32,
        "ByteStorage" | "BoolStorage" => ElementType::U8,
        _ => return None,
    })
}
