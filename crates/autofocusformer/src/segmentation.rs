//! What was found in a photo.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use aff_model::config::SegmentationTask;
use aff_vision::{
    CocoRle, ImageSize, InstanceMask, LabelMap, OverlayOptions, PanopticMap, Regions, RgbImage, Rle, Segment,
    SegmentInfo,
};
use serde::Serialize;

use crate::Error;
use crate::palette::palette;

/// What was found in a photo, at the photo's size.
#[derive(Debug, Clone)]
pub struct Segmentation {
    size: ImageSize,
    result: Segments,
    labels: Arc<[String]>,
    /// Of each class of a semantic map; empty for the other tasks.
    scores: Vec<f32>,
    /// What [`Self::segments`] returns, made when it is first asked for.
    segments: OnceLock<Vec<Segment>>,
}

impl PartialEq for Segmentation {
    fn eq(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.size, it.labels.clone());
        parts(self) == parts(other) && self.result == other.result && self.scores == other.scores
    }
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
    /// The class of pixels in a semantic map whose own class was not asked for. A map that is written has 255 there, if the
    /// model has no more classes than that.
    pub const VOID: u16 = u16::MAX;

    pub(crate) fn new(size: ImageSize, result: Segments, labels: Arc<[String]>) -> Self {
        Self { size, result, labels, scores: Vec::new(), segments: OnceLock::new() }
    }

    /// With the score of each class of a semantic map.
    pub(crate) fn with_scores(self, scores: Vec<f32>) -> Self {
        Self { scores, ..self }
    }

    /// Leaves out what is of other classes.
    pub(crate) fn retain_classes(&mut self, classes: &[u32]) -> Result<(), Error> {
        match &mut self.result {
            Segments::Semantic(map) => {
                let keep =
                    |&label: &u16| if classes.contains(&u32::from(label)) { label } else { Self::VOID };
                *map = LabelMap::new(map.size(), map.labels().iter().map(keep).collect())?;
            }
            Segments::Instance(found) => found.retain(|object| classes.contains(&object.label_id)),
            Segments::Panoptic(map) => *map = map.of_classes(classes),
        }
        self.segments = OnceLock::new();
        Ok(())
    }

    /// Height and width of the photo.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// What was asked for.
    pub fn task(&self) -> SegmentationTask {
        match self.result {
            Segments::Semantic(_) => SegmentationTask::Semantic,
            Segments::Instance(_) => SegmentationTask::Instance,
            Segments::Panoptic(_) => SegmentationTask::Panoptic,
        }
    }

    /// The pixels of the segments.
    pub fn result(&self) -> &Segments {
        &self.result
    }

    /// What is known of each segment: class and its name, score, area, box and mask. The score of a semantic segment is the mean share of its
    /// class in the sums of all classes over its pixels; of the others it is the confidence of the query.
    pub fn segments(&self) -> &[Segment] {
        self.segments.get_or_init(|| self.describe())
    }

    /// The exact mask of a segment, by its id; `None` if there is no such segment.
    ///
    /// ```
    /// use autofocusformer::{Segmenter, vision::RgbImage};
    ///
    /// let segmenter = Segmenter::builder("random:aff-mini-ade20k-semantic").shortest_edge(64).build()?;
    /// let segmentation = segmenter.segment(&RgbImage::new(64, 48))?;
    /// let segment = &segmentation.segments()[0];
    /// let mask = segmentation.mask(segment.id).unwrap();
    /// assert_eq!((mask.area(), Some(mask.bbox())), (segment.area, segment.bbox));
    /// assert_eq!(segmentation.mask(0), None);
    /// # Ok::<(), autofocusformer::Error>(())
    /// ```
    pub fn mask(&self, id: u32) -> Option<Rle> {
        let segment = self.segments().iter().find(|segment| segment.id == id)?;
        segment.segmentation.as_ref().and_then(|mask| Rle::try_from(mask).ok())
    }

    fn describe(&self) -> Vec<Segment> {
        let with_mask = |mut segment: Segment, mask: Option<&Rle>| {
            segment.bbox = mask.map(Rle::bbox);
            segment.segmentation = mask.map(CocoRle::from);
            segment
        };
        match &self.result {
            Segments::Semantic(map) => {
                let masks = Rle::of_values(map.size(), map.labels()).unwrap_or_default();
                let mut segments = map.segments(&self.labels);
                segments.retain(|segment| (segment.label_id as usize) < self.labels.len());
                let complete = |mut segment: Segment| {
                    segment.score = self.scores.get(segment.label_id as usize).copied();
                    let mask = u16::try_from(segment.label_id).ok().and_then(|label| masks.get(&label));
                    with_mask(segment, mask)
                };
                segments.into_iter().map(complete).collect()
            }
            Segments::Instance(found) => {
                (1..).zip(found).map(|(id, object)| object.named(id, &self.labels)).collect()
            }
            Segments::Panoptic(map) => {
                let masks = Rle::of_values(map.size(), map.ids()).unwrap_or_default();
                let named =
                    |segment: &SegmentInfo| with_mask(segment.named(&self.labels), masks.get(&segment.id));
                map.segments().iter().map(named).collect()
            }
        }
    }

    /// The photo with the segments over it, in colours that belong to the classes: those that the community of a data set knows (ADE20K,
    /// CamVid, Cityscapes, COCO), else colours that are far apart. Objects of one class have shades of its colour.
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
        let regions = match &self.result {
            Segments::Semantic(map) => Regions::of_labels(map, &self.labels),
            Segments::Instance(found) => Regions::of_instances(self.size, found, &self.labels),
            Segments::Panoptic(map) => Regions::of_panoptic(map, &self.labels),
        };
        let regions = regions.with_palette(palette(&self.labels));
        Ok(aff_vision::overlay(photo, &regions, options)?)
    }

    /// Writes the pixels of the segments as PNG: the class of each pixel in grey (semantic), or its segment's id in COCO's
    /// colour code (panoptic). Instances may overlap, so that they have no such picture: `false`, and nothing is written.
    ///
    /// # Errors
    /// [`Error::Vision`] if the file cannot be written.
    pub fn write_map(&self, path: impl AsRef<Path>) -> Result<bool, Error> {
        match &self.result {
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

    /// Writes `{width, height, task, segments: [{id, label_id, label, was_fused, score, area, bbox, segmentation}]}`;
    /// `segmentation` is the exact mask in COCO's run lengths.
    ///
    /// # Errors
    /// [`Error::Vision`] if the file cannot be written.
    pub fn write_json(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let (width, height) = (self.size.width, self.size.height);
        Ok(aff_vision::write_json(
            path,
            &Report { width, height, task: self.task(), segments: self.segments() },
        )?)
    }
}
