//! A segment for each pixel, and what is known of each segment.

use serde::{Deserialize, Serialize};

use crate::{ImageSize, VisionError};

/// A segment of a [`PanopticMap`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentInfo {
    /// Its number in the map, from 1.
    pub id: u32,
    /// Its class.
    pub label_id: u32,
    /// Probability of the class; the highest one where several queries were merged.
    pub score: f32,
    /// Whether it is stuff, of which everything in the image is one segment.
    pub was_fused: bool,
    /// Number of pixels.
    pub area: u64,
}

impl SegmentInfo {
    /// The entry that the JSON files have, with the name of the class (`class 7` where `labels` has none).
    ///
    /// ```
    /// use aff_vision::SegmentInfo;
    ///
    /// let info = SegmentInfo { id: 1, label_id: 0, score: 0.5, was_fused: true, area: 20 };
    /// let json = serde_json::to_string(&info.named(&["road".to_owned()])).unwrap();
    /// assert_eq!(json, r#"{"id":1,"label_id":0,"label":"road","was_fused":true,"score":0.5}"#);
    /// ```
    #[must_use]
    pub fn named(&self, labels: &[String]) -> Segment {
        Segment {
            id: self.id,
            label_id: self.label_id,
            label: label_name(labels, self.label_id),
            was_fused: self.was_fused,
            score: self.score,
        }
    }
}

/// Name of a class, or `class 7` where there is none.
pub(crate) fn label_name(labels: &[String], label_id: u32) -> String {
    let name = labels.get(label_id as usize).filter(|name| !name.is_empty());
    name.cloned().unwrap_or_else(|| format!("class {label_id}"))
}

/// A segment as Hugging Face transformers describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number in the map, from 1.
    pub id: u32,
    /// Its class.
    pub label_id: u32,
    /// Name of the class.
    pub label: String,
    /// Whether it is stuff, of which everything in the image is one segment.
    pub was_fused: bool,
    /// Probability of the class.
    pub score: f32,
}

/// A segment for each pixel; segments do not overlap.
#[derive(Debug, Clone, PartialEq)]
pub struct PanopticMap {
    size: ImageSize,
    ids: Vec<u32>,
    segments: Vec<SegmentInfo>,
}

impl PanopticMap {
    /// A map from one segment id a pixel, in raster order (0 is void), and the segments.
    ///
    /// # Errors
    /// When `ids` has not one value a pixel, an id is not among the segments, or a segment's id is 0, repeated, or its
    /// area is not the number of its pixels.
    pub fn new(size: ImageSize, ids: Vec<u32>, segments: Vec<SegmentInfo>) -> Result<Self, VisionError> {
        if ids.len() as u64 != size.area() {
            return Err(VisionError::Length {
                name: "ids",
                found: ids.len(),
                expected: size.area(),
                shape: size.to_string(),
            });
        }
        let mut areas = std::collections::BTreeMap::new();
        for run in ids.chunk_by(|a, b| a == b) {
            *areas.entry(run[0]).or_insert(0u64) += run.len() as u64;
        }
        areas.remove(&0);
        for segment in &segments {
            let area = areas.remove(&segment.id).unwrap_or(0);
            if segment.id == 0 || area != segment.area {
                let found = format!("{} of {} pixels", segment.id, segment.area);
                let expected = format!("ids from 1, each once, with its area ({area} pixels have this one)");
                return Err(VisionError::option("segments.id", &found, expected));
            }
        }
        match areas.first_key_value() {
            Some((id, area)) => {
                let found = format!("{id} at {area} pixels");
                Err(VisionError::option("ids", &found, "ids of the given segments, or 0"))
            }
            None => Ok(Self { size, ids, segments }),
        }
    }

    pub(crate) fn from_parts(size: ImageSize, ids: Vec<u32>, segments: Vec<SegmentInfo>) -> Self {
        debug_assert_eq!(ids.len(), size.pixels());
        Self { size, ids, segments }
    }

    /// Height and width.
    #[must_use]
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// Segment of each pixel in raster order; 0 is void.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The segments, by id.
    #[must_use]
    pub fn segments(&self) -> &[SegmentInfo] {
        &self.segments
    }
}
