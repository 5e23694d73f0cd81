//! What photos go through, and what is found in them: segments or boxes.

use anyhow::Result;
use autofocusformer::vision::{ImageSize, RgbImage};
use autofocusformer::{Detections, Detector, Error, Segmentation, Segmenter, Timings};

/// A network with everything around it.
#[derive(Debug)]
pub(super) enum Pipeline {
    Segments(Box<Segmenter>),
    Boxes(Box<Detector>),
}

/// What was found in a photo.
#[derive(Debug)]
pub(super) enum Found {
    Segments(Segmentation),
    Boxes(Detections),
}

impl Pipeline {
    pub(super) fn labels(&self) -> &[String] {
        match self {
            Self::Segments(segmenter) => segmenter.labels(),
            Self::Boxes(detector) => detector.labels(),
        }
    }

    pub(super) fn set_shortest_edge(&mut self, pixels: u32) -> Result<(), Error> {
        match self {
            Self::Segments(segmenter) => segmenter.set_shortest_edge(pixels),
            Self::Boxes(detector) => detector.set_shortest_edge(pixels),
        }
    }

    pub(super) fn set_classes(&mut self, names: &[String]) -> Result<(), Error> {
        match self {
            Self::Segments(segmenter) => segmenter.set_classes(names),
            Self::Boxes(detector) => detector.set_classes(names),
        }
    }

    /// What is in each photo.
    pub(super) fn run(&self, photos: &[RgbImage], timings: &mut Timings) -> Result<Vec<Found>, Error> {
        Ok(match self {
            Self::Segments(segmenter) => {
                segmenter.segment_timed(photos, timings)?.into_iter().map(Found::Segments).collect()
            }
            Self::Boxes(detector) => {
                detector.detect_timed(photos, timings)?.into_iter().map(Found::Boxes).collect()
            }
        })
    }

    /// What is in a photo.
    pub(super) fn run_alone(&self, photo: &RgbImage) -> Result<Found, Error> {
        Ok(match self {
            Self::Segments(segmenter) => Found::Segments(segmenter.segment(photo)?),
            Self::Boxes(detector) => Found::Boxes(detector.detect(photo)?),
        })
    }
}

impl Found {
    pub(super) fn size(&self) -> ImageSize {
        match self {
            Self::Segments(segmentation) => segmentation.size(),
            Self::Boxes(detections) => detections.size(),
        }
    }

    pub(super) fn overlay(&self, photo: &RgbImage) -> Result<RgbImage, Error> {
        match self {
            Self::Segments(segmentation) => segmentation.overlay(photo),
            Self::Boxes(detections) => detections.overlay(photo),
        }
    }

    /// The class of each segment or object.
    pub(super) fn labels(&self) -> Vec<&str> {
        match self {
            Self::Segments(found) => found.segments().iter().map(|segment| segment.label.as_str()).collect(),
            Self::Boxes(found) => found.objects().iter().map(|object| object.label.as_str()).collect(),
        }
    }
}
