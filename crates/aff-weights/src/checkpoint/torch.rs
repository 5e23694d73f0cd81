//! Tensors of torch in a pickle: views into storages, which lie in the entries of an archive or in the pickle itself.

use std::borrow::Cow;

use super::legacy::SavedStorage;
use super::pickle::{Id, Node, Object, Pickle};
use super::tensor::{Budget, reach};
use super::{CheckpointError, CheckpointTensor, ElementType};
use crate::error::brief;

/// Where the storages are that a pickle names by a key.
pub(super) trait Storages {
    /// Bytes of a storage; `None` if there is none of that key.
    fn length(&self, key: &str) -> Option<u64>;

    /// Reads `length` bytes of a storage from `start` on.
    fn read(&mut self, key: &str, start: u64, length: u64) -> Result<Vec<u8>, CheckpointError>;
}

/// A plain pickle, without storages beside it.
pub(super) struct NoStorages;

impl Storages for NoStorages {
    fn length(&self, _: &str) -> Option<u64> {
        None
    }

    fn read(&mut self, key: &str, _: u64, _: u64) -> Result<Vec<u8>, CheckpointError> {
        Err(CheckpointError::Structure(format!("there is no storage {:?}", brief(key))))
    }
}

/// Why a tensor could not be read.
pub(super) enum Problem {
    /// What is wrong with it.
    Tensor(String),
    /// What is wrong with the file.
    File(CheckpointError),
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Tensor(problem)
    }
}

/// The call that rebuilds a tensor, if `object` is one: `_rebuild_tensor_v2(storage, offset, size, stride, ..)`, bare or within
/// `_rebuild_parameter(tensor, ..)`.
pub(super) fn rebuild_call<'p>(pickle: &'p Pickle<'_>, object: &'p Object) -> Option<&'p Object> {
    match pickle.callable(object)? {
        ("torch._utils", "_rebuild_tensor_v2") => Some(object),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            // One level: a parameter of a parameter does not exist.
            match pickle.node(*pickle.sequence(object.arguments)?.first()?) {
                Node::Object(tensor)
                    if pickle.callable(tensor)? == ("torch._utils", "_rebuild_tensor_v2") =>
                {
                    Some(tensor)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Reads the tensor that a [`rebuild_call`] makes.
pub(super) fn tensor(
    pickle: &Pickle<'_>,
    call: &Object,
    storages: &mut dyn Storages,
    budget: &mut Budget,
) -> Result<CheckpointTensor, Problem> {
    let Some(&[storage, offset, shape, strides, ..]) = pickle.sequence(call.arguments) else {
        return Err(not_a_view());
    };
    let view = View::read(pickle, offset, shape, strides).ok_or_else(not_a_view)?;
    match pickle.node(storage) {
        Node::Persistent(reference) => {
            let reference = StorageReference::read(pickle, *reference)?;
            let Some(stored) = storages.length(reference.key) else {
                return Err(format!("its storage {:?} is missing", brief(reference.key)).into());
            };
            let (start, length) = view.range(reference.element_type, stored)?;
            budget.take(length)?;
            let bytes = storages.read(reference.key, start, length).map_err(Problem::File)?;
            view.gather(reference.element_type, &bytes)
        }
        Node::Object(object) if pickle.callable(object) == Some(("torch.storage", "_load_from_bytes")) => {
            let saved =
                pickle.sequence(object.arguments).and_then(|arguments| pickle.bytes(*arguments.first()?));
            let saved = saved.ok_or_else(|| "its storage is not bytes".to_owned())?;
            if let Cow::Owned(copy) = &saved {
                budget.take(copy.len() as u64)?;
            }
            let storage = SavedStorage::read(&saved)?;
            let (start, length) = view.range(storage.element_type, storage.bytes.len() as u64)?;
            budget.take(length)?;
            view.gather(storage.element_type, &storage.bytes[start as usize..(start + length) as usize])
        }
        _ => Err(format!("its storage is {}", pickle.describe(storage)).into()),
    }
}

fn not_a_view() -> Problem {
    Problem::Tensor("is not a dense tensor with an offset, a shape and strides".to_owned())
}

/// What a pickle says about a storage: `("storage", class, key, device, length)`.
pub(super) struct StorageReference<'a> {
    pub(super) element_type: ElementType,
    pub(super) key: &'a str,
    /// Elements.
    pub(super) length: Option<u64>,
}

impl<'a> StorageReference<'a> {
    pub(super) fn read(pickle: &Pickle<'a>, reference: Id) -> Result<Self, String> {
        let unknown = || "its storage is not one of torch".to_owned();
        let Some(&[_, class, key, _, length, ..]) = pickle.sequence(reference) else { return Err(unknown()) };
        let (module, class) = pickle.global(class).ok_or_else(unknown)?;
        let element_type = storage_type(class).filter(|_| module == "torch").ok_or_else(|| {
            let (module, class) = (brief(module), brief(class));
            format!("has a storage of class {module}.{class}; expected floating point numbers, integers or bytes of torch")
        })?;
        let length = pickle.int(length).and_then(|length| u64::try_from(length).ok());
        Ok(Self { element_type, key: pickle.str(key).ok_or_else(unknown)?, length })
    }
}

/// A tensor's place in a storage, in elements.
struct View {
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    fn read(pickle: &Pickle<'_>, offset: Id, shape: Id, strides: Id) -> Option<Self> {
        let sizes = |id: Id| -> Option<Vec<usize>> {
            pickle.sequence(id)?.iter().map(|&size| usize::try_from(pickle.int(size)?).ok()).collect()
        };
        Some(Self {
            offset: usize::try_from(pickle.int(offset)?).ok()?,
            shape: sizes(shape)?,
            strides: sizes(strides)?,
        })
    }

    /// First byte and number of the bytes of a storage of `stored` bytes that the tensor reaches into.
    fn range(&self, element_type: ElementType, stored: u64) -> Result<(u64, u64), String> {
        let size = element_type.size() as u64;
        let reach =
            reach(&self.shape, &self.strides).ok_or("its shape and strides do not fit or overflow")? as u64;
        let start = (self.offset as u64).checked_mul(size);
        let length = reach.checked_mul(size);
        match start.zip(length).and_then(|(start, length)| Some((start, length, start.checked_add(length)?)))
        {
            Some((start, length, end)) if end <= stored => Ok((start, length)),
            _ => Err(format!(
                "reaches {reach} elements from {} in a storage of {}",
                self.offset,
                stored / size
            )),
        }
    }

    fn gather(self, element_type: ElementType, storage: &[u8]) -> Result<CheckpointTensor, Problem> {
        CheckpointTensor::gather(element_type, self.shape, &self.strides, storage).map_err(Problem::Tensor)
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
