//! Scale, crop and flip.

use aff_vision::{IMAGENET_MEAN, ImageSize, Resample, Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Augmentation;
use crate::TrainError;
use crate::data::Sample;
use crate::targets::{IGNORED, Target, View};

/// What a random factor of the size is of.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ScaleOf {
    /// Of the image: both edges are multiplied with it.
    #[default]
    Image,
    /// Of a length: it becomes the shortest edge, unless the longest would exceed its limit.
    ShortestEdge {
        /// Length of the shortest edge at a factor of 1, in pixels.
        pixels: u32,
        /// Most that the longest edge gets, in pixels.
        longest: u32,
    },
    /// Of the crop: at a factor of 1 the whole image just fits into it. With factors of 0.1 to 2 that is large-scale jitter.
    Crop,
    /// Of the area: a part of the image with this share of it, and any of a range of shapes, is cut out and brought to the size of
    /// the crop. So classifiers see images.
    Area {
        /// Least and greatest ratio of the width of the part to its height.
        ratio: [f64; 2],
    },
}

/// A crop of fixed size. Where the scaled image is smaller it is padded: the mean colour, ignored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// The crop is drawn anew, ten times at most, while one class has more than this share of its labelled pixels; 1 without it.
    #[serde(default = "one")]
    pub single_category_max: f64,
}

fn one() -> f64 {
    1.0
}

/// Crops that are tried before one with too much of a class is taken, or parts before the middle is.
const ATTEMPTS: usize = 10;

impl ScaleOf {
    pub(super) fn validate(self, most: f64) -> Result<(), TrainError> {
        let refuse =
            |found: String, expected| Err(TrainError::value("augmentation.scale_of", found, expected));
        match self {
            Self::Image | Self::Crop => Ok(()),
            Self::ShortestEdge { pixels, longest } => {
                if (8..=8192).contains(&pixels) && (pixels..=65_536).contains(&longest) {
                    return Ok(());
                }
                refuse(
                    format!("{pixels} and {longest}"),
                    "edges from 8 pixels on, the longest not the shorter one",
                )
            }
            Self::Area { ratio: [low, high] } => {
                if !((0.01..=100.0).contains(&low) && (low..=100.0).contains(&high)) {
                    return refuse(format!("[{low}, {high}]"), "two ascending ratios, 0.01 to 100");
                }
                if most > 1.0 {
                    return refuse(format!("`area` of up to {most}"), "shares of the area: `scale` up to 1");
                }
                Ok(())
            }
        }
    }

    /// The size that an image is scaled to.
    fn size(self, source: ImageSize, factor: f64, crop: Crop) -> ImageSize {
        let (height, width) = (f64::from(source.height), f64::from(source.width));
        let factor = match self {
            Self::Image | Self::Area { .. } => factor,
            Self::ShortestEdge { pixels, longest } => {
                let shortest = factor * f64::from(pixels) / height.min(width);
                shortest.min(f64::from(longest) / height.max(width))
            }
            Self::Crop => factor * (f64::from(crop.height) / height).min(f64::from(crop.width) / width),
        };
        let length = |pixels: f64| ((pixels * factor).round() as u32).max(1);
        ImageSize::new(length(height), length(width))
    }
}

impl Crop {
    pub(super) fn validate(self) -> Result<(), TrainError> {
        for (key, pixels) in
            [("augmentation.crop.height", self.height), ("augmentation.crop.width", self.width)]
        {
            if !(8..=8192).contains(&pixels) {
                return Err(TrainError::value(key, pixels, "8 to 8192 pixels"));
            }
        }
        let share = self.single_category_max;
        if (0.0..=1.0).contains(&share) {
            return Ok(());
        }
        Err(TrainError::value("augmentation.crop.single_category_max", share, "a share from 0 to 1"))
    }

    /// The crop at a place of a view.
    fn of(self, view: &View, (top, left): (u32, u32)) -> View {
        View { rows: view.rows.cropped(top, self.height), columns: view.columns.cropped(left, self.width) }
    }
}

impl Augmentation {
    /// A random part of an image, of the size of the crop, and where it is from.
    pub(super) fn cut_out(
        &self,
        source: &Sample,
        rng: &mut ChaCha8Rng,
    ) -> Result<(RgbImage, View), TrainError> {
        if let ScaleOf::Area { ratio } = self.scale_of {
            return self.cut_out_area(source, ratio, rng);
        }
        let from = ImageSize::of(&source.image);
        let factor = rng.random_range(self.scale[0]..=self.scale[1]);
        let size = self.scale_of.size(from, factor, self.crop);
        let scaled = aff_vision::resize(&source.image, size, Resample::Bilinear)?;
        let whole = View::of(from);
        let view = View { rows: whole.rows.scaled(size.height), columns: whole.columns.scaled(size.width) };
        let place = self.choose_crop(&source.target, &view, rng);
        Ok((crop(&scaled, self.crop, place), self.crop.of(&view, place)))
    }

    /// Top and left of a crop of a scaled image, one without too much of a class if there is one.
    fn choose_crop(&self, target: &Target, scaled: &View, rng: &mut ChaCha8Rng) -> (u32, u32) {
        let size = scaled.size();
        let mut place = (0, 0);
        for _ in 0..ATTEMPTS {
            place = (
                rng.random_range(0..=size.height.saturating_sub(self.crop.height)),
                rng.random_range(0..=size.width.saturating_sub(self.crop.width)),
            );
            let limit = self.crop.single_category_max;
            if limit >= 1.0 || largest_share(target, &self.crop.of(scaled, place)) <= limit {
                break;
            }
        }
        place
    }

    /// A part with a random share of the area, brought to the size of the crop.
    fn cut_out_area(
        &self,
        source: &Sample,
        [low, high]: [f64; 2],
        rng: &mut ChaCha8Rng,
    ) -> Result<(RgbImage, View), TrainError> {
        let from = ImageSize::of(&source.image);
        let mut part = None;
        for _ in 0..ATTEMPTS {
            let area = from.area() as f64 * rng.random_range(self.scale[0]..=self.scale[1]);
            let ratio = rng.random_range(low.ln()..=high.ln()).exp();
            let (width, height) =
                ((area * ratio).sqrt().round() as u32, (area / ratio).sqrt().round() as u32);
            if (1..=from.width).contains(&width) && (1..=from.height).contains(&height) {
                let top = rng.random_range(0..=from.height - height);
                let left = rng.random_range(0..=from.width - width);
                part = Some((top, left, height, width));
                break;
            }
        }
        let (top, left, height, width) = part.unwrap_or_else(|| middle(from, [low, high]));
        let pixels = image_part(&source.image, (top, left), (height, width));
        let size = ImageSize::new(self.crop.height, self.crop.width);
        let image = aff_vision::resize(&pixels, size, Resample::Bicubic)?;
        let whole = View::of(from);
        let view = View {
            rows: whole.rows.cropped(top, height).scaled(size.height),
            columns: whole.columns.cropped(left, width).scaled(size.width),
        };
        Ok((image, view))
    }
}

/// Top, left, height and width of the middle of an image, as much of it as the range of shapes allows.
fn middle(size: ImageSize, [low, high]: [f64; 2]) -> (u32, u32, u32, u32) {
    let (height, width) = (f64::from(size.height), f64::from(size.width));
    let ratio = (width / height).clamp(low, high);
    let part_height = ((width / ratio).round().min(height) as u32).max(1);
    let part_width = ((height * ratio).round().min(width) as u32).max(1);
    ((size.height - part_height) / 2, (size.width - part_width) / 2, part_height, part_width)
}

/// The greatest share that a class has of the labelled pixels of a view. 0 of targets that have no class for every pixel.
fn largest_share(target: &Target, view: &View) -> f64 {
    let Target::Semantic(labels) = target else { return 0.0 };
    let width = labels.size().width as usize;
    let columns: Vec<u32> = view.columns.source().flatten().collect();
    let mut counts = Vec::new();
    for row in view.rows.source().flatten() {
        let row = &labels.labels()[row as usize * width..][..width];
        for &column in &columns {
            let label = row[column as usize];
            if label == IGNORED {
                continue;
            }
            if usize::from(label) >= counts.len() {
                counts.resize(usize::from(label) + 1, 0u64);
            }
            counts[usize::from(label)] += 1;
        }
    }
    let all: u64 = counts.iter().sum();
    counts.into_iter().max().map_or(0.0, |most| most as f64 / all as f64)
}

fn crop(source: &RgbImage, crop: Crop, place: (u32, u32)) -> RgbImage {
    image_part(source, place, (crop.height, crop.width))
}

/// A part of an image; what lies outside has the mean colour.
fn image_part(source: &RgbImage, (top, left): (u32, u32), (height, width): (u32, u32)) -> RgbImage {
    let mean = Rgb(IMAGENET_MEAN.map(|mean| (mean * 255.0).round() as u8));
    let mut image = RgbImage::from_pixel(width, height, mean);
    let (rows, columns) = ((source.height() - top).min(height), (source.width() - left).min(width));
    let bytes = 3 * columns as usize;
    for row in 0..rows {
        let from = 3 * ((top + row) as usize * source.width() as usize + left as usize);
        let to = 3 * row as usize * width as usize;
        image.as_mut()[to..to + bytes].copy_from_slice(&source.as_raw()[from..from + bytes]);
    }
    image
}

pub(super) fn flip(source: &RgbImage) -> RgbImage {
    let (width, height) = source.dimensions();
    RgbImage::from_fn(width, height, |x, y| *source.get_pixel(width - 1 - x, y))
}
