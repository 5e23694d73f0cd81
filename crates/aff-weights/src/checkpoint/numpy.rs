//! Numpy arrays in a pickle, as detectron2's model zoo stores weights.

use std::collections::BTreeMap;

use super::pickle::{Id, Node, Pickle};
use super::tensor::contiguous_strides;
use super::{CheckpointError, CheckpointTensor, ElementType};

/// Every array of a dictionary.
pub(super) fn tensors(
    pickle: &Pickle<'_>,
    model: Id,
) -> Result<BTreeMap<String, CheckpointTensor>, CheckpointError> {
    let mut tensors = BTreeMap::new();
    for &(key, value) in pickle.entries(model).unwrap_or(&[]) {
        let Some(name) = pickle.str(key) else {
            return Err(CheckpointError::Structure("an array of the model has no name".to_owned()));
        };
        let tensor = array(pickle, value)
            .map_err(|problem| CheckpointError::Tensor { name: name.to_owned(), problem })?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

/// Understands `_reconstruct(ndarray, ..)` with the state `(version, shape, dtype, is_fortran, bytes)`.
fn array(pickle: &Pickle<'_>, value: Id) -> Result<CheckpointTensor, String> {
    let not_an_array = || "is not a numpy array".to_owned();
    let Node::Object(object) = pickle.node(value) else { return Err(not_an_array()) };
    let Some(("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct")) = pickle.callable(object)
    else {
        return Err(not_an_array());
    };
    let state = object.state.and_then(|state| pickle.sequence(state)).ok_or_else(not_an_array)?;
    let &[_, shape, dtype, fortran, bytes] = state else { return Err(not_an_array()) };
    let element_type = element_type(pickle, dtype)?;
    let size = |&size: &Id| pickle.int(size).and_then(|size| usize::try_from(size).ok());
    let shape: Option<Vec<usize>> = pickle.sequence(shape).and_then(|sizes| sizes.iter().map(size).collect());
    let shape = shape.ok_or("its shape is not a tuple of sizes")?;
    let strides = match pickle.node(fortran) {
        Node::Bool(true) => {
            let mut strides = contiguous_strides(&shape.iter().rev().copied().collect::<Vec<_>>());
            strides.reverse();
            strides
        }
        _ => contiguous_strides(&shape),
    };
    let latin1;
    let storage = match pickle.node(bytes) {
        Node::Bytes(range) => pickle.bytes(range),
        _ => {
            latin1 = encoded_bytes(pickle, bytes).ok_or("its contents are not bytes")?;
            latin1.as_slice()
        }
    };
    CheckpointTensor::gather(element_type, shape, &strides, storage)
}

/// The bytes of `_codecs.encode(text, "latin1")`, which is how protocol 2 writes them.
fn encoded_bytes(pickle: &Pickle<'_>, value: Id) -> Option<Vec<u8>> {
    let Node::Object(object) = pickle.node(value) else { return None };
    if pickle.callable(object)? != ("_codecs", "encode") {
        return None;
    }
    let text = pickle.str(*pickle.sequence(object.arguments)?.first()?)?;
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// Understands `dtype("f4", ..)` with a state whose second entry is the byte order.
fn element_type(pickle: &Pickle<'_>, dtype: Id) -> Result<ElementType, String> {
    let not_a_type = || "its element type is not one of numpy's".to_owned();
    let Node::Object(object) = pickle.node(dtype) else { return Err(not_a_type()) };
    let name = pickle.sequence(object.arguments).and_then(|arguments| pickle.str(*arguments.first()?));
    let name = name.ok_or_else(not_a_type)?;
    let order = object.state.and_then(|state| pickle.str(*pickle.sequence(state)?.get(1)?));
    if order == Some(">") {
        return Err("is big-endian".to_owned());
    }
    match name {
        "f4" => Ok(ElementType::F32),
        "f8" => Ok(ElementType::F64),
        "f2" => Ok(ElementType::F16),
        "i8" => Ok(ElementType::I64),
        "i4" => Ok(ElementType::I32),
        "u1" | "b1" => Ok(ElementType::U8),
        other => Err(format!("has elements of type {other:?}; expected f2, f4, f8, i4, i8, u1 or b1")),
    }
}
