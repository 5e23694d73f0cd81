//! A run from its first or last step to its end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aff_files::FolderLock;
use aff_model::heads::deformable_detr::name_in_detector;
use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use crate::checkpoint::{Best, Checkpoints, Progress, State, StateMut};
use crate::curves::draw_curves;
use crate::data::{self, Category, DataSet, DataSource, Loader, LoaderOptions, Protocol, Sample};
use crate::log::MetricsLog;
use crate::optim::{AdamW, Average, Gradients};
use crate::parameters::is_trained;
use crate::targets::Target;
use crate::tasks::{Task, TaskSetup, Update, Validation};
use crate::{CityscapesTruth, Parameters, Recipe, TrainError};

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
    pub validation: Validation,
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

    /// Something is not as it should be, but the run goes on.
    fn warned(&mut self, warning: &str) {
        let _ = warning;
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
/// Its folder, in which it is alone, holds `metrics.jsonl` (a line for each update and validation), `curves.png`,
/// `checkpoint.safetensors` (all that is needed to go on), the checkpoint before that one, and the model folders `best/` (of the
/// best validation) and `last/`.
pub struct Trainer {
    recipe: Recipe,
    parameters: Parameters,
    passes: Vec<Pass>,
    optimizer: AdamW,
    average: Average,
    loader: Loader,
    log: MetricsLog,
    progress: Progress,
    checkpoints: Checkpoints,
    /// What the observer has not been told yet.
    warnings: Vec<String>,
    log_failed: bool,
    _lock: FolderLock,
}

/// Losses by name, and gradients.
type PassResult = (Vec<(&'static str, f64)>, Gradients);

/// One of the passes whose gradients make an update. They run at the same time, each on a network of its own: the trained
/// variables are shared, the running statistics are not.
struct Pass {
    task: Box<dyn Task>,
    parameters: Parameters,
    /// Shared with passes that are run at other times.
    threads: Arc<rayon::ThreadPool>,
}

impl Pass {
    /// Forward and backward over the pass's batch.
    fn run(&self, update: &Update<'_>) -> Result<PassResult, TrainError> {
        self.threads.install(|| {
            let losses = self.task.losses(update)?;
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

impl std::fmt::Debug for TrainerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainerBuilder").field("recipe", &self.recipe).finish_non_exhaustive()
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
        Self::builder(recipe).build()
    }

    /// A run with data, a task or a loss of one's own.
    pub fn builder(recipe: Recipe) -> TrainerBuilder {
        TrainerBuilder { recipe, train: None, validation: None, task: None }
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
    pub fn best(&self) -> Option<&Best> {
        self.progress.best.as_ref()
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
            self.warn(observer);
            let report = self.update()?;
            self.write_log(&report);
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
        self.warn(observer);
        Ok(())
    }

    /// Tells the observer what it has not been told.
    fn warn(&mut self, observer: &mut dyn Observer) {
        for warning in self.warnings.drain(..) {
            tracing::warn!("{warning}");
            observer.warned(&warning);
        }
    }

    /// Adds a line to the log; the first that cannot be written is a warning, for the run does not depend on it.
    fn write_log(&mut self, report: &impl Serialize) {
        if let Err(error) = self.log.write(report)
            && !self.log_failed
        {
            self.log_failed = true;
            self.warnings.push(format!("{error}; the run goes on without"));
        }
    }

    /// One update of the weights.
    fn update(&mut self) -> Result<StepReport, TrainError> {
        let (step, run) = (self.progress.step, &self.recipe.run);
        let vars = self.parameters.vars();
        let batches =
            self.passes.iter().map(|_| self.loader.next_batch()).collect::<Result<Vec<_>, TrainError>>()?;
        let mut gradients = Gradients::default();
        let mut parts = BTreeMap::new();
        let numbers: Vec<usize> = (0..self.passes.len()).collect();
        // No more at a time than there are cores, so that memory does not grow with the passes.
        for wave in numbers.chunks(cores()) {
            let results: Vec<_> = thread::scope(|scope| {
                let start = |&number: &usize| {
                    let update = Update { seed: run.seed, step, batches: &batches, pass: number };
                    let pass = &self.passes[number];
                    scope.spawn(move || pass.run(&update))
                };
                let threads: Vec<_> = wave.iter().map(start).collect();
                threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
            });
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
        let best = self.progress.best.as_ref().map_or(f64::NAN, |best| best.value);
        let is_best = validation.beats(best);
        if is_best {
            let failed = |error| TrainError::Save { source: Box::new(error) };
            self.passes[0]
                .task
                .write_model(&self.recipe.run.output.join("best"), &weights)
                .map_err(failed)?;
            let (metric, value) = (validation.decides.clone(), validation.value());
            self.progress.best = Some(Best { step, metric, value });
        }
        let report = ValidationReport { step, is_best, validation };
        self.write_log(&report);
        Ok(observer.validated(&report))
    }

    /// Writes the checkpoint, the last weights and the curves.
    fn save(&mut self) -> Result<(), TrainError> {
        self.progress.optimizer_updates = self.optimizer.updates;
        self.progress.average_updates = self.average.updates;
        let state =
            State { parameters: &self.parameters, optimizer: &self.optimizer, average: &self.average };
        self.checkpoints.write(&self.recipe.identity(), &self.progress, &state)?;
        let output = &self.recipe.run.output;
        let weights = self.average.tensors(&self.parameters.vars())?;
        let failed = |error| TrainError::Save { source: Box::new(error) };
        self.passes[0].task.write_model(&output.join("last"), &weights).map_err(failed)?;
        if let Err(error) = draw_curves(&output.join("metrics.jsonl"), &output.join("curves.png")) {
            tracing::warn!("the curves cannot be drawn: {error}");
        }
        Ok(())
    }
}

/// Makes the task of a run.
type TaskFactory = Box<dyn FnOnce(&TaskSetup<'_>) -> Result<Box<dyn Task>, TrainError>>;

/// A run in preparation: what is not given follows from the recipe.
pub struct TrainerBuilder {
    recipe: Recipe,
    train: Option<Arc<dyn DataSet>>,
    validation: Option<Arc<dyn DataSet>>,
    task: Option<TaskFactory>,
}

impl TrainerBuilder {
    /// Learns from these data instead of the recipe's. There is no validation then but on data that are given too.
    #[must_use]
    pub fn train_data(self, data: impl DataSet + 'static) -> Self {
        Self { train: Some(Arc::new(data)), ..self }
    }

    /// Validates on these data instead of the recipe's.
    #[must_use]
    pub fn validation_data(self, data: impl DataSet + 'static) -> Self {
        Self { validation: Some(Arc::new(data)), ..self }
    }

    /// Trains another task than the recipe's, or that with another loss.
    #[must_use]
    pub fn task<T: Task + 'static>(
        self,
        make: impl FnOnce(&TaskSetup<'_>) -> Result<T, TrainError> + 'static,
    ) -> Self {
        let make = |setup: &TaskSetup<'_>| Ok(Box::new(make(setup)?) as Box<dyn Task>);
        Self { task: Some(Box::new(make)), ..self }
    }

    /// The run, or the one to resume whose checkpoint is in the recipe's folder.
    ///
    /// # Errors
    /// As [`Trainer::new`], and what making the task returns.
    pub fn build(self) -> Result<Trainer, TrainError> {
        let recipe = self.recipe;
        recipe.validate()?;
        let (train, validation) = match self.train {
            Some(train) => (train, self.validation),
            None => {
                let (train, validation) = open_data(&recipe)?;
                (train, self.validation.or(validation))
            }
        };
        if train.is_empty() {
            let problem = "has no images to learn from".to_owned();
            return Err(TrainError::Data { path: recipe.data.folder, problem });
        }
        let parameters = Parameters::new(recipe.run.seed, &Device::Cpu);
        let setup =
            TaskSetup { recipe: &recipe, parameters: &parameters, train: Arc::clone(&train), validation };
        let task = match self.task {
            Some(make) => make(&setup)?,
            None => recipe.task.build(&setup)?,
        };
        if let Some(folder) = &recipe.model.initial {
            take_initial_weights(&parameters, folder)?;
        }
        let output = &recipe.run.output;
        std::fs::create_dir_all(output).map_err(TrainError::io(output, "create it"))?;
        let lock = FolderLock::acquire(output)?;
        let mut optimizer = AdamW::new(recipe.optimizer);
        let mut average = Average::new(recipe.run.average_decay);
        let mut progress = Progress { step: 0, optimizer_updates: 0, average_updates: 0, best: None };
        let checkpoints = Checkpoints::of(output);
        let mut state =
            StateMut { parameters: &parameters, optimizer: &mut optimizer, average: &mut average };
        let mut warnings = Vec::new();
        if let Some(restored) = checkpoints.read(&recipe.identity(), &mut state)? {
            progress = restored.progress;
            warnings.extend(restored.warning);
        }
        let passes = passes(&recipe, &parameters, task)?;
        let log = MetricsLog::open(&output.join("metrics.jsonl"), progress.step)?;
        let options = LoaderOptions {
            batch_size: recipe.run.batch_size,
            augmentation: recipe.augmentation,
            seed: recipe.run.seed,
            workers: recipe.run.workers,
            first: progress.step * recipe.run.accumulation as u64,
        };
        let loader = Loader::start(&train, options);
        Ok(Trainer {
            recipe,
            parameters,
            passes,
            optimizer,
            average,
            loader,
            log,
            progress,
            checkpoints,
            warnings,
            log_failed: false,
            _lock: lock,
        })
    }
}

/// The data of a recipe: what is learnt from, and what weights are chosen by.
type RecipeData = (Arc<dyn DataSet>, Option<Arc<dyn DataSet>>);

fn open_data(recipe: &Recipe) -> Result<RecipeData, TrainError> {
    let options = &recipe.data;
    let open = |split: &str| -> Result<Arc<dyn DataSet>, TrainError> {
        let source = DataSource::new(&options.folder, split, recipe.task);
        let all = Arc::from(data::open(&DataSource { layout: options.name.clone(), ..source })?);
        // A run that is validated on what it learns from sees the same images.
        let limit = options.limit.filter(|_| split == options.train);
        Ok(limit
            .map_or_else(|| Arc::clone(&all), |limit| Arc::new(FirstOf { data: Arc::clone(&all), limit })))
    };
    Ok((open(&options.train)?, options.validation.as_deref().map(open).transpose()?))
}

/// Bytes of the stacks that passes run on: gradients are taken by recursion through the network, however deep it is. Only what is
/// used of them takes memory.
const STACK: usize = 64 << 20;

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The passes of an update. The first has the given network; all begin with the same values.
fn passes(recipe: &Recipe, parameters: &Parameters, task: Box<dyn Task>) -> Result<Vec<Pass>, TrainError> {
    let count = recipe.run.accumulation;
    let at_a_time = count.min(cores());
    let pool = |_| {
        let threads = rayon::ThreadPoolBuilder::new().num_threads((cores() / at_a_time).max(1));
        threads.stack_size(STACK).build().map(Arc::new).map_err(|_| TrainError::Panic)
    };
    let pools = (0..at_a_time).map(pool).collect::<Result<Vec<_>, TrainError>>()?;
    let threads = |number: usize| Arc::clone(&pools[number % pools.len()]);
    let replicas = (1..count).map(|number| {
        let replica = parameters.replica()?;
        Ok::<_, TrainError>(Pass {
            task: task.replica(&replica)?,
            parameters: replica,
            threads: threads(number),
        })
    });
    let replicas = replicas.collect::<Result<Vec<_>, TrainError>>()?;
    let first = Pass { task, parameters: parameters.clone(), threads: threads(0) };
    Ok([first].into_iter().chain(replicas).collect())
}

/// Takes the weights of a model folder where name and shape fit: classes may be others. A classifier's backbone is taken as that of
/// a segmenter or detector, and the other way round; a Mask2Former model's encoder as that of a detector.
fn take_initial_weights(parameters: &Parameters, folder: &Path) -> Result<(), TrainError> {
    let all = aff_weights::ModelFolder::open(folder)?.tensors(DType::F32, &Device::Cpu)?;
    let vars = parameters.vars();
    let fits = |name: &str, tensor: &Tensor| vars.get(name).is_some_and(|var| var.dims() == tensor.dims());
    let named = all.into_iter().filter_map(|(name, tensor)| {
        let in_other_head = format!("backbone.{name}");
        let in_classifier = name.strip_prefix("backbone.").unwrap_or(&name).to_owned();
        let in_detector = name_in_detector(&name).map(str::to_owned);
        let others = [in_other_head, in_classifier].into_iter().chain(in_detector);
        let name = others.into_iter().find(|other| vars.contains_key(other)).unwrap_or(name);
        fits(&name, &tensor).then_some((name, tensor))
    });
    let count = parameters.set(&named.collect())?;
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
    fn categories(&self) -> &[Category] {
        self.data.categories()
    }

    fn len(&self) -> usize {
        self.data.len().min(self.limit)
    }

    fn name(&self, index: usize) -> String {
        self.data.name(index)
    }

    fn image_id(&self, index: usize) -> u64 {
        self.data.image_id(index)
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        self.data.load(index)
    }

    fn load_target(&self, index: usize) -> Result<Target, TrainError> {
        self.data.load_target(index)
    }

    fn num_objects(&self, index: usize) -> Result<usize, TrainError> {
        self.data.num_objects(index)
    }

    fn protocol(&self) -> Protocol {
        self.data.protocol()
    }

    fn cityscapes_truth(&self, index: usize) -> Result<Option<CityscapesTruth>, TrainError> {
        self.data.cityscapes_truth(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shapes;
    use crate::tasks::TaskName;

    /// Remembers the warnings.
    #[derive(Default)]
    struct Warnings(Vec<String>);

    impl Observer for Warnings {
        fn warned(&mut self, warning: &str) {
            self.0.push(warning.to_owned());
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told_of_once_and_the_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut recipe = Recipe::smallest(TaskName::Classification, folder.path().join("run"));
        recipe.run.steps = 3;
        let data = Shapes::new(TaskName::Classification, 4);
        let mut trainer = Trainer::builder(recipe).train_data(data).build().unwrap();
        trainer.log = MetricsLog::closed(&folder.path().join("closed"));
        let mut seen = Warnings::default();
        trainer.run(&mut seen).unwrap();
        assert_eq!(trainer.step(), 3);
        assert_eq!(seen.0.len(), 1);
        assert!(
            seen.0[0].contains("cannot write it") && seen.0[0].ends_with("goes on without"),
            "{:?}",
            seen.0
        );
    }
}
