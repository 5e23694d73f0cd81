//! The tensors of a state dictionary, whatever each is stored as.

use std::collections::BTreeMap;

use super::pickle::{Id, Node, Pickle};
use super::tensor::Budget;
use super::torch::{self, Problem, Storages};
use super::{CheckpointError, CheckpointTensor, numpy};
use crate::error::brief;

/// Every tensor of a state dictionary, by name.
pub(super) fn tensors(
    pickle: &Pickle<'_>,
    state: Id,
    storages: &mut dyn Storages,
    mut budget: Budget,
) -> Result<BTreeMap<String, CheckpointTensor>, CheckpointError> {
    let mut tensors = BTreeMap::new();
    for &(key, value) in pickle.entries(state).unwrap_or(&[]) {
        let Some(name) = pickle.str(key) else {
            return Err(CheckpointError::Structure("a tensor of the model has no name".to_owned()));
        };
        let tensor = tensor(pickle, value, storages, &mut budget).map_err(|problem| match problem {
            Problem::Tensor(problem) => CheckpointError::Tensor { name: brief(name).into_owned(), problem },
            Problem::File(error) => error,
        })?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn tensor(
    pickle: &Pickle<'_>,
    value: Id,
    storages: &mut dyn Storages,
    budget: &mut Budget,
) -> Result<CheckpointTensor, Problem> {
    if let Node::Object(object) = pickle.node(value) {
        if let Some(call) = torch::rebuild_call(pickle, object) {
            return torch::tensor(pickle, call, storages, budget);
        }
        if numpy::is_array(pickle, object) {
            return Ok(numpy::array(pickle, object, budget)?);
        }
    }
    let found = pickle.describe(value);
    Err(format!("is {found}; expected a dense tensor of torch or an array of numpy").into())
}
