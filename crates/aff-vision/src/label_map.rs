//! One class for each pixel.

use crate::{ImageSize, VisionError};

/// The class of each pixel, in raster order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    size: ImageSize,
    labels: Vec<u16>,
}

impl LabelMap {
    /// A map from one class a pixel, in raster order.
    ///
    /// # Errors
    /// When `labels` has not one value a pixel.
    ///
    /// ```
    /// use aff_vision::{ImageSize, LabelMap};
    ///
    /// let map = LabelMap::new(ImageSize::new(1, 3), vec![0, 7, 7]).unwrap();
    /// assert_eq!(map.areas(), [(7, 2), (0, 1)]);
    /// ```
    pub fn new(size: ImageSize, labels: Vec<u16>) -> Result<Self, VisionError> {
        if labels.len() as u64 == size.area() {
            return Ok(Self { size, labels });
        }
        Err(VisionError::Length {
            name: "labels",
            found: labels.len(),
            expected: size.area(),
            shape: size.to_string(),
        })
    }

    pub(crate) fn from_labels(size: ImageSize, labels: Vec<u16>) -> Self {
        debug_assert_eq!(labels.len(), size.pixels());
        Self { size, labels }
    }

    /// Height and width.
    #[must_use]
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// The classes in raster order.
    #[must_use]
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Classes that occur and their number of pixels, largest first, ties by class.
    #[must_use]
    pub fn areas(&self) -> Vec<(u16, u64)> {
        let mut counts = vec![0u64; usize::from(u16::MAX) + 1];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        let mut areas: Vec<(u16, u64)> = (0..=u16::MAX).zip(counts).filter(|&(_, count)| count > 0).collect();
        areas.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        areas
    }
}
