//! Models on labelled data, through the pipelines that users run.

mod classes;
mod classification;
mod detection;
mod evaluation;
mod instance;
mod panoptic;
mod semantic;

use std::path::{Path, PathBuf};

use autofocusformer::{Classifier, Detector, Model, Segmenter};

use self::classes::ClassMap;
use self::classification::ClassificationEvaluator;
use self::detection::DetectionEvaluator;
use self::instance::InstanceEvaluator;
use self::panoptic::PanopticEvaluator;
use self::semantic::SemanticEvaluator;
use crate::TrainError;
use crate::data::{CategoryKind, DataSet, ResultFiles, Sample};
use crate::tasks::TaskName;

pub use evaluation::Evaluation;

/// Least score of an object that counts in TP / (TP + FP + FN).
const SHOWN: f64 = 0.5;
/// Objects that are counted of an image in COCO's protocol.
const COCO_DETECTIONS: usize = 100;

/// What a model is measured at, and how.
///
/// ```
/// use aff_train::{EvaluationOptions, tasks::TaskName};
///
/// let options = EvaluationOptions::new(TaskName::Instance).with_limit(100).with_results("output/results");
/// assert_eq!((options.limit, options.task), (Some(100), TaskName::Instance));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EvaluationOptions {
    /// What the model is asked for. Any segmenter does all three segmentation tasks.
    pub task: TaskName,
    /// Only the first so many images.
    pub limit: Option<usize>,
    /// Folder that gets the [official result files](ResultFiles); it is made if it is not there.
    pub results: Option<PathBuf>,
}

impl EvaluationOptions {
    /// All images, no files.
    pub fn new(task: TaskName) -> Self {
        Self { task, limit: None, results: None }
    }

    /// With the first images alone.
    #[must_use]
    pub fn with_limit(self, images: usize) -> Self {
        Self { limit: Some(images), ..self }
    }

    /// With official result files in a folder.
    #[must_use]
    pub fn with_results(self, folder: impl Into<PathBuf>) -> Self {
        Self { results: Some(folder.into()), ..self }
    }

    /// Number of images that are looked at.
    pub fn images(&self, data: &dyn DataSet) -> usize {
        self.limit.map_or(data.len(), |limit| data.len().min(limit))
    }
}

/// Runs a model on every image of a data set, each at its own size and alone, and compares; `observe` is told the number of each image
/// that is done. Memory does not grow with the images but for a few numbers (with result files: run lengths) of each object.
///
/// Classes are matched by name: letter case, `_` for a space and whatever follows a comma do not count. What the model finds of classes
/// that the data do not have is left out; of a semantic map it is wrong. Folders of ImageNet that are named by numbers alone are in the
/// order of the classes of a model with as many.
///
/// # Errors
/// If an image cannot be read, the network fails, the model is of another kind or lacks a class of the data, the data have no targets for
/// the task, there is no image, or result files cannot be written.
///
/// ```
/// use aff_train::data::Shapes;
/// use aff_train::tasks::TaskName;
/// use aff_train::{EvaluationOptions, evaluate};
/// use autofocusformer::{Device, Model};
///
/// let model = Model::from_pretrained("random:aff-mini-coco-instance", &Device::Cpu)?;
/// let data = Shapes::new(TaskName::Instance, 2);
/// let error = evaluate(model, &data, &EvaluationOptions::new(TaskName::Instance), |_| {}).unwrap_err();
/// assert!(error.to_string().contains("the model does not know `square`, `disc`"));
/// # Ok::<(), autofocusformer::Error>(())
/// ```
pub fn evaluate(
    model: Model,
    data: &dyn DataSet,
    options: &EvaluationOptions,
    mut observe: impl FnMut(usize),
) -> Result<Evaluation, TrainError> {
    let images = options.images(data);
    if images == 0 {
        return Err(TrainError::evaluation("there is no image to measure on"));
    }
    let mut evaluator = evaluator(model, data, options)?;
    let mut results =
        options.results.as_ref().map(|folder| result_files(folder, data, options.task)).transpose()?;
    for index in 0..images {
        let image = LabelledImage { data, index, sample: data.load(index)? };
        evaluator.add(&image, results.as_mut())?;
        observe(index);
    }
    if let Some(results) = results {
        results.finish()?;
    }
    Ok(evaluator.finish())
}

/// An image of a data set with its truth.
struct LabelledImage<'a> {
    data: &'a dyn DataSet,
    index: usize,
    sample: Sample,
}

/// A model with the figures of a task, fed image by image.
trait Evaluator {
    /// Runs the model on an image, counts how right it is, and hands what it found to the result files.
    fn add(&mut self, image: &LabelledImage<'_>, results: Option<&mut ResultFiles>)
    -> Result<(), TrainError>;

    /// The figures of all images.
    fn finish(self: Box<Self>) -> Evaluation;
}

fn evaluator(
    model: Model,
    data: &dyn DataSet,
    options: &EvaluationOptions,
) -> Result<Box<dyn Evaluator>, TrainError> {
    let labels: Vec<String> = model.config().id2label.values().cloned().collect();
    let classes = || ClassMap::new(&labels, data.categories());
    Ok(match options.task {
        TaskName::Classification => {
            Box::new(ClassificationEvaluator::new(Classifier::try_from(model)?, classes()?))
        }
        TaskName::Semantic => Box::new(SemanticEvaluator::new(Segmenter::try_from(model)?, classes()?, data)),
        TaskName::Instance => {
            let images = options.images(data);
            Box::new(InstanceEvaluator::new(Segmenter::try_from(model)?, classes()?, data, images)?)
        }
        TaskName::Panoptic => Box::new(PanopticEvaluator::new(Segmenter::try_from(model)?, classes()?, data)),
        TaskName::Detection => {
            let images = options.images(data);
            Box::new(DetectionEvaluator::new(Detector::try_from(model)?, classes()?, data, images)?)
        }
    })
}

/// Objects of an image that count: as many as in COCO, or as the image with the most objects has.
fn detections_that_count(data: &dyn DataSet, images: usize) -> Result<usize, TrainError> {
    let mut detections = COCO_DETECTIONS;
    for index in 0..images {
        detections = detections.max(data.num_objects(index)?);
    }
    tracing::debug!(detections, "objects of an image that count");
    Ok(detections)
}

/// Whether a class of the data is countable.
fn is_thing(data: &dyn DataSet, class: u32) -> bool {
    data.categories().get(class as usize).is_none_or(|category| category.kind == CategoryKind::Thing)
}

fn result_files(folder: &Path, data: &dyn DataSet, task: TaskName) -> Result<ResultFiles, TrainError> {
    if task == TaskName::Classification {
        return Err(TrainError::evaluation(
            "there are no official result files of classification; leave them out",
        ));
    }
    std::fs::create_dir_all(folder).map_err(TrainError::io(folder, "make the folder"))?;
    ResultFiles::new(folder, data)
}

/// A segmenter does what it is asked.
fn other_task() -> TrainError {
    TrainError::evaluation("the segmenter did another task than it was asked for; this is a bug")
}
