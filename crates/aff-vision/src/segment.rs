//! What is known of each segment, and the entry it has in JSON files.

use serde::{Deserialize, Serialize};

use crate::{CocoRle, InstanceMask, LabelMap};

/// A segment of a [`PanopticMap`](crate::PanopticMap).
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
    /// assert_eq!(json, r#"{"id":1,"label_id":0,"label":"road","was_fused":true,"score":0.5,"area":20}"#);
    /// ```
    #[must_use]
    pub fn named(&self, labels: &[String]) -> Segment {
        Segment {
            id: self.id,
            label_id: self.label_id,
            label: label_name(labels, self.label_id),
            was_fused: self.was_fused,
            score: Some(self.score),
            area: self.area,
            bbox: None,
            segmentation: None,
        }
    }
}

/// Name of a class, or `class 7` where there is none.
pub(crate) fn label_name(labels: &[String], label_id: u32) -> String {
    let name = labels.get(label_id as usize).filter(|name| !name.is_empty());
    name.cloned().unwrap_or_else(|| format!("class {label_id}"))
}

/// A segment as Hugging Face transformers describes it, with its area, and for an object its mask as COCO has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number, from 1; in a panoptic map that of its pixels.
    pub id: u32,
    /// Its class.
    pub label_id: u32,
    /// Name of the class.
    pub label: String,
    /// Whether it is everything of its class in the image, rather than one object.
    pub was_fused: bool,
    /// Its score; none in semantic segmentation.
    pub score: Option<f32>,
    /// Number of pixels.
    pub area: u64,
    /// Box `[x, y, width, height]` around an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bbox: Option<[u32; 4]>,
    /// Mask of an object, which may overlap others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<CocoRle>,
}

impl LabelMap {
    /// One segment for each class that occurs, by class; `labels` has the names of the classes.
    #[must_use]
    pub fn segments(&self, labels: &[String]) -> Vec<Segment> {
        let mut areas = self.areas();
        areas.sort_unstable();
        let segment = |(id, (class, area)): (u32, (u16, u64))| Segment {
            id,
            label_id: u32::from(class),
            label: label_name(labels, u32::from(class)),
            was_fused: true,
            score: None,
            area,
            bbox: None,
            segmentation: None,
        };
        (1..).zip(areas).map(segment).collect()
    }
}

impl InstanceMask {
    /// The entry that the JSON files have; `id` counts from 1, `labels` has the names of the classes.
    #[must_use]
    pub fn named(&self, id: u32, labels: &[String]) -> Segment {
        Segment {
            id,
            label_id: self.label_id,
            label: label_name(labels, self.label_id),
            was_fused: false,
            score: Some(self.score),
            area: self.mask.area(),
            bbox: Some(self.mask.bbox()),
            segmentation: Some(CocoRle::from(&self.mask)),
        }
    }
}
