//! Numpy arrays in a pickle, as detectron2's model zoo stores weights.

use super::pickle::{Id, Node, Object, Pickle};
use super::tensor::{Budget, contiguous_strides};
use super::{CheckpointTensor, ElementType};
use crate::error::brief;

/// Whether an object is `_reconstruct(ndarray, ..)`.
pub(super) fn is_array(pickle: &Pickle<'_>, object: &Object) -> bool {
    let call = pickle.callable(object);
    matches!(call, Some(("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct")))
}

/// Reads the array that has the state `(version, shape, dtype, is_fortran, bytes)`.
pub(super) fn array(
    pickle: &Pickle<'_>,
    object: &Object,
    budget: &mut Budget,
) -> Result<CheckpointTensor, String> {
    let not_an_array = || "is an array of numpy without contents".to_owned();
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
    let storage = pickle.bytes(bytes).ok_or("its contents are not bytes")?;
    budget.take(storage.len() as u64)?;
    CheckpointTensor::gather(element_type, shape, &strides, &storage)
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
        other => {
            Err(format!("has elements of type {:?}; expected f2, f4, f8, i4, i8, u1 or b1", brief(other)))
        }
    }
}
