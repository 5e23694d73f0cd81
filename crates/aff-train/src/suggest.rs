//! Recipes made up from data, task and machine, for those who bring none.

use std::path::{Path, PathBuf};
use std::thread;

use aff_model::config::{
    BackboneConfig, DecoderConfig, DeformableDetrConfig, Mask2FormerConfig, ModelConfig,
};
use aff_vision::ResizeTarget;
use aff_weights::ModelFolder;

use crate::TrainError;
use crate::augment::{Augmentation, ColorJitter, ColorSpace, Crop, ScaleOf};
use crate::data::{self, DataSet, DataSource};
use crate::losses::LossOptions;
use crate::optim::{Decay, OptimizerOptions, Schedule};
use crate::recipe::{DataRecipe, ModelRecipe, Recipe, RunOptions};
use crate::targets::Target;
use crate::tasks::TaskName;

/// What a recipe is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wish {
    /// What is to be learnt.
    pub task: TaskName,
    /// Folder of the data.
    pub data: PathBuf,
    /// Name of their layout; recognised if it is `None`.
    pub layout: Option<String>,
    /// Split that is learnt from.
    pub train: String,
    /// Split that weights are chosen by.
    pub validation: Option<String>,
    /// What is to learn.
    pub model: ModelChoice,
    /// Folder of the results.
    pub output: PathBuf,
    /// Updates; what data and model call for if it is `None`.
    pub steps: Option<u64>,
}

/// A model to train.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ModelChoice {
    /// A network small enough for a CPU, from random weights.
    #[default]
    Small,
    /// A published model or a detector on its backbone by name, from random weights.
    Preset(String),
    /// The model in a folder, to be trained further; its classes may be others.
    Folder(PathBuf),
}

impl Wish {
    /// A recipe for the splits `train` and `val` of a folder, with a small model.
    pub fn new(task: TaskName, data: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            task,
            data: data.into(),
            layout: None,
            train: "train".to_owned(),
            validation: Some(UNASKED_VALIDATION.to_owned()),
            model: ModelChoice::Small,
            output: output.into(),
            steps: None,
        }
    }
}

impl ModelChoice {
    /// What a name stands for: a model folder, or else a preset, by its name or as `random:NAME`.
    ///
    /// # Errors
    /// If there is neither.
    ///
    /// ```
    /// use aff_train::ModelChoice;
    ///
    /// assert_eq!(ModelChoice::named("aff-tiny")?, ModelChoice::Preset("aff-tiny".to_owned()));
    /// assert!(ModelChoice::named("aff-giant").is_err());
    /// # Ok::<(), aff_train::TrainError>(())
    /// ```
    pub fn named(name: &str) -> Result<Self, TrainError> {
        if Path::new(name).exists() {
            return Ok(Self::Folder(PathBuf::from(name)));
        }
        let preset = name.strip_prefix("random:").unwrap_or(name);
        let known: Vec<String> = aff_weights::presets().into_iter().map(|model| model.name).collect();
        if known.iter().any(|known| known == preset) {
            return Ok(Self::Preset(preset.to_owned()));
        }
        let problem = format!("is neither a model folder nor one of the models {}", known.join(", "));
        Err(TrainError::Data { path: PathBuf::from(name), problem })
    }
}

/// A recipe, and what its settings follow from.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// The recipe.
    pub recipe: Recipe,
    /// A line for each choice: what was chosen, and why.
    pub reasons: Vec<String>,
}

/// The split that weights are chosen by if there is one.
const UNASKED_VALIDATION: &str = "val";
/// Images that are looked at.
const LOOKED_AT: usize = 64;
/// Times that a run shows every image, if it is from random weights and if not.
const EPOCHS: [u64; 2] = [60, 20];
/// Updates of a run, at least and at most.
const STEPS: [u64; 2] = [300, 20_000];
/// Images of a pass.
const BATCH: usize = 2;
/// Most passes of an update that are chosen unasked.
const MOST_PASSES: usize = 8;

/// Makes up a recipe. Deterministic but for the number of the machine's cores.
///
/// # Errors
/// If the data or the model cannot be read, or the model cannot do the task.
pub fn suggest(wish: &Wish) -> Result<Suggestion, TrainError> {
    let source =
        DataSource { layout: wish.layout.clone(), ..DataSource::new(&wish.data, &wish.train, wish.task) };
    let train = data::open(&source)?;
    let seen = Seen::of(train.as_ref())?;
    let mut reasons = vec![format!(
        "{} images of {} classes, the shortest edge mostly {} pixels, at most {} segments",
        seen.images, seen.classes, seen.shortest_edge, seen.segments
    )];
    let validation = validation(wish, source, &mut reasons)?;
    let crop = crop_edge(seen.shortest_edge, wish.task);
    reasons.push(format!(
        "crops of {crop} x {crop} pixels: what fits into the images, and into a CPU's patience"
    ));
    let model = model(wish, &seen, crop, &mut reasons)?;
    let is_new = model.initial.is_none();
    let run = run(wish, &seen, is_new, &mut reasons);
    let learning_rate = if is_new { 1e-3 } else { 2e-4 };
    reasons.push(format!(
        "learning rate {learning_rate}: the model {}",
        if is_new { "is new" } else { "knows something" }
    ));
    let recipe = Recipe {
        task: wish.task,
        data: DataRecipe {
            name: wish.layout.clone(),
            folder: wish.data.clone(),
            train: wish.train.clone(),
            validation,
            limit: None,
        },
        model,
        augmentation: augmentation(wish.task, crop),
        loss: loss(wish.task, crop),
        optimizer: OptimizerOptions {
            learning_rate,
            backbone_factor: if is_new { 1.0 } else { 0.1 },
            clip_norm: 30.0,
            ..OptimizerOptions::default()
        },
        schedule: Schedule { warmup_steps: (run.steps / 20).min(500), ..Schedule::new(Decay::Poly) },
        run,
    };
    recipe.validate()?;
    recipe.model_config(train.categories())?;
    Ok(Suggestion { recipe, reasons })
}

/// The split that weights are chosen by. One that was not asked for by name may not be there.
fn validation(
    wish: &Wish,
    source: DataSource,
    reasons: &mut Vec<String>,
) -> Result<Option<String>, TrainError> {
    let Some(split) = &wish.validation else { return Ok(None) };
    match data::open(&DataSource { split: split.clone(), ..source }) {
        Ok(held_out) => {
            reasons.push(format!("weights are chosen by the {} images of `{split}`", held_out.len()));
            Ok(Some(split.clone()))
        }
        Err(error) if *split == UNASKED_VALIDATION => {
            reasons.push(format!(
                "the last weights are kept, for there is no split `{split}` to choose by: {error}"
            ));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What some of the data look like.
struct Seen {
    images: usize,
    classes: usize,
    /// The median.
    shortest_edge: u32,
    /// The most of an image.
    segments: usize,
}

impl Seen {
    fn of(data: &dyn DataSet) -> Result<Self, TrainError> {
        let images = data.len();
        let (mut edges, mut segments) = (Vec::new(), 0);
        // Spread over all of the data, which may be in an order.
        let looked_at = images.min(LOOKED_AT);
        for index in (0..looked_at).map(|place| place * images / looked_at) {
            let sample = data.load(index)?;
            edges.push(sample.image.width().min(sample.image.height()));
            segments = segments.max(match &sample.target {
                Target::Segments(target) => target.segments().len(),
                Target::Boxes(target) => target.boxes().len(),
                Target::Class(_) | Target::Semantic(_) => 0,
            });
        }
        edges.sort_unstable();
        let Some(&shortest_edge) = edges.get(edges.len() / 2) else {
            return Err(TrainError::Target { problem: "is not there: the data have no images".to_owned() });
        };
        Ok(Self { images, classes: data.categories().len(), shortest_edge, segments })
    }
}

/// A multiple of 32 that the images have, within what a CPU trains in bearable time.
fn crop_edge(shortest_edge: u32, task: TaskName) -> u32 {
    let most = if task == TaskName::Classification { 224 } else { 320 };
    (shortest_edge / 32 * 32).clamp(64, most)
}

fn model(wish: &Wish, seen: &Seen, crop: u32, reasons: &mut Vec<String>) -> Result<ModelRecipe, TrainError> {
    let longest_edge = Some(crop * 2);
    let size = Some(ResizeTarget { shortest_edge: crop, longest_edge });
    let wanted = match wish.task {
        TaskName::Semantic => seen.classes.max(seen.classes * 2),
        _ => (seen.segments * 3 / 2).max(20),
    };
    let is_segmenter = wish.task != TaskName::Classification;
    Ok(match &wish.model {
        ModelChoice::Small => {
            let queries = wanted.min(500);
            let mut line = "the small model: 1 to 2 million parameters, made for CPUs".to_owned();
            if is_segmenter {
                line += &format!(
                    ", with {queries} queries for up to {} segments",
                    seen.segments.max(seen.classes)
                );
            }
            reasons.push(line);
            ModelRecipe {
                backbone: Some(small_backbone()),
                decoder: is_segmenter.then(|| small_head(wish.task)),
                num_queries: is_segmenter.then_some(queries),
                image_size: size,
                size_divisor: Some(32),
                ..ModelRecipe::default()
            }
        }
        ModelChoice::Preset(name) => {
            reasons.push(format!("the model {name}, from random weights"));
            ModelRecipe { preset: Some(name.clone()), image_size: size, ..ModelRecipe::default() }
        }
        ModelChoice::Folder(folder) => {
            let least = match wish.task {
                TaskName::Semantic => seen.classes,
                TaskName::Detection => seen.segments.max(1),
                _ => 1,
            };
            of_folder(folder, (wish.task, least), size, reasons)?
        }
    })
}

/// The parts of a model in a folder, to go on from its weights, with `least_queries` or more.
fn of_folder(
    folder: &Path,
    (task, least_queries): (TaskName, usize),
    size: Option<ResizeTarget>,
    reasons: &mut Vec<String>,
) -> Result<ModelRecipe, TrainError> {
    let model = ModelFolder::open(folder)?;
    let config: &ModelConfig = model.config();
    let has_head = task != TaskName::Classification;
    let is_same_kind = config.decoder_config.is_some() == has_head;
    let decoder = match (&config.decoder_config, task) {
        (Some(DecoderConfig::Mask2Former(other)), TaskName::Detection) => Err(detector_like(other).into()),
        (Some(decoder @ DecoderConfig::DeformableDetr(_)), TaskName::Detection) => Ok(decoder.clone()),
        (_, TaskName::Detection) | (None | Some(DecoderConfig::DeformableDetr(_)), _) => {
            Err(small_head(task))
        }
        (Some(decoder), _) => Ok(decoder.clone()),
    };
    if !is_same_kind || (has_head && decoder.is_err()) {
        reasons.push("a new head on the backbone of a model of another kind".to_owned());
    }
    reasons.push(format!("begins with the weights of {}", folder.display()));
    let decoder = decoder.unwrap_or_else(|new| new);
    let preprocessor = model.preprocessor().filter(|_| is_same_kind);
    Ok(ModelRecipe {
        backbone: Some(config.backbone_config.clone()),
        decoder: has_head.then_some(decoder),
        num_queries: has_head.then_some(config.num_queries.unwrap_or(100).max(least_queries)),
        image_size: preprocessor.map(|preprocessor| preprocessor.size).or(size),
        size_divisor: preprocessor.map(|preprocessor| preprocessor.size_divisor),
        initial: Some(folder.to_path_buf()),
        ..ModelRecipe::default()
    })
}

fn run(wish: &Wish, seen: &Seen, is_new: bool, reasons: &mut Vec<String>) -> RunOptions {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let accumulation = cores.min(MOST_PASSES);
    let images = (BATCH * accumulation) as u64;
    let epochs = EPOCHS[usize::from(!is_new)];
    let called_for = (seen.images as u64 * epochs).div_ceil(images).clamp(STEPS[0], STEPS[1]);
    let steps = wish.steps.unwrap_or(called_for);
    reasons.push(format!(
        "{images} images an update, {BATCH} for each of {accumulation} cores; {steps} updates, about {} times through the data",
        steps * images / seen.images.max(1) as u64
    ));
    RunOptions {
        seed: 1,
        steps,
        batch_size: BATCH,
        accumulation,
        workers: cores.min(4),
        average_decay: if steps > 2000 { 0.999 } else { 0.99 },
        checkpoint_every: (steps / 20).clamp(20, 500),
        validate_every: (steps / 5).max(50),
        output: wish.output.clone(),
    }
}

fn augmentation(task: TaskName, crop: u32) -> Augmentation {
    let crop = Crop { height: crop, width: crop, single_category_max: 1.0 };
    let common = Augmentation { crop, flip: 0.5, ..Augmentation::crops(crop.height, crop.width) };
    match task {
        TaskName::Classification => Augmentation {
            scale: [0.25, 1.0],
            scale_of: ScaleOf::Area { ratio: [0.75, 4.0 / 3.0] },
            jitter: 0.4,
            ..common
        },
        _ => {
            let color = ColorJitter {
                brightness: 32.0,
                contrast: 0.5,
                saturation: 0.5,
                hue: 18.0,
                space: ColorSpace::Hsv,
            };
            let pixels = crop.height;
            let scale_of = ScaleOf::ShortestEdge { pixels, longest: pixels * 8 };
            Augmentation { scale: [0.75, 2.0], scale_of, color: Some(color), ..common }
        }
    }
}

fn loss(task: TaskName, crop: u32) -> LossOptions {
    let points = (crop as usize * crop as usize / 16).clamp(512, 12_544);
    let common = LossOptions { points, ..LossOptions::default() };
    match task {
        TaskName::Classification => LossOptions { label_smoothing: 0.1, ..common },
        // The semantic loss makes small data sets learn faster.
        TaskName::Semantic => LossOptions { semantic: 4.0, semantic_balance: 0.4, ..common },
        TaskName::Instance | TaskName::Panoptic | TaskName::Detection => common,
    }
}

fn small_backbone() -> BackboneConfig {
    let mut backbone = BackboneConfig::new([32, 64, 128, 192], [2, 2, 4, 2], [2, 4, 8, 8]);
    backbone.drop_path_rate = 0.05;
    backbone
}

fn small_head(task: TaskName) -> DecoderConfig {
    let small = decoder(64, 8, (2, 3), 256);
    if task == TaskName::Detection { detector_like(&small).into() } else { small.into() }
}

/// A detection head of the sizes of a segmentation head, whose encoder it can begin from.
fn detector_like(other: &Mask2FormerConfig) -> DeformableDetrConfig {
    let mut head = DeformableDetrConfig::default();
    (head.hidden_dim, head.num_attention_heads) = (other.hidden_dim, other.num_attention_heads);
    (head.encoder_layers, head.decoder_layers) = (other.encoder_layers, other.decoder_layers);
    head.encoder_feedforward_dim = other.encoder_feedforward_dim;
    head.decoder_feedforward_dim = other.decoder_feedforward_dim;
    head.num_sampling_points = other.num_sampling_points;
    head.shepard_power_init = other.shepard_power_init;
    head.shepard_power_learnable = other.shepard_power_learnable;
    head
}

fn smallest_backbone() -> BackboneConfig {
    let mut backbone = BackboneConfig::new([8, 8, 16, 16], [1; 4], [1, 1, 2, 2]);
    backbone.neighborhood_sizes = [16; 4];
    backbone
}

fn decoder(
    width: usize,
    heads: usize,
    (encoder, layers): (usize, usize),
    feedforward: usize,
) -> Mask2FormerConfig {
    let mut decoder = Mask2FormerConfig::default();
    (decoder.hidden_dim, decoder.mask_feature_size, decoder.num_attention_heads) = (width, width, heads);
    (decoder.encoder_layers, decoder.decoder_layers) = (encoder, layers);
    (decoder.encoder_feedforward_dim, decoder.decoder_feedforward_dim) = (feedforward, feedforward);
    decoder
}

impl Recipe {
    /// A run of the smallest network that learns anything, for a hundred steps on pictures of about 32 x 48 pixels: for examples
    /// and tests, with data that are given to the [trainer's builder](crate::Trainer::builder).
    pub fn smallest(task: TaskName, output: impl Into<PathBuf>) -> Self {
        let is_segmenter = task != TaskName::Classification;
        let output = output.into();
        let smallest = decoder(16, 2, (1, 2), 32);
        let head = match task {
            TaskName::Classification => None,
            TaskName::Detection => Some(detector_like(&smallest).into()),
            TaskName::Semantic | TaskName::Instance | TaskName::Panoptic => Some(smallest.into()),
        };
        Self {
            task,
            data: DataRecipe {
                name: None,
                folder: PathBuf::new(),
                train: "train".to_owned(),
                validation: None,
                limit: None,
            },
            model: ModelRecipe {
                backbone: Some(smallest_backbone()),
                decoder: head,
                num_queries: is_segmenter.then_some(12),
                image_size: Some(ResizeTarget { shortest_edge: 32, longest_edge: Some(48) }),
                size_divisor: Some(4),
                ..ModelRecipe::default()
            },
            augmentation: Augmentation { flip: 0.5, ..Augmentation::crops(32, 32) },
            loss: LossOptions { points: 128, ..LossOptions::default() },
            optimizer: OptimizerOptions {
                learning_rate: 2e-3,
                backbone_factor: 1.0,
                clip_norm: 10.0,
                ..OptimizerOptions::default()
            },
            schedule: Schedule { warmup_steps: 5, ..Schedule::new(Decay::Poly) },
            run: RunOptions {
                seed: 1,
                steps: 100,
                batch_size: 2,
                accumulation: 1,
                workers: 1,
                average_decay: 0.0,
                checkpoint_every: 100,
                validate_every: 100,
                output,
            },
        }
    }
}
