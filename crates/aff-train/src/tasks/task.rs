//! What a trainer needs to know of a task.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aff_model::Phase;
use candle_core::Tensor;
use rand::RngCore;

use super::Validation;
use crate::data::{Batch, DataSet};
use crate::losses::Losses;
use crate::random::{Purpose, generator};
use crate::{Parameters, Recipe, TrainError};

/// A network with its losses and its validation: what a trainer needs to know of a task.
pub trait Task: Send + Sync {
    /// The losses of one pass of an update. The update follows the mean over its passes, so what is summed over a batch is divided
    /// by the mean over the passes of its number, not by this pass's. Everything random depends on the update's seed and step, and
    /// on the number of an image or of the pass.
    ///
    /// # Errors
    /// If the batch does not fit the network.
    fn losses(&self, update: &Update<'_>) -> Result<Losses, TrainError>;

    /// How good given weights are on held-out data; `None` if there are none.
    ///
    /// # Errors
    /// If the data cannot be read or the network fails.
    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<Validation>, TrainError> {
        let _ = weights;
        Ok(None)
    }

    /// Writes given weights as a model folder; the weights alone, as `model.safetensors`, unless a task knows more.
    ///
    /// # Errors
    /// If the folder cannot be written.
    fn write_model(&self, folder: &Path, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        std::fs::create_dir_all(folder).map_err(TrainError::io(folder, "create it"))?;
        Ok(aff_weights::write_tensor_file(&folder.join("model.safetensors"), weights)?)
    }

    /// The same task on another network of the same kind.
    ///
    /// # Errors
    /// If `parameters` are not those of such a network.
    fn replica(&self, parameters: &Parameters) -> Result<Box<dyn Task>, TrainError>;
}

/// A pass of an update of the weights.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// The run's seed.
    pub seed: u64,
    /// Updates before this one.
    pub step: u64,
    /// The batches of all passes.
    pub batches: &'a [Batch],
    /// Which of them this pass is about.
    pub pass: usize,
}

impl<'a> Update<'a> {
    /// The pass's batch.
    pub fn batch(&self) -> &'a Batch {
        &self.batches[self.pass]
    }

    /// Number of the batch's first image in the update.
    pub fn first_image(&self) -> u64 {
        self.batches[..self.pass].iter().map(|batch| batch.targets.len() as u64).sum()
    }

    /// Number of the pass in the run.
    pub fn number(&self) -> u64 {
        self.step * self.batches.len() as u64 + self.pass as u64
    }

    /// What a network has to know of the pass: that it is one of training, and the seed of the branches that it drops.
    pub fn phase(&self) -> Phase {
        Phase::Training { seed: generator(self.seed, Purpose::DropPath, self.number()).next_u64() }
    }
}

/// What a task is made from.
#[derive(Debug, Clone)]
pub struct TaskSetup<'a> {
    /// The run.
    pub recipe: &'a Recipe,
    /// What the network is built from, which fills it with variables.
    pub parameters: &'a Parameters,
    /// The data that are learnt from.
    pub train: Arc<dyn DataSet>,
    /// Held-out data, if there are any.
    pub validation: Option<Arc<dyn DataSet>>,
}
