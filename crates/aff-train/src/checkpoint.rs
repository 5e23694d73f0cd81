//! The whole state of a run in one file, so that it is either there or not, and the one before it in another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aff_weights::{read_tensor_file_with_metadata, write_tensor_file_with_metadata};
use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::optim::{AdamW, Average, Moments};
use crate::parameters::is_trained;
use crate::{Parameters, TrainError};

/// Where a run is. Randomness and the place in the data follow from the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this many updates.
    pub step: u64,
    /// Name of the metric that decides.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

const PROGRESS: &str = "progress";
const RECIPE: &str = "recipe";
const CHECKSUM: &str = "sha256";
/// What the writer of tensor files adds by itself.
const FORMAT: &str = "format";

/// The parts of a state, which prefix the names of its tensors.
const WEIGHT: &str = "weight";
const AVERAGE: &str = "average";
const FIRST: &str = "first";
const SECOND: &str = "second";

/// The checkpoints of a run's folder: the last one and the one before.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

/// What a run goes on from.
pub(crate) struct Restored {
    pub(crate) progress: Progress,
    /// What was wrong with a checkpoint that was passed over.
    pub(crate) warning: Option<String>,
}

/// What a checkpoint is of.
pub(crate) struct State<'a> {
    pub(crate) parameters: &'a Parameters,
    pub(crate) optimizer: &'a AdamW,
    pub(crate) average: &'a Average,
}

/// What a checkpoint is read into.
pub(crate) struct StateMut<'a> {
    pub(crate) parameters: &'a Parameters,
    pub(crate) optimizer: &'a mut AdamW,
    pub(crate) average: &'a mut Average,
}

impl Checkpoints {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    fn last(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    fn previous(&self) -> PathBuf {
        self.folder.join("checkpoint.previous.safetensors")
    }

    /// Writes a checkpoint; the last one becomes the one before. At no moment is there less than one that is whole.
    pub(crate) fn write(
        &self,
        recipe: &serde_json::Value,
        progress: &Progress,
        state: &State<'_>,
    ) -> Result<(), TrainError> {
        let next = self.folder.join("checkpoint.next.safetensors");
        let failed = |error: TrainError| TrainError::Save { source: Box::new(error) };
        write(&next, recipe, progress, state).map_err(failed)?;
        let (last, previous) = (self.last(), self.previous());
        let rename = |from: &Path, to: &Path| {
            std::fs::rename(from, to).map_err(TrainError::io(from, "rename it")).map_err(failed)
        };
        if last.exists() {
            rename(&last, &previous)?;
        }
        rename(&next, &last)
    }

    /// Puts a run where its last checkpoint was written, or the one before if that is damaged. `None` if there is none.
    pub(crate) fn read(
        &self,
        recipe: &serde_json::Value,
        state: &mut StateMut<'_>,
    ) -> Result<Option<Restored>, TrainError> {
        let (last, previous) = (self.last(), self.previous());
        if !last.exists() && !previous.exists() {
            return Ok(None);
        }
        let damage = match read(&last, recipe, state) {
            Ok(progress) => return Ok(Some(Restored { progress, warning: None })),
            Err(error @ TrainError::OtherRun { .. }) => return Err(error),
            Err(error) if previous.exists() => error,
            Err(error) => return Err(error),
        };
        let progress = read(&previous, recipe, state)?;
        let warning =
            format!("{damage}; the run goes on from the checkpoint before it, of step {}", progress.step);
        Ok(Some(Restored { progress, warning: Some(warning) }))
    }
}

/// Writes weights, average and the optimiser's state, whole or not at all.
fn write(
    path: &Path,
    recipe: &serde_json::Value,
    progress: &Progress,
    state: &State<'_>,
) -> Result<(), TrainError> {
    let vars = state.parameters.vars();
    let mut tensors = BTreeMap::new();
    let mut insert = |prefix: &str, name: &str, values: &[f32], var: &Var| {
        let tensor = Tensor::from_slice(values, var.shape(), &Device::Cpu)?;
        tensors.insert(format!("{prefix}/{name}"), tensor);
        Ok::<(), TrainError>(())
    };
    for (name, var) in &vars {
        insert(WEIGHT, name, &var.flatten_all()?.to_vec1::<f32>()?, var)?;
        if let Some(values) = state.average.values.get(name) {
            insert(AVERAGE, name, values, var)?;
        }
        if let Some(moments) = state.optimizer.moments.get(name) {
            insert(FIRST, name, &moments.first, var)?;
            insert(SECOND, name, &moments.second, var)?;
        }
    }
    let progress = serde_json::to_string(progress)
        .map_err(|error| TrainError::Checkpoint { path: path.to_path_buf(), problem: error.to_string() })?;
    let recipe = recipe.to_string();
    let checksum = checksum(&tensors, [&progress, &recipe])?;
    let metadata = [(PROGRESS, progress), (RECIPE, recipe), (CHECKSUM, checksum)];
    let metadata = metadata.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    Ok(write_tensor_file_with_metadata(path, &tensors, metadata)?)
}

/// SHA-256 of the names, shapes and values of all tensors, and of texts.
fn checksum(tensors: &BTreeMap<String, Tensor>, texts: [&str; 2]) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    let text = |hash: &mut Sha256, text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for part in texts {
        text(&mut hash, part);
    }
    for (name, tensor) in tensors {
        text(&mut hash, name);
        text(&mut hash, &format!("{:?}", tensor.dims()));
        for values in tensor.flatten_all()?.to_vec1::<f32>()?.chunks(1 << 14) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(&bytes);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Tensors of a part, by the name of their parameter.
type Part = BTreeMap<String, Tensor>;

/// Puts a run where a checkpoint was written; leaves it where it is if that is not whole.
fn read(path: &Path, recipe: &serde_json::Value, state: &mut StateMut<'_>) -> Result<Progress, TrainError> {
    let refuse = |problem: String| TrainError::Checkpoint { path: path.to_path_buf(), problem };
    let (tensors, metadata) = read_tensor_file_with_metadata(path, &Device::Cpu)?;
    let text = |name: &str| metadata.get(name).map(String::as_str);
    let (Some(progress), Some(of), Some(expected)) = (text(PROGRESS), text(RECIPE), text(CHECKSUM)) else {
        return Err(refuse("is not a checkpoint of a run".to_owned()));
    };
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    if tensors.values().any(|tensor| tensor.dtype() != DType::F32)
        || checksum(&tensors, [progress, of])? != expected
        || metadata.keys().any(|key| ![PROGRESS, RECIPE, CHECKSUM, FORMAT].contains(&key.as_str()))
        || text(FORMAT).is_some_and(|format| format != "pt")
    {
        return Err(refuse("is damaged: its contents do not have its checksum".to_owned()));
    }
    let of: serde_json::Value =
        serde_json::from_str(of).map_err(|error| refuse(format!("its recipe is damaged: {error}")))?;
    if let Some(key) = difference(&of, recipe, "") {
        return Err(TrainError::OtherRun { path: path.to_path_buf(), key });
    }
    let progress: Progress = serde_json::from_str(progress)
        .map_err(|error| refuse(format!("its progress is damaged: {error}")))?;
    let steps = recipe["run"]["steps"].as_u64().unwrap_or(u64::MAX);
    check_progress(&progress, steps).map_err(refuse)?;

    let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
    for (name, tensor) in tensors {
        let (part, parameter) = name.split_once('/').unwrap_or(("", &name));
        let Some(part) = [WEIGHT, AVERAGE, FIRST, SECOND].into_iter().find(|known| *known == part) else {
            return Err(refuse(format!("has {name}, which belongs to no state of a run")));
        };
        parts.entry(part).or_default().insert(parameter.to_owned(), tensor);
    }
    check_parts(&parts, &state.parameters.vars(), &progress).map_err(refuse)?;
    let mut part = |name: &str| parts.remove(name).unwrap_or_default();
    let values = |tensors: Part| {
        let values = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1()?)));
        values.collect::<candle_core::Result<BTreeMap<String, Vec<f32>>>>()
    };
    let (average, first, mut second) = (values(part(AVERAGE))?, values(part(FIRST))?, values(part(SECOND))?);
    state.parameters.set(&part(WEIGHT))?;
    state.average.values = average;
    state.average.updates = progress.average_updates;
    let moments = first.into_iter().map(|(name, first)| {
        let second = second.remove(&name).unwrap_or_default();
        (name, Moments { first, second })
    });
    state.optimizer.moments = moments.collect();
    state.optimizer.updates = progress.optimizer_updates;
    Ok(progress)
}

/// What is wrong with the counters of a run of `steps`.
fn check_progress(progress: &Progress, steps: u64) -> Result<(), String> {
    let Progress { step, optimizer_updates, average_updates, best } = progress;
    if *step > steps || optimizer_updates != step || average_updates != step {
        return Err(format!(
            "counts {step} steps, {optimizer_updates} updates and {average_updates} averages; expected the same number of \
             each, at most {steps}"
        ));
    }
    match best {
        Some(best) if best.step > *step => {
            Err(format!("has its best validation at step {}; expected at most {step}", best.step))
        }
        _ => Ok(()),
    }
}

/// What is wrong with the tensors of a state: every parameter has a weight and, after an update, an average; two moments if any.
fn check_parts(
    parts: &BTreeMap<&str, Part>,
    vars: &BTreeMap<String, Var>,
    progress: &Progress,
) -> Result<(), String> {
    let nothing = Part::new();
    let part = |name: &str| parts.get(name).unwrap_or(&nothing);
    let names = |part: &Part| part.keys().cloned().collect::<BTreeSet<_>>();
    let all: BTreeSet<String> = vars.keys().cloned().collect();
    let averaged = if progress.average_updates > 0 { all.clone() } else { BTreeSet::new() };
    for (name, expected) in [(WEIGHT, &all), (AVERAGE, &averaged)] {
        if let Some(key) = names(part(name)).symmetric_difference(expected).next() {
            let is_extra = part(name).contains_key(key);
            return Err(format!("{} {name}/{key}", if is_extra { "has an unknown" } else { "has no" }));
        }
    }
    if let Some(key) = names(part(FIRST)).symmetric_difference(&names(part(SECOND))).next() {
        return Err(format!("has one moment of {key}; expected both or none"));
    }
    for (part, tensors) in parts {
        for (name, tensor) in tensors {
            let var = vars.get(name).filter(|_| *part == WEIGHT || *part == AVERAGE || is_trained(name));
            if var.is_none_or(|var| var.dims() != tensor.dims()) {
                return Err(format!(
                    "has {part}/{name} of shape {:?}, which the model has not",
                    tensor.dims()
                ));
            }
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_no_run_has_are_refused() {
        let progress = |step, optimizer_updates, best: Option<u64>| Progress {
            step,
            optimizer_updates,
            average_updates: step,
            best: best.map(|step| Best { step, metric: "pq".to_owned(), value: 0.5 }),
        };
        assert_eq!(check_progress(&progress(5, 5, Some(5)), 5), Ok(()));
        for wrong in [
            progress(u64::MAX, u64::MAX, None),
            progress(6, 6, None),
            progress(5, 4, None),
            progress(5, 5, Some(6)),
        ] {
            assert!(check_progress(&wrong, 5).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn states_that_lack_a_tensor_or_have_one_more_are_refused() {
        let tensor = |length: usize| Tensor::zeros(length, DType::F32, &Device::Cpu).unwrap();
        let names = ["a", "b", "n.running_mean"];
        let vars: BTreeMap<String, Var> =
            names.iter().map(|name| ((*name).to_owned(), Var::from_tensor(&tensor(2)).unwrap())).collect();
        let progress = Progress { step: 1, optimizer_updates: 1, average_updates: 1, best: None };
        let whole: Part = names.iter().map(|name| ((*name).to_owned(), tensor(2))).collect();
        let moments: Part = BTreeMap::from([("a".to_owned(), tensor(2))]);
        let parts = || {
            BTreeMap::from([
                (WEIGHT, whole.clone()),
                (AVERAGE, whole.clone()),
                (FIRST, moments.clone()),
                (SECOND, moments.clone()),
            ])
        };
        assert_eq!(check_parts(&parts(), &vars, &progress), Ok(()));
        let refused = |change: &dyn Fn(&mut BTreeMap<&str, Part>), words: &str| {
            let mut parts = parts();
            change(&mut parts);
            let problem = check_parts(&parts, &vars, &progress).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        };
        let edit = |part: &'static str, name: &'static str, tensor: Option<Tensor>| {
            move |parts: &mut BTreeMap<&str, Part>| {
                let part = parts.entry(part).or_default();
                match &tensor {
                    Some(tensor) => drop(part.insert(name.to_owned(), tensor.clone())),
                    None => drop(part.remove(name)),
                }
            }
        };
        refused(&edit(WEIGHT, "b", None), "has no weight/b");
        refused(&edit(AVERAGE, "n.running_mean", None), "has no average/n.running_mean");
        refused(&edit(WEIGHT, "c", Some(tensor(2))), "has an unknown weight/c");
        refused(&edit(SECOND, "a", None), "one moment of a");
        refused(&edit(WEIGHT, "a", Some(tensor(3))), "weight/a of shape [3]");
        refused(
            &|parts| {
                for part in [FIRST, SECOND] {
                    parts.entry(part).or_default().insert("n.running_mean".to_owned(), tensor(2));
                }
            },
            "n.running_mean",
        );
    }
}
