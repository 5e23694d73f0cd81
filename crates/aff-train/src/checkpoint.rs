//! The whole state of a run in one file, so that it is either there or not.

use std::collections::BTreeMap;
use std::path::Path;

use aff_weights::{read_tensor_file_with_metadata, write_tensor_file_with_metadata};
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::optim::{AdamW, Average, Moments};
use crate::{Parameters, TrainError};

/// Where a run is. Randomness and the place in the data follow from the step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Updates made.
    pub(crate) step: u64,
    /// Updates of the optimiser and of the average, for their corrections.
    pub(crate) optimizer_updates: u64,
    pub(crate) average_updates: u64,
    /// The best validation so far.
    pub(crate) best: Option<Best>,
}

/// A validation that no later one has beaten.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this many updates.
    pub step: u64,
    /// Mean intersection over union.
    pub mean_iou: f64,
}

const PROGRESS: &str = "progress";
const RECIPE: &str = "recipe";

/// Writes weights, average and the optimiser's state, whole or not at all.
pub(crate) fn write(
    path: &Path,
    recipe: &serde_json::Value,
    progress: &Progress,
    state: (&Parameters, &AdamW, &Average),
) -> Result<(), TrainError> {
    let (parameters, optimizer, average) = state;
    let vars = parameters.vars();
    let mut tensors = BTreeMap::new();
    let mut insert = |prefix: &str, name: &str, values: &[f32], var: &Var| {
        let tensor = Tensor::from_slice(values, var.shape(), &Device::Cpu)?;
        tensors.insert(format!("{prefix}/{name}"), tensor);
        Ok::<(), TrainError>(())
    };
    for (name, var) in &vars {
        insert("weight", name, &var.flatten_all()?.to_vec1::<f32>()?, var)?;
        if let Some(values) = average.values.get(name) {
            insert("average", name, values, var)?;
        }
        if let Some(moments) = optimizer.moments.get(name) {
            insert("first", name, &moments.first, var)?;
            insert("second", name, &moments.second, var)?;
        }
    }
    let progress = serde_json::to_string(progress)
        .map_err(|error| TrainError::Checkpoint { path: path.to_path_buf(), problem: error.to_string() })?;
    let metadata = BTreeMap::from([(PROGRESS.to_owned(), progress), (RECIPE.to_owned(), recipe.to_string())]);
    Ok(write_tensor_file_with_metadata(path, &tensors, metadata)?)
}

/// Puts a run where a checkpoint was written.
pub(crate) fn read(
    path: &Path,
    recipe: &serde_json::Value,
    state: (&Parameters, &mut AdamW, &mut Average),
) -> Result<Progress, TrainError> {
    let (parameters, optimizer, average) = state;
    let refuse = |problem: String| TrainError::Checkpoint { path: path.to_path_buf(), problem };
    let (tensors, metadata) = read_tensor_file_with_metadata(path, &Device::Cpu)?;
    let (Some(progress), Some(of)) = (metadata.get(PROGRESS), metadata.get(RECIPE)) else {
        return Err(refuse("is not a checkpoint of a run".to_owned()));
    };
    let of: serde_json::Value =
        serde_json::from_str(of).map_err(|error| refuse(format!("its recipe is damaged: {error}")))?;
    if let Some(key) = difference(&of, recipe, "") {
        return Err(refuse(format!(
            "belongs to a run whose recipe has another `{key}`; give the run another `run.output`, or restore the recipe"
        )));
    }
    let progress: Progress = serde_json::from_str(progress)
        .map_err(|error| refuse(format!("its progress is damaged: {error}")))?;

    let mut parts: BTreeMap<&str, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, tensor) in tensors {
        for part in ["weight", "average", "first", "second"] {
            if let Some(name) = name.strip_prefix(part).and_then(|name| name.strip_prefix('/')) {
                parts.entry(part).or_default().insert(name.to_owned(), tensor.clone());
            }
        }
    }
    let mut part = |name: &str| parts.remove(name).unwrap_or_default();
    let weights = part("weight");
    let count = parameters.vars().len();
    if parameters.set(&weights)? != count {
        return Err(refuse(format!("has {} parameters; the model has {count}", weights.len())));
    }
    let values = |tensors: BTreeMap<String, Tensor>| {
        let values = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1()?)));
        values.collect::<candle_core::Result<BTreeMap<String, Vec<f32>>>>()
    };
    average.values = values(part("average"))?;
    average.updates = progress.average_updates;
    let mut second = values(part("second"))?;
    let moments = values(part("first"))?.into_iter().map(|(name, first)| {
        let second = second.remove(&name).unwrap_or_default();
        (name, Moments { first, second })
    });
    optimizer.moments = moments.collect();
    optimizer.updates = progress.optimizer_updates;
    Ok(progress)
}

/// Path of the first value that differs.
fn difference(a: &serde_json::Value, b: &serde_json::Value, path: &str) -> Option<String> {
    if let (Some(a), Some(b)) = (a.as_object(), b.as_object()) {
        let keys = a.keys().chain(b.keys());
        let null = serde_json::Value::Null;
        return keys.into_iter().find_map(|key| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            difference(a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), &path)
        });
    }
    (a != b).then(|| path.to_owned())
}
