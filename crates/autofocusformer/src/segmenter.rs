//! Photos in, segments out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aff_model::Phase;
use aff_model::config::{self, SegmentationConfig, SegmentationTask};
use aff_model::mask2former::Auxiliary;
use aff_model::segmenter;
use aff_vision::{
    ImageSize, InstanceMask, InstanceOptions, LabelMap, OverlayOptions, PanopticMap, PanopticOptions,
    PixelValues, Prediction, PredictionParts, PreprocessorConfig, Regions, ResizeTarget, RgbImage, Segment,
    SemanticOrder,
};
use candle_core::{DType, Tensor};
use serde::Serialize;

use crate::model::{Model, Network, Place};
use crate::{Error, SegmenterBuilder, model};

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
    place: Place,
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
    /// The classes that are shown; all without it. In a semantic map the pixels of all others become [`Segmentation::VOID`].
    pub classes: Option<Vec<u32>>,
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
    pub fn from_pretrained(path: impl AsRef<Path>, place: impl Into<Place>) -> Result<Self, Error> {
        Model::from_pretrained(path, place)?.try_into()
    }

    /// Settings to build a segmenter with, beginning with those of the model.
    pub fn builder(model: impl AsRef<Path>) -> SegmenterBuilder {
        SegmenterBuilder::new(model.as_ref())
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

    /// Shows these classes only, by name.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] for a class that the model does not know.
    pub fn set_classes(&mut self, names: &[impl AsRef<str>]) -> Result<(), Error> {
        let index = |name: &str| {
            let found = self.labels.iter().position(|label| label.eq_ignore_ascii_case(name));
            found
                .map(|class| class as u32)
                .ok_or_else(|| Error::UnknownClass { name: name.to_owned(), known: self.labels.to_vec() })
        };
        let indices = names.iter().map(|name| index(name.as_ref())).collect::<Result<_, Error>>()?;
        self.options.classes = Some(indices);
        Ok(())
    }

    /// Pixels of the shorter edge of what the network sees. The longest edge allowed grows in proportion.
    ///
    /// # Errors
    /// [`Error::Vision`] for an edge without pixels.
    pub fn set_shortest_edge(&mut self, pixels: u32) -> Result<(), Error> {
        let size = self.image_size();
        let longest = |edge: u32| {
            let scaled = u64::from(edge) * u64::from(pixels) / u64::from(size.shortest_edge.max(1));
            u32::try_from(scaled).unwrap_or(u32::MAX).max(pixels)
        };
        let longest_edge = size.longest_edge.map(longest);
        self.set_image_size(ResizeTarget { shortest_edge: pixels, longest_edge })
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
        let preprocessor = PreprocessorConfig { do_resize: true, size, ..self.preprocessor.clone() };
        preprocessor.validate()?;
        self.preprocessor = preprocessor;
        Ok(())
    }

    /// Segments a photo of any size.
    ///
    /// # Errors
    /// [`Error::Vision`] for an empty photo or a threshold outside 0 to 1, [`Error::Network`] if the network fails.
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
        let inputs = group.iter().map(|pixels| model::to_tensor(pixels, &self.place));
        let input = Tensor::cat(&inputs.collect::<Result<Vec<_>, _>>()?, 0)?;
        let features = self.network.features(&input, Phase::Inference)?;
        timings.backbone += start.elapsed();

        let start = Instant::now();
        let outputs = self.network.predict(&features, Auxiliary::Drop)?.prediction;
        timings.decoder += start.elapsed();

        let start = Instant::now();
        let post_process = |(image, pixels)| self.post_process(pixels, &outputs, image);
        let segmentations = group.iter().enumerate().map(post_process).collect();
        timings.post_process += start.elapsed();
        segmentations
    }

    fn post_process(
        &self,
        pixels: &PixelValues,
        outputs: &segmenter::Prediction,
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
        let segments = self.segments(&prediction)?;
        let mut segmentation = Segmentation { size: pixels.source, segments, labels: self.labels.clone() };
        if let Some(classes) = &self.options.classes {
            segmentation.retain_classes(classes)?;
        }
        Ok(segmentation)
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
                let wanted = options.classes.clone();
                let classes = match (wanted, thing_ids.is_empty()) {
                    (Some(wanted), _) => Some(wanted),
                    // A model without things, a semantic one, shows what it takes for objects all the same.
                    (None, is_semantic) => (!is_semantic).then_some(thing_ids),
                };
                let options = InstanceOptions {
                    max_instances: options.max_instances,
                    threshold: options.threshold.unwrap_or(INSTANCE_THRESHOLD),
                    mask_threshold: options.mask_threshold,
                    classes,
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
                classes: None,
            },
            config: segmentation,
            place: model.place().clone(),
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

    /// The class of pixels in a semantic map whose own class was not asked for. A map that is written has 255 there, if the model
    /// has no more classes than that.
    pub const VOID: u16 = u16::MAX;

    /// Leaves out what is of other classes.
    fn retain_classes(&mut self, classes: &[u32]) -> Result<(), Error> {
        match &mut self.segments {
            Segments::Semantic(map) => {
                let keep =
                    |&label: &u16| if classes.contains(&u32::from(label)) { label } else { Self::VOID };
                *map = LabelMap::new(map.size(), map.labels().iter().map(keep).collect())?;
            }
            Segments::Instance(found) => found.retain(|object| classes.contains(&object.label_id)),
            Segments::Panoptic(map) => *map = map.of_classes(classes),
        }
        Ok(())
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
            Segments::Semantic(map) => {
                let mut segments = map.segments(&self.labels);
                segments.retain(|segment| (segment.label_id as usize) < self.labels.len());
                segments
            }
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
            Segments::Semantic(map) if self.labels.len() < 256 => {
                let narrow = |&label: &u16| label.min(u16::from(u8::MAX));
                LabelMap::new(map.size(), map.labels().iter().map(narrow).collect())?.write_png(path)?;
            }
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
