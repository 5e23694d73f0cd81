//! Photos in, boxes out.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aff_model::config::Architecture;
use aff_model::{Auxiliary, BoxPrediction, Network, Phase};
use aff_vision::{BoxParts, DetectionOptions, PixelValues, PreprocessorConfig, ResizeTarget, RgbImage};
use aff_weights::TensorOptions;
use candle_core::{DType, Tensor};

use crate::model::{Model, to_tensor};
use crate::settings::{class_indices, probability, with_image_size, with_shortest_edge};
use crate::{Detections, Error, Timings};

/// Score from which boxes are shown where nothing else was asked for.
const THRESHOLD: f32 = 0.5;
/// Boxes of a photo where nothing else was asked for (section 13 of the method).
const MOST: usize = 100;

/// A detection network with everything around it.
///
/// ```no_run
/// use autofocusformer::{Detector, Device, vision};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let detector = Detector::from_pretrained("models/my-model", &Device::Cpu)?;
/// let photo = vision::open("photo.jpg")?;
/// let found = detector.detect(&photo)?;
/// for object in found.objects() {
///     println!("{} {:.2}: {:?}", object.label, object.score, object.bbox);
/// }
/// vision::write_png("overlay.png", &found.overlay(&photo)?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Detector {
    network: Network,
    preprocessor: PreprocessorConfig,
    labels: Arc<[String]>,
    options: DetectOptions,
    tensor_options: TensorOptions,
}

/// Which boxes of a photo are shown.
///
/// Of all queries and classes the `max_detections` (100) greatest scores are taken, where a score is the sigmoid of a logit; those below
/// `threshold` (0.5) are left out then. There is no suppression of boxes that overlap: the network learns to find an object once.
///
/// ```
/// use autofocusformer::{DType, Detector, Device, vision::RgbImage};
///
/// // Random weights: the boxes mean nothing.
/// let mut detector = Detector::from_pretrained("random:aff-mini-coco-detection", &Device::Cpu)?;
/// detector.set_shortest_edge(64)?;
/// detector.set_classes(&["person", "car"])?;
/// detector.options_mut().set_threshold(0.0)?;
/// detector.options_mut().max_detections = 10;
/// let found = detector.detect(&RgbImage::new(64, 48))?;
/// assert_eq!(found.objects().len(), 10);
/// assert!(found.objects().iter().all(|object| object.label == "person" || object.label == "car"));
/// # Ok::<(), autofocusformer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DetectOptions {
    /// Most boxes of a photo.
    pub max_detections: usize,
    threshold: f32,
    classes: Option<Vec<u32>>,
}

impl DetectOptions {
    /// Least score of a box.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Sets the least score of a box.
    ///
    /// # Errors
    /// [`Error::Option`] for a number outside 0 to 1.
    pub fn set_threshold(&mut self, threshold: f32) -> Result<(), Error> {
        self.threshold = probability("threshold", threshold)?;
        Ok(())
    }

    /// The classes that are looked for, by index; all without them. Set by name with [`Detector::set_classes`].
    pub fn classes(&self) -> Option<&[u32]> {
        self.classes.as_deref()
    }
}

impl Detector {
    /// Loads a detector, by what [`Model::from_pretrained`] takes.
    ///
    /// # Errors
    /// What that returns; [`Error::WrongArchitecture`] if the model is no detector, [`Error::NoPreprocessor`] if its folder does not say
    /// how images become the network's input.
    pub fn from_pretrained(
        model: impl AsRef<Path>,
        options: impl Into<TensorOptions>,
    ) -> Result<Self, Error> {
        Model::from_pretrained(model, options)?.try_into()
    }

    /// Which boxes are shown.
    pub fn options(&self) -> &DetectOptions {
        &self.options
    }

    /// Which boxes are shown, to be changed.
    pub fn options_mut(&mut self) -> &mut DetectOptions {
        &mut self.options
    }

    /// Names of the classes, by class.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Looks for these classes only, by name; neither letter case nor spaces around a name count.
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

    /// Changes the size that photos are brought to for the network. Boxes are in pixels of the photo all the same.
    ///
    /// # Errors
    /// [`Error::Vision`] for an edge without pixels.
    pub fn set_image_size(&mut self, size: ResizeTarget) -> Result<(), Error> {
        self.preprocessor = with_image_size(&self.preprocessor, size)?;
        Ok(())
    }

    /// Looks for objects in a photo of any size.
    ///
    /// # Errors
    /// [`Error::Vision`] for an empty photo, [`Error::Network`] if the network fails.
    pub fn detect(&self, photo: &RgbImage) -> Result<Detections, Error> {
        self.detect_all(std::slice::from_ref(photo))?
            .pop()
            .ok_or_else(|| candle_core::Error::msg("no detections of a photo").bt().into())
    }

    /// Looks for objects in photos of any sizes. Neighbours that have one size for the network go through it together; a result does not
    /// depend on the others.
    ///
    /// # Errors
    /// As [`Self::detect`], for the first photo that fails.
    pub fn detect_all(&self, photos: &[RgbImage]) -> Result<Vec<Detections>, Error> {
        self.detect_timed(photos, &mut Timings::default())
    }

    /// As [`Self::detect_all`], adding the time of each part to `timings`.
    ///
    /// # Errors
    /// The same.
    pub fn detect_timed(&self, photos: &[RgbImage], timings: &mut Timings) -> Result<Vec<Detections>, Error> {
        let start = Instant::now();
        let pixels =
            photos.iter().map(|photo| self.preprocessor.apply(photo)).collect::<Result<Vec<_>, _>>()?;
        timings.preprocess += start.elapsed();
        let mut detections = Vec::with_capacity(photos.len());
        for group in pixels.chunk_by(|a, b| a.padded == b.padded) {
            detections.extend(self.detect_pixels(group, timings)?);
        }
        Ok(detections)
    }

    /// Looks for objects in photos of one size for the network.
    fn detect_pixels(&self, group: &[PixelValues], timings: &mut Timings) -> Result<Vec<Detections>, Error> {
        let start = Instant::now();
        let inputs = group.iter().map(|pixels| to_tensor(pixels, &self.tensor_options));
        let input = Tensor::cat(&inputs.collect::<Result<Vec<_>, _>>()?, 0)?;
        let features = self.network.features(&input, Phase::Inference)?;
        timings.backbone += start.elapsed();

        let start = Instant::now();
        let outputs = self.network.predict(&features, Auxiliary::Drop)?.into_boxes()?.prediction;
        timings.decoder += start.elapsed();

        let start = Instant::now();
        let post_process = |(image, pixels)| self.post_process(pixels, &outputs, image);
        let detections = group.iter().enumerate().map(post_process).collect();
        timings.post_process += start.elapsed();
        tracing::debug!(input = ?input.dims(), queries = outputs.boxes.dims()[1], "detected");
        detections
    }

    fn post_process(
        &self,
        pixels: &PixelValues,
        outputs: &BoxPrediction,
        image: usize,
    ) -> Result<Detections, Error> {
        let values = |tensor: &Tensor| -> Result<Vec<f32>, Error> {
            Ok(tensor.get(image)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        let (class_logits, boxes) = (values(&outputs.class_logits)?, values(&outputs.boxes)?);
        let parts = BoxParts {
            class_logits: &class_logits,
            boxes: &boxes,
            num_classes: self.labels.len(),
            padded: pixels.padded,
            content: pixels.content,
            source: pixels.source,
        };
        let options = DetectionOptions {
            max_detections: self.options.max_detections,
            threshold: self.options.threshold,
            classes: self.options.classes.clone(),
        };
        Ok(Detections::new(pixels.source, &aff_vision::detections(&parts, &options)?, &self.labels))
    }
}

impl TryFrom<Model> for Detector {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let architecture = model.config().architecture();
        if architecture != Architecture::ObjectDetection {
            return Err(Error::WrongArchitecture {
                path: model.path().to_path_buf(),
                expected: Architecture::ObjectDetection.kind(),
                found: architecture.kind(),
            });
        }
        Ok(Self {
            network: model.network().clone(),
            preprocessor: model.preprocessor()?.clone(),
            labels: model.config().id2label.values().cloned().collect(),
            options: DetectOptions { max_detections: MOST, threshold: THRESHOLD, classes: None },
            tensor_options: model.tensor_options().clone(),
        })
    }
}
