//! What images should be recognised as: one label, a class for every pixel, a set of segments, or boxes.

mod boxes;
mod class;
mod segments;
mod view;

use aff_vision::{ImageSize, LabelMap};

pub use boxes::{BoxTarget, TargetBox};
pub use class::ClassTarget;

pub use segments::{Crowd, SegmentTarget, TargetSegment};
pub(crate) use view::View;

use crate::TrainError;

/// The label of pixels that neither losses nor metrics look at.
pub const IGNORED: u16 = u16::MAX;

/// What an image should be recognised as.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// One label, or shares of several.
    Class(ClassTarget),
    /// A class for every pixel; [`IGNORED`] where nothing is known.
    Semantic(LabelMap),
    /// A set of objects and regions, each with its class and its mask.
    Segments(SegmentTarget),
    /// Objects, each with its class and its box.
    Boxes(BoxTarget),
}

impl Target {
    /// Height and width that its masks have, or the image of its boxes; `None` for a label, which fits an image of any size.
    pub fn size(&self) -> Option<ImageSize> {
        match self {
            Self::Class(_) => None,
            Self::Semantic(map) => Some(map.size()),
            Self::Segments(segments) => Some(segments.size()),
            Self::Boxes(boxes) => Some(boxes.size()),
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Class(_) => "a label",
            Self::Semantic(_) => "a class for every pixel",
            Self::Segments(_) => "a set of segments",
            Self::Boxes(_) => "a set of boxes",
        }
    }

    /// The same as a set of segments: of a label map, each class that occurs is one.
    ///
    /// # Errors
    /// [`TrainError::Target`] if it is a label or boxes.
    pub fn to_segments(&self) -> Result<SegmentTarget, TrainError> {
        match self {
            Self::Class(_) | Self::Boxes(_) => Err(self.unfit("a set of segments")),
            Self::Semantic(map) => SegmentTarget::of_classes(map),
            Self::Segments(segments) => Ok(segments.clone()),
        }
    }

    /// The same as boxes: those of its annotations, else those of its masks.
    ///
    /// # Errors
    /// [`TrainError::Target`] if it is neither boxes nor segments, or a box is none.
    pub fn to_boxes(&self) -> Result<BoxTarget, TrainError> {
        match self {
            Self::Boxes(boxes) => Ok(boxes.clone()),
            Self::Segments(segments) => {
                let objects = segments.segments().iter().enumerate().map(|(index, segment)| TargetBox {
                    crowd: segment.crowd,
                    area: segments.area(index),
                    ..TargetBox::new(segment.class, segments.bbox(index).map(f64::from))
                });
                BoxTarget::new(segments.size(), objects.collect())
            }
            Self::Class(_) | Self::Semantic(_) => Err(self.unfit("boxes")),
        }
    }

    /// The same as a class for every pixel. Where segments overlap the later one is on top; crowds count like others.
    ///
    /// # Errors
    /// [`TrainError::Target`] if it is a label or boxes, or a class is too great for a label map.
    pub fn to_label_map(&self) -> Result<LabelMap, TrainError> {
        match self {
            Self::Class(_) | Self::Boxes(_) => Err(self.unfit("a class for every pixel")),
            Self::Semantic(map) => Ok(map.clone()),
            Self::Segments(segments) => segments.to_label_map(),
        }
    }

    /// The label.
    ///
    /// # Errors
    /// [`TrainError::Target`] if it is none.
    pub fn class(&self) -> Result<&ClassTarget, TrainError> {
        match self {
            Self::Class(class) => Ok(class),
            Self::Semantic(_) | Self::Segments(_) | Self::Boxes(_) => Err(self.unfit("a label")),
        }
    }

    pub(crate) fn unfit(&self, expected: &'static str) -> TrainError {
        TrainError::Target { problem: format!("is {}; expected {expected}", self.kind()) }
    }

    /// The target of a view of the image.
    pub(crate) fn viewed(&self, view: &View) -> Result<Self, TrainError> {
        Ok(match self {
            Self::Class(class) => Self::Class(class.clone()),
            Self::Semantic(map) => Self::Semantic(view.label_map(map)?),
            Self::Segments(segments) => Self::Segments(segments.viewed(view)?),
            Self::Boxes(boxes) => Self::Boxes(boxes.viewed(view)),
        })
    }
}
