//! A picture to what the network reads.

use image::RgbImage;

use crate::decode::MAX_PIXELS;
use crate::resize::resized;
use crate::{ImageSize, PreprocessorConfig, ResizeTarget, VisionError};

/// The network's input for one image, with the sizes that lead back to the source.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelValues {
    /// Values in the order channel (R, G, B), row, column: `[3, padded.height, padded.width]`.
    pub data: Vec<f32>,
    /// Size of `data`: the content and zeros to the right and below.
    pub padded: ImageSize,
    /// Size after resizing (and cropping), before padding.
    pub content: ImageSize,
    /// Size of the picture that came in.
    pub source: ImageSize,
}

impl ResizeTarget {
    /// Size that a picture of size `source` is resized to; at least one pixel each way.
    ///
    /// With a longest edge it is detectron2's `ResizeShortestEdge` (lengths rounded half up), without one it is
    /// torchvision's `Resize` (the longer length truncated), as segmentation and classification models were trained.
    ///
    /// ```
    /// use aff_vision::{ImageSize, ResizeTarget};
    ///
    /// let cityscapes = ResizeTarget { shortest_edge: 1024, longest_edge: Some(2048) };
    /// assert_eq!(cityscapes.size_for(ImageSize::new(427, 640)), ImageSize::new(1024, 1535));
    /// assert_eq!(cityscapes.size_for(ImageSize::new(100, 1000)), ImageSize::new(205, 2048));
    ///
    /// let classifier = ResizeTarget { shortest_edge: 256, longest_edge: None };
    /// assert_eq!(classifier.size_for(ImageSize::new(427, 640)), ImageSize::new(256, 383));
    /// ```
    #[must_use]
    pub fn size_for(self, source: ImageSize) -> ImageSize {
        let (height, width) = (f64::from(source.height), f64::from(source.width));
        let shortest = f64::from(self.shortest_edge);
        let Some(longest) = self.longest_edge.map(f64::from) else {
            let longer = |long: f64, short: f64| length(shortest * long / short);
            return if width <= height {
                ImageSize::new(longer(height, width), length(shortest))
            } else {
                ImageSize::new(length(shortest), longer(width, height))
            };
        };
        // The order of the operations is detectron2's, so that the rounding is, too.
        let scale = shortest / height.min(width);
        let (mut to_height, mut to_width) =
            if height < width { (shortest, scale * width) } else { (scale * height, shortest) };
        if to_height.max(to_width) > longest {
            let scale = longest / to_height.max(to_width);
            to_height *= scale;
            to_width *= scale;
        }
        ImageSize::new(length(to_height + 0.5), length(to_width + 0.5))
    }
}

/// Truncated, within 1 and the largest u32.
fn length(edge: f64) -> u32 {
    (edge as u32).max(1)
}

impl PreprocessorConfig {
    /// Resizes, crops, rescales, normalises and pads `image`, each step as the configuration says.
    ///
    /// Resizing is Pillow's, bit for bit: the filter is widened when the picture shrinks (antialiasing).
    ///
    /// # Errors
    /// A configuration that [`validate`](Self::validate) refuses, an empty image, or a resize to more than
    /// [`MAX_PIXELS`] pixels (a very elongated image under a configuration without a longest edge).
    ///
    /// ```
    /// use aff_vision::{ImageSize, PreprocessorConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config: PreprocessorConfig = serde_json::from_str(r#"{
    ///     "do_resize": true, "size": {"shortest_edge": 48, "longest_edge": 60}, "resample": 2,
    ///     "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true,
    ///     "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    ///     "do_pad": true, "size_divisor": 32
    /// }"#)?;
    /// let pixels = config.apply(&image::RgbImage::new(100, 80))?;
    /// assert_eq!(pixels.content, ImageSize::new(48, 60));
    /// assert_eq!(pixels.padded, ImageSize::new(64, 64));
    /// assert_eq!(pixels.data.len(), 3 * 64 * 64);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply(&self, image: &RgbImage) -> Result<PixelValues, VisionError> {
        self.apply_to_size(image, self.size.size_for(ImageSize::of(image)))
    }

    /// As [`apply`](Self::apply), resizing (if the configuration resizes at all) to a given size instead of the configured one.
    ///
    /// # Errors
    /// The same.
    pub fn apply_to_size(&self, image: &RgbImage, size: ImageSize) -> Result<PixelValues, VisionError> {
        self.validate()?;
        let source = ImageSize::of(image);
        if source.is_empty() {
            return Err(VisionError::option("image", &source, "at least one pixel"));
        }
        let resized = if self.do_resize { resized(image, size, self.resample)? } else { None };
        let image = resized.as_ref().unwrap_or(image);

        let resized_size = ImageSize::of(image);
        let content = match self.crop_size.filter(|_| self.do_center_crop) {
            Some(crop) => ImageSize::new(crop.height, crop.width),
            None => resized_size,
        };
        let padded = self.padded_size(content)?;
        Ok(PixelValues { data: self.planes(image, content, padded), padded, content, source })
    }

    fn padded_size(&self, content: ImageSize) -> Result<ImageSize, VisionError> {
        if !self.do_pad {
            return Ok(content);
        }
        let round_up = |length: u32| {
            length.checked_next_multiple_of(self.size_divisor).ok_or_else(|| too_large(content))
        };
        let padded = ImageSize::new(round_up(content.height)?, round_up(content.width)?);
        if padded.area() > MAX_PIXELS { Err(too_large(padded)) } else { Ok(padded) }
    }

    /// The part of size `content` in the middle of `image` as normalised planes of size `padded`.
    fn planes(&self, image: &RgbImage, content: ImageSize, padded: ImageSize) -> Vec<f32> {
        let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| self.value_table(channel));
        let (top, left) =
            (crop_offset(image.height(), content.height), crop_offset(image.width(), content.width));
        let mut data = vec![0.0; 3 * padded.pixels()];
        for (channel, plane) in data.chunks_exact_mut(padded.pixels()).enumerate() {
            let table = &tables[channel];
            // Where a crop is larger than the picture, the picture's surroundings are black, as in torchvision.
            let rows = plane.chunks_exact_mut(padded.columns()).take(content.rows());
            for (y, row) in (top..).zip(rows) {
                for (x, value) in (left..).zip(&mut row[..content.columns()]) {
                    let inside = u32::try_from(x).ok().zip(u32::try_from(y).ok());
                    let pixel = inside.and_then(|(x, y)| image.get_pixel_checked(x, y));
                    *value = table[pixel.map_or(0, |pixel| usize::from(pixel.0[channel]))];
                }
            }
        }
        data
    }

    /// Network input of each 8-bit value of a channel.
    fn value_table(&self, channel: usize) -> [f32; 256] {
        let (mean, std) = (f64::from(self.image_mean[channel]), f64::from(self.image_std[channel]));
        let factor = if self.do_rescale { self.rescale_factor } else { 1.0 };
        std::array::from_fn(|byte| {
            let value = byte as f64 * factor;
            (if self.do_normalize { (value - mean) / std } else { value }) as f32
        })
    }
}

fn too_large(size: ImageSize) -> VisionError {
    VisionError::TooLarge {
        origin: "the resized image".to_owned(),
        found: size.to_string(),
        limit: format!("{MAX_PIXELS} pixels"),
    }
}

/// First row or column of a centre crop, half to even as torchvision rounds it; negative where the crop is larger.
fn crop_offset(length: u32, crop: u32) -> i64 {
    let twice = i64::from(length) - i64::from(crop);
    (twice as f64 / 2.0).round_ties_even() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{CropSize, Resample};

    fn config(shortest: u32, longest: Option<u32>, divisor: u32) -> PreprocessorConfig {
        let size = ResizeTarget { shortest_edge: shortest, longest_edge: longest };
        PreprocessorConfig { size_divisor: divisor, ..PreprocessorConfig::imagenet(size) }
    }

    proptest! {
        #[test]
        fn a_constant_image_stays_constant(
            width in 1u32..300, height in 1u32..300, value: [u8; 3], bicubic: bool, divisor in 1u32..40,
        ) {
            let mut config = config(32, Some(64), divisor);
            config.resample = if bicubic { Resample::Bicubic } else { Resample::Bilinear };
            let pixels = config.apply(&RgbImage::from_pixel(width, height, image::Rgb(value))).unwrap();
            prop_assert_eq!(pixels.padded.height % divisor, 0);
            prop_assert!(pixels.padded.contains(pixels.content));
            prop_assert_eq!(pixels.source, ImageSize::new(height, width));
            for (channel, plane) in pixels.data.chunks_exact(pixels.padded.pixels()).enumerate() {
                let expected = config.value_table(channel)[usize::from(value[channel])];
                for (index, &found) in plane.iter().enumerate() {
                    let (y, x) = (index / pixels.padded.columns(), index % pixels.padded.columns());
                    let inside = y < pixels.content.rows() && x < pixels.content.columns();
                    prop_assert_eq!(found, if inside { expected } else { 0.0 });
                }
            }
        }
    }

    #[test]
    fn one_row_and_one_column_work() {
        for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 2000)] {
            let pixels = config(64, Some(96), 32).apply(&RgbImage::new(width, height)).unwrap();
            assert!(pixels.content.height >= 1 && pixels.content.width >= 1);
            assert_eq!(pixels.data.len(), 3 * pixels.padded.pixels());
        }
    }

    #[test]
    fn an_endless_strip_without_a_longest_edge_is_refused() {
        let error = config(4000, None, 1).apply(&RgbImage::new(1, 60_000)).unwrap_err();
        assert!(matches!(error, VisionError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn the_crop_is_the_middle() {
        let mut config = config(4, None, 1);
        config.do_resize = false;
        config.do_normalize = false;
        config.rescale_factor = 1.0;
        config.do_center_crop = true;
        config.crop_size = Some(CropSize { height: 2, width: 3 });
        let image = RgbImage::from_fn(6, 5, |x, y| image::Rgb([(10 * y + x) as u8; 3]));
        // (5 - 2) / 2 = 1.5 and (6 - 3) / 2 = 1.5, both to the even 2.
        let pixels = config.apply(&image).unwrap();
        assert_eq!(pixels.data[..6], [22.0, 23.0, 24.0, 32.0, 33.0, 34.0]);

        config.crop_size = Some(CropSize { height: 1, width: 8 });
        assert_eq!(config.apply(&image).unwrap().data[..8], [0.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 0.0]);
    }
}
