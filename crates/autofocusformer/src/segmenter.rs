//! Photos in, segments out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aff_model::config::{Architecture, SegmentationConfig, SegmentationTask, SemanticOrder};
use aff_model::{Auxiliary, MaskPrediction, Network, Phase, Tokens};
use aff_vision::{
    ImageSize, InstanceOptions, PanopticOptions, PixelValues, Prediction, PredictionParts,
    PreprocessorConfig, ResizeTarget, RgbImage, ScoredLabelMap, SumResolution,
};
use aff_weights::TensorOptions;
use candle_core::{DType, Tensor};

use crate::model::Model;
use crate::settings::{class_indices, with_image_size, with_shortest_edge};
use crate::{Error, ModelSource, SegmentOptions, Segmentation, SegmenterBuilder, Segments, model};

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
    network: Network,
    preprocessor: PreprocessorConfig,
    labels: Arc<[String]>,
    config: SegmentationConfig,
    options: SegmentOptions,
    tensor_options: TensorOptions,
}

/// Time that the parts of segmentations took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Timings {
    /// Resizing and normalising.
    pub preprocess: Duration,
    /// Patch embedding and the four stages.
    pub backbone: Duration,
    /// Pixel decoder and transformer decoder.
    pub decoder: Duration,
    /// From logits to segments at the photo's size.
    pub post_process: Duration,
}

impl Segmenter {
    /// Loads a segmenter from a model folder (or takes `random:NAME`, see [`Model::from_pretrained`]).
    ///
    /// # Errors
    /// What [`Model::from_pretrained`] returns; [`Error::WrongArchitecture`] if the folder has a classifier,
    /// [`Error::NoPreprocessor`] if it does not say how images become the network's input.
    pub fn from_pretrained(path: impl AsRef<Path>, options: impl Into<TensorOptions>) -> Result<Self, Error> {
        Model::from_pretrained(path, options)?.try_into()
    }

    /// Settings to build a segmenter with, beginning with those of the model: one in memory, or one by its name.
    pub fn builder(model: impl Into<ModelSource>) -> SegmenterBuilder {
        SegmenterBuilder::new(model.into())
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

    /// Shows these classes only, by name; neither letter case nor spaces around a name count.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] for a class that the model does not know.
    pub fn set_classes(&mut self, names: &[impl AsRef<str>]) -> Result<(), Error> {
        self.options.classes = Some(class_indices(&self.labels, names)?);
        Ok(())
    }

    /// Pixels of the shorter edge of what the network sees. The longest edge allowed grows in proportion.
    ///
    /// # Errors
    /// [`Error::Vision`] for an edge without pixels.
    pub fn set_shortest_edge(&mut self, pixels: u32) -> Result<(), Error> {
        self.preprocessor = with_shortest_edge(&self.preprocessor, pixels)?;
        Ok(())
    }

    /// Size that photos are brought to for the network.
    pub fn image_size(&self) -> ResizeTarget {
        self.preprocessor.size
    }

    /// Changes the size that photos are brought to for the network. Results are at the photo's size all the same.
    ///
    /// # Errors
    /// [`Error::Vision`] for an edge without pixels.
    pub fn set_image_size(&mut self, size: ResizeTarget) -> Result<(), Error> {
        self.preprocessor = with_image_size(&self.preprocessor, size)?;
        Ok(())
    }

    /// Segments a photo of any size.
    ///
    /// # Errors
    /// [`Error::Vision`] for an empty photo, [`Error::Network`] if the network fails.
    pub fn segment(&self, photo: &RgbImage) -> Result<Segmentation, Error> {
        self.segment_pixels(&[self.preprocessor.apply(photo)?], &mut Timings::default())?
            .pop()
            .ok_or_else(|| candle_core::Error::msg("no segmentation of a photo").bt().into())
    }

    /// Segments photos of any sizes. Neighbours that have one size for the network go through it together; a result does not
    /// depend on the others.
    ///
    /// # Errors
    /// As [`Self::segment`], for the first photo that fails.
    pub fn segment_all(&self, photos: &[RgbImage]) -> Result<Vec<Segmentation>, Error> {
        self.segment_timed(photos, &mut Timings::default())
    }

    /// As [`Self::segment_all`], adding the time of each part to `timings`.
    ///
    /// # Errors
    /// The same.
    pub fn segment_timed(
        &self,
        photos: &[RgbImage],
        timings: &mut Timings,
    ) -> Result<Vec<Segmentation>, Error> {
        let start = Instant::now();
        let pixels =
            photos.iter().map(|photo| self.preprocessor.apply(photo)).collect::<Result<Vec<_>, _>>()?;
        timings.preprocess += start.elapsed();
        let mut segmentations = Vec::with_capacity(photos.len());
        for group in pixels.chunk_by(|a, b| a.padded == b.padded) {
            segmentations.extend(self.segment_pixels(group, timings)?);
        }
        Ok(segmentations)
    }

    /// Segments photos of one size for the network.
    fn segment_pixels(
        &self,
        group: &[PixelValues],
        timings: &mut Timings,
    ) -> Result<Vec<Segmentation>, Error> {
        let start = Instant::now();
        let inputs = group.iter().map(|pixels| model::to_tensor(pixels, &self.tensor_options));
        let input = Tensor::cat(&inputs.collect::<Result<Vec<_>, _>>()?, 0)?;
        let features = self.network.features(&input, Phase::Inference)?;
        timings.backbone += start.elapsed();
        let tokens: Vec<usize> = features.levels.iter().flatten().map(Tokens::count).collect();
        tracing::debug!(input = ?input.dims(), ?tokens, time = ?start.elapsed(), "backbone");

        let start = Instant::now();
        let outputs = self.network.predict(&features, Auxiliary::Drop)?.into_masks()?.prediction;
        timings.decoder += start.elapsed();
        tracing::debug!(queries = outputs.class_logits.dims()[1], time = ?start.elapsed(), "decoder");

        let start = Instant::now();
        let post_process = |(image, pixels)| self.post_process(pixels, &outputs, image);
        let segmentations = group.iter().enumerate().map(post_process).collect();
        timings.post_process += start.elapsed();
        tracing::debug!(task = ?self.options.task, time = ?start.elapsed(), "post-process");
        segmentations
    }

    fn post_process(
        &self,
        pixels: &PixelValues,
        outputs: &MaskPrediction,
        image: usize,
    ) -> Result<Segmentation, Error> {
        let values = |logits: &Tensor| -> Result<Vec<f32>, Error> {
            Ok(logits.get(image)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
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
        let (segments, scores) = self.segments(&prediction)?;
        let mut segmentation =
            Segmentation::new(pixels.source, segments, Arc::clone(&self.labels)).with_scores(scores);
        if let Some(classes) = &self.options.classes {
            segmentation.retain_classes(classes)?;
        }
        Ok(segmentation)
    }

    /// The segments, and the score of each class of a semantic map.
    fn segments(&self, prediction: &Prediction<'_>) -> Result<(Segments, Vec<f32>), Error> {
        let options = &self.options;
        let thing_ids: Vec<u32> = self.config.thing_ids.iter().map(|&id| id as u32).collect();
        let segments = match options.task {
            SegmentationTask::Semantic => {
                let resolution = match self.config.semantic_order {
                    SemanticOrder::SumThenResize => SumResolution::Input,
                    SemanticOrder::ResizeThenSum => SumResolution::Source,
                };
                let ScoredLabelMap { map, scores } = aff_vision::semantic(prediction, resolution);
                return Ok((Segments::Semantic(map), scores));
            }
            SegmentationTask::Instance => {
                let wanted = options.classes.clone();
                let classes = match (wanted, thing_ids.is_empty()) {
                    (Some(wanted), _) => Some(wanted),
                    // A model without things, a semantic one, shows what it takes for objects all the same.
                    (None, is_semantic) => (!is_semantic).then_some(thing_ids),
                };
                let options = InstanceOptions {
                    max_instances: options.max_instances,
                    threshold: options.threshold().unwrap_or(INSTANCE_THRESHOLD),
                    mask_threshold: options.mask_threshold(),
                    classes,
                };
                Segments::Instance(aff_vision::instances(prediction, &options)?)
            }
            SegmentationTask::Panoptic => {
                let options = PanopticOptions {
                    threshold: options.threshold().unwrap_or(self.config.threshold as f32),
                    mask_threshold: options.mask_threshold(),
                    overlap_threshold: options.overlap_threshold(),
                    thing_ids,
                };
                Segments::Panoptic(aff_vision::panoptic(prediction, &options)?)
            }
        };
        Ok((segments, Vec::new()))
    }
}

impl TryFrom<Model> for Segmenter {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let config = model.config();
        let Some(segmentation) = config.segmentation_config.clone() else {
            return Err(Error::WrongArchitecture {
                path: model.path().to_path_buf(),
                expected: Architecture::UniversalSegmentation.kind(),
                found: config.architecture().kind(),
            });
        };
        let preprocessor = model.preprocessor()?.clone();
        Ok(Self {
            network: model.network().clone(),
            preprocessor,
            labels: config.id2label.values().cloned().collect(),
            options: SegmentOptions::new(&segmentation),
            config: segmentation,
            tensor_options: model.tensor_options().clone(),
        })
    }
}
