//! One class for each pixel.

use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, ImageReader, Limits, Luma};

use crate::decode::MAX_LABEL_BYTES;
use crate::files::write_encoded;
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

    /// Reads the classes from a grey PNG (or TIFF, BMP) of 8 or 16 bits a pixel.
    ///
    /// # Errors
    /// [`VisionError::Read`] for a file that cannot be read or that has colours.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let refuse = |reason: String| VisionError::Read { path: path.to_owned(), reason, source: None };
        let mut reader = ImageReader::open(path)
            .and_then(ImageReader::with_guessed_format)
            .map_err(|error| refuse(error.to_string()))?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_LABEL_BYTES);
        reader.limits(limits);
        let image = reader.decode().map_err(|error| refuse(format!("it is not a label map: {error}")))?;
        let size = ImageSize::new(image.height(), image.width());
        let labels = match image {
            DynamicImage::ImageLuma8(image) => image.into_raw().into_iter().map(u16::from).collect(),
            DynamicImage::ImageLuma16(image) => image.into_raw(),
            other => {
                return Err(refuse(format!(
                    "its pixels are {:?}; expected one class a pixel, grey with 8 or 16 bits",
                    other.color()
                )));
            }
        };
        Ok(Self { size, labels })
    }

    /// Writes the classes as a grey PNG, whole or not at all: 8 bits a pixel, or 16 if a class exceeds 255.
    ///
    /// # Errors
    /// [`VisionError::Write`].
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), VisionError> {
        let narrow: Result<Vec<u8>, _> = self.labels.iter().map(|&label| u8::try_from(label)).collect();
        let (width, height) = (self.size.width, self.size.height);
        write_encoded(path.as_ref(), |bytes| match narrow {
            Ok(labels) => {
                let image: Option<ImageBuffer<Luma<u8>, _>> = ImageBuffer::from_raw(width, height, labels);
                image.map_or(Ok(()), |image| image.write_to(bytes, ImageFormat::Png))
            }
            Err(_) => {
                let image: Option<ImageBuffer<Luma<u16>, _>> =
                    ImageBuffer::from_raw(width, height, self.labels.as_slice());
                image.map_or(Ok(()), |image| image.write_to(bytes, ImageFormat::Png))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_survive_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for labels in [vec![0, 255, 7, 1, 2, 3], vec![0, 256, 65_535, 1, 2, 3]] {
            let map = LabelMap::new(ImageSize::new(2, 3), labels.clone()).unwrap();
            let path = folder.path().join("labels.png");
            map.write_png(&path).unwrap();
            assert_eq!(LabelMap::read(&path).unwrap(), map);
        }
        let colours = folder.path().join("colours.png");
        crate::write_png(&colours, &image::RgbImage::new(2, 2)).unwrap();
        for path in [colours, folder.path().join("missing.png")] {
            assert!(matches!(LabelMap::read(path), Err(VisionError::Read { .. })));
        }
        let missing = folder.path().join("no/such/folder/labels.png");
        let map = LabelMap::new(ImageSize::new(1, 1), vec![0]).unwrap();
        assert!(matches!(map.write_png(missing), Err(VisionError::Write { .. })));
    }
}
