//! A segment for each pixel.

use std::path::Path;

use image::{Rgb, RgbImage};

use crate::{ImageSize, SegmentInfo, VisionError, write_png};

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

    /// The segments of some classes; pixels of all others become void.
    ///
    /// ```
    /// use aff_vision::{ImageSize, PanopticMap, SegmentInfo};
    ///
    /// let segment = |id, label_id| SegmentInfo { id, label_id, score: 1.0, was_fused: true, area: 1 };
    /// let map = PanopticMap::new(ImageSize::new(1, 2), vec![1, 2], vec![segment(1, 7), segment(2, 8)])?;
    /// assert_eq!(map.of_classes(&[8]).ids(), [0, 2]);
    /// # Ok::<(), aff_vision::VisionError>(())
    /// ```
    #[must_use]
    pub fn of_classes(&self, classes: &[u32]) -> Self {
        let segments: Vec<SegmentInfo> =
            self.segments.iter().filter(|segment| classes.contains(&segment.label_id)).copied().collect();
        let kept: std::collections::BTreeSet<u32> = segments.iter().map(|segment| segment.id).collect();
        let ids = self.ids.iter().map(|id| if kept.contains(id) { *id } else { 0 }).collect();
        Self { size: self.size, ids, segments }
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

    /// The ids as COCO writes them: id = R + 256 G + 65536 B, 0 is void.
    ///
    /// ```
    /// use aff_vision::{ImageSize, PanopticMap, SegmentInfo};
    ///
    /// let info = SegmentInfo { id: 258, label_id: 0, score: 0.5, was_fused: true, area: 1 };
    /// let map = PanopticMap::new(ImageSize::new(1, 2), vec![0, 258], vec![info]).unwrap();
    /// assert_eq!(map.to_rgb().as_raw(), &[0, 0, 0, 2, 1, 0]);
    /// ```
    #[must_use]
    pub fn to_rgb(&self) -> RgbImage {
        let mut image = RgbImage::new(self.size.width, self.size.height);
        for (pixel, id) in image.pixels_mut().zip(&self.ids) {
            let [r, g, b, _] = id.to_le_bytes();
            *pixel = Rgb([r, g, b]);
        }
        image
    }

    /// Writes [`to_rgb`](Self::to_rgb) as PNG, whole or not at all.
    ///
    /// # Errors
    /// [`VisionError::Write`].
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), VisionError> {
        write_png(path, &self.to_rgb())
    }
}
