//! A run from its first or last step to its end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aff_vision::LabelMap;
use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use crate::checkpoint::{self, Best, Progress};
use crate::curves::draw_curves;
use crate::data::{Batch, DataSet, LabelledImage, Loader, LoaderOptions};
use crate::log::MetricsLog;
use crate::metrics::SemanticReport;
use crate::optim::{AdamW, Average, Gradients};
use crate::parameters::is_trained;
use crate::task::{SemanticSegmentation, Task};
use crate::{Parameters, Recipe, TrainError};

/// What an update did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Updates made so far.
    pub step: u64,
    /// The sum of the losses, averaged over the accumulated batches.
    pub loss: f64,
    /// Its parts.
    pub parts: BTreeMap<&'static str, f64>,
    /// L2 norm of the gradient over the whole model, before it was clipped.
    pub gradient_norm: f64,
    /// Learning rate outside the backbone.
    pub learning_rate: f64,
}

/// What a validation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValidationReport {
    /// Updates made so far.
    pub step: u64,
    /// Whether no earlier one was better.
    pub is_best: bool,
    /// The figures.
    pub validation: SemanticReport,
}

/// Is told what a run does, for progress bars and early ends. Does nothing unless told otherwise.
pub trait Observer {
    /// A run starts, or goes on, after `first` of its `steps`.
    fn started(&mut self, first: u64, steps: u64) {
        let _ = (first, steps);
    }

    /// An update was made, in this time.
    fn stepped(&mut self, report: &StepReport, time: Duration) {
        let _ = (report, time);
    }

    /// The weights were validated. `Break` ends the run here, with a checkpoint from which it can go on.
    fn validated(&mut self, report: &ValidationReport) -> ControlFlow<()> {
        let _ = report;
        ControlFlow::Continue(())
    }
}

/// Tells nobody.
impl Observer for () {}

/// A run.
///
/// Its folder holds `metrics.jsonl` (a line for each update and validation), `curves.png`, `checkpoint.safetensors` (all that
/// is needed to go on), and the model folders `best/` (of the best validation) and `last/`.
pub struct Trainer {
    recipe: Recipe,
    parameters: Parameters,
    passes: Vec<Pass>,
    optimizer: AdamW,
    average: Average,
    loader: Loader,
    log: MetricsLog,
    progress: Progress,
}

/// Losses by name, and gradients.
type PassResult = (Vec<(&'static str, f64)>, Gradients);

/// One of the passes whose gradients make an update. They run at the same time, each on a network of its own: the trained
/// variables are shared, the running statistics are not.
struct Pass {
    task: Box<dyn Task>,
    parameters: Parameters,
    threads: rayon::ThreadPool,
}

impl Pass {
    /// Forward and backward over a batch.
    fn run(&self, batch: &Batch, seed: u64, number: u64) -> Result<PassResult, TrainError> {
        self.threads.install(|| {
            let losses = self.task.losses(batch, seed, number)?;
            let value = |(name, part): &(&'static str, Tensor)| {
                Ok((*name, f64::from(part.to_dtype(DType::F32)?.to_scalar::<f32>()?)))
            };
            let values = losses.parts.iter().map(value).collect::<Result<_, TrainError>>()?;
            let mut gradients = Gradients::default();
            gradients.add(&self.parameters.vars(), &losses.total()?.backward()?)?;
            Ok((values, gradients))
        })
    }
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer").field("recipe", &self.recipe).field("progress", &self.progress).finish()
    }
}

impl Trainer {
    /// Prepares a run, or resumes the one whose checkpoint is in the recipe's folder.
    ///
    /// # Errors
    /// If the data, the initial weights or the checkpoint cannot be read, or the checkpoint is of another run.
    pub fn new(recipe: Recipe) -> Result<Self, TrainError> {
        recipe.validate()?;
        let data = &recipe.data;
        let open = |split: &str| -> Result<Arc<dyn DataSet>, TrainError> {
            let all = Arc::from(data.name.open(&data.folder, split)?);
            // A run that is validated on what it learns from sees the same images.
            let limit = data.limit.filter(|_| split == data.train);
            Ok(limit.map_or_else(
                || Arc::clone(&all),
                |limit| Arc::new(FirstOf { data: Arc::clone(&all), limit }),
            ))
        };
        let train = open(&data.train)?;
        let validation = data.validation.as_deref().map(open).transpose()?;

        let parameters = Parameters::new(recipe.run.seed, &Device::Cpu);
        let task = SemanticSegmentation::new(&recipe, &parameters, train.as_ref(), validation)?;
        if let Some(folder) = &recipe.model.initial {
            take_initial_weights(&parameters, folder)?;
        }
        let output = &recipe.run.output;
        std::fs::create_dir_all(output).map_err(TrainError::io(output, "create it"))?;
        let mut optimizer = AdamW::new(recipe.optimizer);
        let mut average = Average::new(recipe.run.average_decay);
        let mut progress = Progress { step: 0, optimizer_updates: 0, average_updates: 0, best: None };
        let path = checkpoint_path(output);
        if path.is_file() {
            let state = (&parameters, &mut optimizer, &mut average);
            progress = checkpoint::read(&path, &recipe.identity(), state)?;
        }
        let passes = passes(&recipe, &parameters, Box::new(task))?;
        let log = MetricsLog::open(&output.join("metrics.jsonl"), progress.step)?;
        let loader = Loader::start(
            &train,
            LoaderOptions {
                batch_size: recipe.run.batch_size,
                augmentation: recipe.augmentation,
                seed: recipe.run.seed,
                workers: recipe.run.workers,
                first: progress.step * recipe.run.accumulation as u64,
            },
        );
        Ok(Self { recipe, parameters, passes, optimizer, average, loader, log, progress })
    }

    /// The variables of the network.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Updates made so far.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// The best validation so far.
    pub fn best(&self) -> Option<Best> {
        self.progress.best
    }

    /// Runs to the end of the recipe, or until the observer ends it.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if the run diverges; if data cannot be read or results not written.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let steps = self.recipe.run.steps;
        observer.started(self.progress.step, steps);
        while self.progress.step < steps {
            let start = Instant::now();
            let report = self.update()?;
            self.log.write(&report)?;
            observer.stepped(&report, start.elapsed());
            let (step, run) = (self.progress.step, &self.recipe.run);
            let mut ends = step == steps;
            if ends || step.is_multiple_of(run.validate_every) {
                ends |= self.validate(observer)?.is_break();
            }
            if ends || step.is_multiple_of(self.recipe.run.checkpoint_every) {
                self.save()?;
            }
            if ends {
                break;
            }
        }
        Ok(())
    }

    /// One update of the weights.
    fn update(&mut self) -> Result<StepReport, TrainError> {
        let (step, run) = (self.progress.step, &self.recipe.run);
        let vars = self.parameters.vars();
        let batches =
            self.passes.iter().map(|_| self.loader.next_batch()).collect::<Result<Vec<_>, TrainError>>()?;
        let first = step * batches.len() as u64;
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .passes
                .iter()
                .zip(&batches)
                .zip(first..)
                .map(|((pass, batch), number)| scope.spawn(move || pass.run(batch, run.seed, number)))
                .collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        let mut gradients = Gradients::default();
        let mut parts = BTreeMap::new();
        for result in results {
            let (losses, part) = result.map_err(|_| TrainError::Panic)??;
            for (name, value) in losses {
                if !value.is_finite() {
                    let tensor = format!("the {name} loss");
                    return Err(TrainError::NotFinite { step: step + 1, tensor, value });
                }
                *parts.entry(name).or_insert(0.0) += value / batches.len() as f64;
            }
            gradients.merge(part);
        }
        if run.accumulation > 1 {
            gradients.scale(1.0 / run.accumulation as f64);
        }
        if let Some((name, value)) = gradients.not_finite() {
            let tensor = format!("the gradient of {name}");
            return Err(TrainError::NotFinite { step: step + 1, tensor, value: f64::from(value) });
        }
        let factor = self.recipe.schedule.factor(step, run.steps);
        let gradient_norm = self.optimizer.update(&vars, &mut gradients, factor)?;
        self.merge_statistics()?;
        self.average.update(&vars)?;
        self.progress.step += 1;
        Ok(StepReport {
            step: self.progress.step,
            loss: parts.values().sum(),
            parts,
            gradient_norm,
            learning_rate: self.recipe.optimizer.learning_rate * factor,
        })
    }

    /// Gives all passes the mean of their running statistics.
    fn merge_statistics(&self) -> Result<(), TrainError> {
        let replicas: Vec<_> = self.passes.iter().map(|pass| pass.parameters.vars()).collect();
        for (name, var) in self.parameters.vars().into_iter().filter(|(name, _)| !is_trained(name)) {
            let own: Vec<&Var> = replicas.iter().filter_map(|vars| vars.get(&name)).collect();
            let Some((first, rest)) = own.split_first() else { continue };
            let sum = rest.iter().try_fold(first.as_tensor().copy()?, |sum, var| sum + var.as_tensor())?;
            let mean = (sum / own.len() as f64)?;
            var.set(&mean)?;
            for var in own {
                var.set(&mean)?;
            }
        }
        Ok(())
    }

    /// Validates the average; keeps it if it is the best. What the observer says to it.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<ControlFlow<()>, TrainError> {
        let weights = self.average.tensors(&self.parameters.vars())?;
        let Some(validation) = self.passes[0].task.validate(&weights)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let step = self.progress.step;
        let is_best = self.progress.best.is_none_or(|best| validation.mean_iou > best.mean_iou);
        if is_best {
            self.passes[0].task.write_model(&self.recipe.run.output.join("best"), &weights)?;
            self.progress.best = Some(Best { step, mean_iou: validation.mean_iou });
        }
        let report = ValidationReport { step, is_best, validation };
        self.log.write(&report)?;
        Ok(observer.validated(&report))
    }

    /// Writes the checkpoint, the last weights and the curves.
    fn save(&mut self) -> Result<(), TrainError> {
        let output = &self.recipe.run.output;
        self.progress.optimizer_updates = self.optimizer.updates;
        self.progress.average_updates = self.average.updates;
        self.passes[0]
            .task
            .write_model(&output.join("last"), &self.average.tensors(&self.parameters.vars())?)?;
        let state = (&self.parameters, &self.optimizer, &self.average);
        checkpoint::write(&checkpoint_path(output), &self.recipe.identity(), &self.progress, state)?;
        draw_curves(&output.join("metrics.jsonl"), &output.join("curves.png"))
    }
}

/// The passes of an update. The first has the given network; all begin with the same values.
fn passes(recipe: &Recipe, parameters: &Parameters, task: Box<dyn Task>) -> Result<Vec<Pass>, TrainError> {
    let count = recipe.run.accumulation;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let pass = |task: Box<dyn Task>, parameters: Parameters| {
        let threads = rayon::ThreadPoolBuilder::new().num_threads((cores / count).max(1)).build();
        Ok(Pass { task, parameters, threads: threads.map_err(|_| TrainError::Panic)? })
    };
    let replicas = (1..count).map(|_| {
        let replica = parameters.replica()?;
        pass(task.replica(&replica)?, replica)
    });
    let replicas = replicas.collect::<Result<Vec<_>, TrainError>>()?;
    let first = pass(task, parameters.clone())?;
    Ok([first].into_iter().chain(replicas).collect())
}

fn checkpoint_path(output: &Path) -> PathBuf {
    output.join("checkpoint.safetensors")
}

/// Takes the weights of a model folder where name and shape fit: classes may be others.
fn take_initial_weights(parameters: &Parameters, folder: &Path) -> Result<(), TrainError> {
    let mut tensors = aff_weights::ModelFolder::open(folder)?.tensors(DType::F32, &Device::Cpu)?;
    let vars = parameters.vars();
    tensors.retain(|name, tensor| vars.get(name).is_some_and(|var| var.dims() == tensor.dims()));
    let count = parameters.set(&tensors)?;
    tracing::info!("{count} of {} parameters from {}", vars.len(), folder.display());
    if count == 0 {
        let problem = "has no parameter of the recipe's model".to_owned();
        return Err(TrainError::Data { path: folder.to_path_buf(), problem });
    }
    Ok(())
}

/// The first images of a data set.
#[derive(Debug)]
struct FirstOf {
    data: Arc<dyn DataSet>,
    limit: usize,
}

impl DataSet for FirstOf {
    fn classes(&self) -> Vec<String> {
        self.data.classes()
    }

    fn len(&self) -> usize {
        self.data.len().min(self.limit)
    }

    fn name(&self, index: usize) -> String {
        self.data.name(index)
    }

    fn load(&self, index: usize) -> Result<LabelledImage, TrainError> {
        self.data.load(index)
    }

    fn load_labels(&self, index: usize) -> Result<LabelMap, TrainError> {
        self.data.load_labels(index)
    }
}
