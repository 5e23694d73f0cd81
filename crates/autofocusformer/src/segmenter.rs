//! Photos in, segments out.

use std::path::Path;
use std::sync::Arc;

use aff_model::Phase;
use aff_model::config::{self, SegmentationConfig, SegmentationTask};
use aff_model::mask2former::Auxiliary;
use aff_model::segmenter;
use aff_vision::{
    ImageSize, InstanceMask, InstanceOptions, LabelMap, OverlayOptions, PanopticMap, PanopticOptions,
    PixelValues, Prediction, PredictionParts, PreprocessorConfig, Regions, RgbImage, Segment, SemanticOrder,
};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::model::{Model, Network};
use crate::{Error, model};

/// Score from which instances are shown where nothing else was asked for.
const INSTANCE_THRESHOLD: f32 = 0.5;

/// A segmentation network with everything around it.
///
/// ```no_run
/// use autofocusformer::{Device, Segmenter, vision};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let segmenter = Segmenter::from_pretrained("models/my-model", &Device::Cpu)?;
/// let photo = vision::open("photo.jpg")?;
/// let segmentation = segmenter.segment(&photo)?;
/// for segment in segmentation.segments() {
///     println!("{}: {} pixels", segment.label, segment.area);
/// }
/// vision::write_png("overlay.png", &segmentation.overlay(&photo)?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Segmenter {
    network: segmenter::Segmenter,
    preprocessor: PreprocessorConfig,
    labels: Arc<[String]>,
    config: SegmentationConfig,
    options: SegmentOptions,
    device: Device,
}

/// What a photo is segmented into. Starts as the model's folder says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SegmentOptions {
    /// What is asked for; any model can do all three, and does best what it was trained for.
    pub task: SegmentationTask,
    /// Least score of an instance or panoptic segment, 0 to 1. By default 0.5 for instances and what the model's folder
    /// says for panoptic segments.
    pub threshold: Option<f32>,
    /// Mask probability from which a pixel belongs to an instance or panoptic segment, 0 to 1.
    pub mask_threshold: f32,
    /// Least share of its mask that a panoptic segment must win, 0 to 1.
    pub overlap_threshold: f32,
    /// Most instances of a photo.
    pub max_instances: usize,
}

impl Segmenter {
    /// Loads a segmenter from a model folder (or takes `random:NAME`, see [`Model::from_pretrained`]).
    ///
    /// # Errors
    /// What [`Model::from_pretrained`] returns; [`Error::WrongArchitecture`] if the folder has a classifier,
    /// [`Error::NoPreprocessor`] if it does not say how images become the network's input.
    pub fn from_pretrained(path: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Model::from_pretrained(path, device)?.try_into()
    }

    /// What photos are segmented into.
    pub fn options(&self) -> &SegmentOptions {
        &self.options
    }

    /// What photos are segmented into, to be changed.
    pub fn options_mut(&mut self) -> &mut SegmentOptions {
        &mut self.options
    }

    /// Names of the classes, by class.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Segments a photo of any size.
    ///
    /// # Errors
    /// [`Error::Vision`] for an empty photo or a threshold outside 0 to 1, [`Error::Network`] if the network fails.
    pub fn segment(&self, photo: &RgbImage) -> Result<Segmentation, Error> {
        let pixels = self.preprocessor.apply(photo)?;
        let input = model::to_tensor(&pixels, &self.device)?;
        let features = self.network.features(&input, Phase::Inference)?;
        let outputs = self.network.predict(&features, Auxiliary::Drop)?.prediction;
        self.post_process(&pixels, &outputs)
    }

    /// Segments photos of any sizes, one after another: a result does not depend on the others.
    ///
    /// # Errors
    /// As [`Self::segment`], for the first photo that fails.
    pub fn segment_all(&self, photos: &[RgbImage]) -> Result<Vec<Segmentation>, Error> {
        photos.iter().map(|photo| self.segment(photo)).collect()
    }

    fn post_process(
        &self,
        pixels: &PixelValues,
        outputs: &segmenter::Prediction,
    ) -> Result<Segmentation, Error> {
        let values = |logits: &Tensor| -> Result<Vec<f32>, Error> {
            Ok(logits.squeeze(0)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        let (_, num_queries, height, width) = outputs.mask_logits.dims4()?;
        let (class_logits, mask_logits) = (values(&outputs.class_logits)?, values(&outputs.mask_logits)?);
        let prediction = Prediction::new(PredictionParts {
            class_logits: &class_logits,
            mask_logits: &mask_logits,
            num_queries,
            num_classes: self.labels.len(),
            canvas: ImageSize::new(height as u32, width as u32),
            padded: pixels.padded,
            content: pixels.content,
            source: pixels.source,
        })?;
        let segments = self.segments(&prediction)?;
        Ok(Segmentation { size: pixels.source, segments, labels: self.labels.clone() })
    }

    fn segments(&self, prediction: &Prediction<'_>) -> Result<Segments, Error> {
        let options = &self.options;
        let thing_ids: Vec<u32> = self.config.thing_ids.iter().map(|&id| id as u32).collect();
        Ok(match options.task {
            SegmentationTask::Semantic => {
                let order = match self.config.semantic_order {
                    config::SemanticOrder::SumThenResize => SemanticOrder::SumThenResize,
                    config::SemanticOrder::ResizeThenSum => SemanticOrder::ResizeThenSum,
                };
                Segments::Semantic(aff_vision::semantic(prediction, order))
            }
            SegmentationTask::Instance => {
                let options = InstanceOptions {
                    max_instances: options.max_instances,
                    threshold: options.threshold.unwrap_or(INSTANCE_THRESHOLD),
                    mask_threshold: options.mask_threshold,
                    // A model without things, a semantic one, shows what it takes for objects all the same.
                    classes: (!thing_ids.is_empty()).then_some(thing_ids),
                };
                Segments::Instance(aff_vision::instances(prediction, &options)?)
            }
            SegmentationTask::Panoptic => {
                let options = PanopticOptions {
                    threshold: options.threshold.unwrap_or(self.config.threshold as f32),
                    mask_threshold: options.mask_threshold,
                    overlap_threshold: options.overlap_threshold,
                    thing_ids,
                };
                Segments::Panoptic(aff_vision::panoptic(prediction, &options)?)
            }
        })
    }
}

impl TryFrom<Model> for Segmenter {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let config = model.config();
        let (Network::Segmenter(network), Some(segmentation)) =
            (model.network(), config.segmentation_config.clone())
        else {
            return Err(Error::WrongArchitecture {
                path: model.path().to_path_buf(),
                expected: "segmenter",
                found: "classifier",
            });
        };
        let preprocessor = model.preprocessor()?.clone();
        Ok(Self {
            network: network.as_ref().clone(),
            preprocessor,
            labels: config.id2label.values().cloned().collect(),
            options: SegmentOptions {
                task: segmentation.task,
                threshold: None,
                mask_threshold: segmentation.mask_threshold as f32,
                overlap_threshold: segmentation.overlap_threshold as f32,
                max_instances: segmentation.max_instances,
            },
            config: segmentation,
            device: model.device().clone(),
        })
    }
}

/// What was found in a photo, at the photo's size.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    size: ImageSize,
    segments: Segments,
    labels: Arc<[String]>,
}

/// The result of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Segments {
    /// A class for every pixel.
    Semantic(LabelMap),
    /// Objects, best first; they may overlap.
    Instance(Vec<InstanceMask>),
    /// At most one segment for every pixel.
    Panoptic(PanopticMap),
}

/// The JSON of a segmentation.
#[derive(Debug, Serialize)]
struct Report<'a> {
    width: u32,
    height: u32,
    task: SegmentationTask,
    segments: &'a [Segment],
}

impl Segmentation {
    /// Height and width of the photo.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// What was asked for.
    pub fn task(&self) -> SegmentationTask {
        match self.segments {
            Segments::Semantic(_) => SegmentationTask::Semantic,
            Segments::Instance(_) => SegmentationTask::Instance,
            Segments::Panoptic(_) => SegmentationTask::Panoptic,
        }
    }

    /// The pixels of the segments.
    pub fn result(&self) -> &Segments {
        &self.segments
    }

    /// What is known of each segment, with the names of their classes.
    pub fn segments(&self) -> Vec<Segment> {
        match &self.segments {
            Segments::Semantic(map) => map.segments(&self.labels),
            Segments::Instance(found) => {
                (1..).zip(found).map(|(id, object)| object.named(id, &self.labels)).collect()
            }
            Segments::Panoptic(map) => {
                map.segments().iter().map(|segment| segment.named(&self.labels)).collect()
            }
        }
    }

    /// The photo with the segments over it, in colours that belong to the classes.
    ///
    /// # Errors
    /// [`Error::Vision`] if the photo is of another size than the one that was segmented.
    pub fn overlay(&self, photo: &RgbImage) -> Result<RgbImage, Error> {
        self.overlay_with(photo, &OverlayOptions::default())
    }

    /// As [`Self::overlay`], in another style.
    ///
    /// # Errors
    /// As [`Self::overlay`], or for an `alpha` outside 0 to 1.
    pub fn overlay_with(&self, photo: &RgbImage, options: &OverlayOptions) -> Result<RgbImage, Error> {
        let regions = match &self.segments {
            Segments::Semantic(map) => Regions::of_labels(map, &self.labels),
            Segments::Instance(found) => Regions::of_instances(self.size, found, &self.labels),
            Segments::Panoptic(map) => Regions::of_panoptic(map, &self.labels),
        };
        Ok(aff_vision::overlay(photo, &regions, options)?)
    }

    /// Writes the pixels of the segments as PNG: the class of each pixel in grey (semantic), or its segment's id in COCO's
    /// colour code (panoptic). Instances may overlap, so that they have no such picture: `false`, and nothing is written.
    ///
    /// # Errors
    /// [`Error::Vision`] if the file cannot be written.
    pub fn write_map(&self, path: impl AsRef<Path>) -> Result<bool, Error> {
        match &self.segments {
            Segments::Semantic(map) => map.write_png(path)?,
            Segments::Panoptic(map) => map.write_png(path)?,
            Segments::Instance(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Writes `{width, height, task, segments: [{id, label_id, label, was_fused, score, area, ...}]}`; instances have their
    /// `bbox` and exact `segmentation` (COCO run lengths) as well.
    ///
    /// # Errors
    /// [`Error::Vision`] if the file cannot be written.
    pub fn write_json(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let segments = self.segments();
        let (width, height) = (self.size.width, self.size.height);
        Ok(aff_vision::write_json(path, &Report { width, height, task: self.task(), segments: &segments })?)
    }
}
