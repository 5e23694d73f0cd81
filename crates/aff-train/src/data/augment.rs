//! Random views of an image: scale, crop, flip, colours.

use aff_vision::{IMAGENET_MEAN, IMAGENET_STD, ImageSize, LabelMap, Resample, Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{IGNORED, LabelledImage};
use crate::TrainError;

/// How images are varied, in the order of the fields. As Mask2Former trains on semantic data sets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Least and greatest factor that both edges are multiplied with; drawn evenly.
    pub scale: [f64; 2],
    /// Part that is cut out.
    pub crop: Crop,
    /// Probability of a mirror image.
    pub flip: f64,
    /// Change of colours; none if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<ColorJitter>,
}

/// A crop of fixed size. Where the scaled image is smaller it is padded: the mean colour, ignored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// The crop is drawn anew, ten times at most, while one class has more than this share of its labelled pixels.
    pub single_category_max: f64,
}

/// Random changes of colour, each made with probability one half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// Greatest number added to all channels, of values in 0..255.
    pub brightness: f64,
    /// Values are multiplied with 1 - contrast .. 1 + contrast.
    pub contrast: f64,
    /// Differences from the grey of a pixel are multiplied with 1 - saturation .. 1 + saturation.
    pub saturation: f64,
    /// Greatest rotation of the colour circle in degrees.
    pub hue: f64,
}

/// Crops that are tried before one with too much of a class is taken.
const CROP_ATTEMPTS: usize = 10;

impl Augmentation {
    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Value`] names the first that no augmentation can have.
    pub fn validate(&self) -> Result<(), TrainError> {
        let [low, high] = self.scale;
        if !(0.01..=100.0).contains(&low) || !(low..=100.0).contains(&high) {
            let found = format!("[{low}, {high}]");
            return Err(TrainError::value("augmentation.scale", found, "two ascending factors, 0.01 to 100"));
        }
        for (key, pixels) in
            [("augmentation.crop.height", self.crop.height), ("augmentation.crop.width", self.crop.width)]
        {
            if !(8..=8192).contains(&pixels) {
                return Err(TrainError::value(key, pixels, "8 to 8192 pixels"));
            }
        }
        let share = self.crop.single_category_max;
        if !(0.0..=1.0).contains(&share) {
            return Err(TrainError::value(
                "augmentation.crop.single_category_max",
                share,
                "a share from 0 to 1",
            ));
        }
        if !(0.0..=1.0).contains(&self.flip) {
            return Err(TrainError::value("augmentation.flip", self.flip, "a probability from 0 to 1"));
        }
        let Some(color) = self.color else { return Ok(()) };
        for (key, value, most) in [
            ("augmentation.color.brightness", color.brightness, 255.0),
            ("augmentation.color.contrast", color.contrast, 1.0),
            ("augmentation.color.saturation", color.saturation, 1.0),
            ("augmentation.color.hue", color.hue, 180.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(TrainError::value(key, value, format!("0 to {most}")));
            }
        }
        Ok(())
    }

    /// A random view of an image.
    ///
    /// # Errors
    /// If the scaled image would be too large.
    pub(crate) fn apply(
        &self,
        source: &LabelledImage,
        rng: &mut ChaCha8Rng,
    ) -> Result<LabelledImage, TrainError> {
        let scaled = scale(source, rng.random_range(self.scale[0]..=self.scale[1]))?;
        let (top, left) = self.choose_crop(&scaled.labels, rng);
        let mut view = crop(&scaled, self.crop, top, left)?;
        if rng.random_bool(self.flip) {
            view = flip(&view)?;
        }
        if let Some(color) = &self.color {
            color.apply(&mut view.image, rng);
        }
        Ok(view)
    }

    /// Top and left of a crop, one without too much of a class if there is one.
    fn choose_crop(&self, labels: &LabelMap, rng: &mut ChaCha8Rng) -> (u32, u32) {
        let size = labels.size();
        let mut place = (0, 0);
        for _ in 0..CROP_ATTEMPTS {
            place = (
                rng.random_range(0..=size.height.saturating_sub(self.crop.height)),
                rng.random_range(0..=size.width.saturating_sub(self.crop.width)),
            );
            if largest_share(labels, self.crop, place) <= self.crop.single_category_max {
                break;
            }
        }
        place
    }
}

/// The greatest share that a class has of the labelled pixels of a crop.
fn largest_share(labels: &LabelMap, crop: Crop, (top, left): (u32, u32)) -> f64 {
    let size = labels.size();
    let mut counts = Vec::new();
    let rows = top as usize..(top + crop.height).min(size.height) as usize;
    let (left, right) = (left as usize, (left + crop.width).min(size.width) as usize);
    for row in rows {
        let start = row * size.width as usize;
        for &label in &labels.labels()[start + left..start + right] {
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

fn scale(source: &LabelledImage, factor: f64) -> Result<LabelledImage, TrainError> {
    let from = source.labels.size();
    let length = |pixels: u32| ((f64::from(pixels) * factor).round() as u32).max(1);
    let to = ImageSize::new(length(from.height), length(from.width));
    let image = aff_vision::resize(&source.image, to, Resample::Bilinear)?;
    // The nearest pixel's label: labels have no average.
    let nearest = |to: u32, from: u32| {
        move |place: u32| (u64::from(2 * place + 1) * u64::from(from) / u64::from(2 * to)) as usize
    };
    let columns: Vec<usize> = (0..to.width).map(nearest(to.width, from.width)).collect();
    let mut labels = Vec::with_capacity(columns.len() * to.height as usize);
    for row in (0..to.height).map(nearest(to.height, from.height)) {
        let row = &source.labels.labels()[row * from.width as usize..][..from.width as usize];
        labels.extend(columns.iter().map(|&column| row[column]));
    }
    Ok(LabelledImage { image, labels: LabelMap::new(to, labels)? })
}

fn crop(source: &LabelledImage, crop: Crop, top: u32, left: u32) -> Result<LabelledImage, TrainError> {
    let size = source.labels.size();
    let mean = Rgb(IMAGENET_MEAN.map(|mean| (mean * 255.0).round() as u8));
    let mut image = RgbImage::from_pixel(crop.width, crop.height, mean);
    let mut labels = vec![IGNORED; crop.width as usize * crop.height as usize];
    let (rows, columns) = ((size.height - top).min(crop.height), (size.width - left).min(crop.width));
    let width = columns as usize;
    for row in 0..rows {
        let from = (top + row) as usize * size.width as usize + left as usize;
        let to = row as usize * crop.width as usize;
        labels[to..to + width].copy_from_slice(&source.labels.labels()[from..from + width]);
        image.as_mut()[3 * to..3 * (to + width)]
            .copy_from_slice(&source.image.as_raw()[3 * from..3 * (from + width)]);
    }
    Ok(LabelledImage { image, labels: LabelMap::new(ImageSize::new(crop.height, crop.width), labels)? })
}

fn flip(source: &LabelledImage) -> Result<LabelledImage, TrainError> {
    let size = source.labels.size();
    let rows = source.labels.labels().chunks_exact(size.width as usize);
    let labels = rows.flat_map(|row| row.iter().rev().copied()).collect();
    let image =
        RgbImage::from_fn(size.width, size.height, |x, y| *source.image.get_pixel(size.width - 1 - x, y));
    Ok(LabelledImage { image, labels: LabelMap::new(size, labels)? })
}

/// A linear map of colours: a matrix and a vector that is added.
struct ColorMap {
    matrix: [[f32; 3]; 3],
    offset: [f32; 3],
}

/// Weights of the channels in the grey of a pixel (ITU-R BT.601).
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

impl ColorJitter {
    /// Every change is linear in the channels, so that all of them are one matrix a pixel is multiplied with.
    fn apply(&self, image: &mut RgbImage, rng: &mut ChaCha8Rng) {
        let mut amount = |most: f64| {
            let value = rng.random_range(-most..=most);
            if rng.random_bool(0.5) { value as f32 } else { 0.0 }
        };
        let brightness = amount(self.brightness);
        let contrast = 1.0 + amount(self.contrast);
        let saturation = 1.0 + amount(self.saturation);
        let hue = amount(self.hue).to_radians();
        let mut map = ColorMap { matrix: [[0.0; 3]; 3], offset: [contrast * brightness; 3] };
        let rotation = hue_rotation(hue);
        for (row, out) in map.matrix.iter_mut().enumerate() {
            for (column, value) in out.iter_mut().enumerate() {
                // saturation * rotation + (1 - saturation) * grey; rotating leaves the grey of a pixel as it is.
                *value = contrast * (saturation * rotation[row][column] + (1.0 - saturation) * GREY[column]);
            }
        }
        for pixel in image.pixels_mut() {
            let value = pixel.0.map(f32::from);
            pixel.0 = std::array::from_fn(|channel| {
                let row = &map.matrix[channel];
                let sum = row[0] * value[0] + row[1] * value[1] + row[2] * value[2] + map.offset[channel];
                sum.round().clamp(0.0, 255.0) as u8
            });
        }
    }
}

/// Rotation of a colour about the grey axis in the YIQ space, by an angle in radians.
fn hue_rotation(angle: f32) -> [[f32; 3]; 3] {
    /// I and Q of red, green and blue.
    const CHROMA: [[f32; 3]; 2] = [[0.595_716, -0.274_453, -0.321_263], [0.211_456, -0.522_591, 0.311_135]];
    /// Red, green and blue of I and Q.
    const BACK: [[f32; 2]; 3] = [[0.956_3, 0.621_0], [-0.272_1, -0.647_4], [-1.107_0, 1.704_6]];
    let (sin, cos) = angle.sin_cos();
    std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            let (i, q) = (CHROMA[0][column], CHROMA[1][column]);
            GREY[column] + BACK[row][0] * (cos * i - sin * q) + BACK[row][1] * (sin * i + cos * q)
        })
    })
}

/// An image as the network reads it: normalised planes `[3, height, width]`, as `preprocessor_config.json` of our models says.
pub(super) fn normalized_planes(image: &RgbImage) -> Vec<f32> {
    let pixels = image.as_raw().len() / 3;
    let mut planes = vec![0.0; 3 * pixels];
    for (channel, plane) in planes.chunks_exact_mut(pixels).enumerate() {
        let (mean, deviation) = (IMAGENET_MEAN[channel], IMAGENET_STD[channel]);
        for (value, pixel) in plane.iter_mut().zip(image.as_raw().chunks_exact(3)) {
            *value = (f32::from(pixel[channel]) / 255.0 - mean) / deviation;
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    /// Colours that say where a pixel came from, and labels that say the same.
    fn scene(height: u32, width: u32) -> LabelledImage {
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 0]));
        let labels = (0..height * width).map(|place| (place % width) as u16).collect();
        LabelledImage { image, labels: LabelMap::new(ImageSize::new(height, width), labels).unwrap() }
    }

    fn augmentation() -> Augmentation {
        Augmentation {
            scale: [1.0, 1.0],
            crop: Crop { height: 16, width: 24, single_category_max: 1.0 },
            flip: 0.5,
            color: None,
        }
    }

    #[test]
    fn image_and_labels_move_together() {
        let scene = scene(40, 60);
        let mut flipped = [false; 2];
        for place in 0..32 {
            let view = augmentation().apply(&scene, &mut generator(1, Purpose::Augmentation, place)).unwrap();
            assert_eq!(view.labels.size(), ImageSize::new(16, 24));
            for (pixel, &label) in view.image.pixels().zip(view.labels.labels()) {
                assert_eq!(u16::from(pixel.0[0]), label);
            }
            flipped[usize::from(view.labels.labels()[0] > view.labels.labels()[1])] = true;
        }
        assert_eq!(flipped, [true, true]);
    }

    #[test]
    fn a_small_image_is_padded_and_the_padding_is_ignored() {
        let mut augmentation = augmentation();
        augmentation.flip = 0.0;
        let view = augmentation.apply(&scene(10, 20), &mut generator(1, Purpose::Augmentation, 0)).unwrap();
        let known = view.labels.labels().iter().filter(|&&label| label != IGNORED).count();
        assert_eq!(known, 10 * 20);
        assert_eq!(view.labels.labels()[23], IGNORED);
        let padding = normalized_planes(&view.image)[23];
        assert!(padding.abs() < 0.01, "{padding}");
    }

    #[test]
    fn scaling_takes_the_label_of_the_nearest_pixel() {
        let double = scale(&scene(2, 3), 2.0).unwrap();
        assert_eq!(double.labels.labels()[..6], [0, 0, 1, 1, 2, 2]);
        let half = scale(&scene(4, 6), 0.5).unwrap();
        assert_eq!(half.labels.labels(), [1, 3, 5, 1, 3, 5]);
    }

    #[test]
    fn a_crop_of_one_class_is_drawn_again() {
        // One class but for one column at the right.
        let size = ImageSize::new(32, 64);
        let labels = (0..32 * 64).map(|place| u16::from(place % 64 > 40)).collect();
        let scene =
            LabelledImage { image: RgbImage::new(64, 32), labels: LabelMap::new(size, labels).unwrap() };
        let mixed = |limit: f64| {
            let mut augmentation = augmentation();
            augmentation.crop.single_category_max = limit;
            let is_mixed = |place: &u64| {
                let view =
                    augmentation.apply(&scene, &mut generator(1, Purpose::Augmentation, *place)).unwrap();
                view.labels.areas().len() == 2
            };
            (0..64).filter(is_mixed).count()
        };
        assert!(mixed(0.9) > 60 && mixed(1.0) < 50, "{} {}", mixed(0.9), mixed(1.0));
    }

    #[test]
    fn colours_change_as_said() {
        let identity = hue_rotation(0.0);
        for (row, values) in identity.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                assert!((value - if row == column { 1.0 } else { 0.0 }).abs() < 2e-3, "{identity:?}");
            }
        }
        let jitter = ColorJitter { brightness: 32.0, contrast: 0.5, saturation: 0.5, hue: 18.0 };
        let (mut unchanged, mut changed) = (0, 0);
        for place in 0..64 {
            let mut image = RgbImage::from_pixel(1, 1, Rgb([120, 90, 60]));
            jitter.apply(&mut image, &mut generator(1, Purpose::Augmentation, place));
            if image.get_pixel(0, 0).0 == [120, 90, 60] {
                unchanged += 1;
            } else {
                changed += 1;
            }
            // Grey stays grey under any hue and saturation.
            let mut grey = RgbImage::from_pixel(1, 1, Rgb([100, 100, 100]));
            ColorJitter { brightness: 0.0, contrast: 0.0, ..jitter }
                .apply(&mut grey, &mut generator(1, Purpose::Augmentation, place));
            assert!(grey.get_pixel(0, 0).0.iter().all(|&value| value.abs_diff(100) <= 1));
        }
        assert!(unchanged >= 1 && changed > 40, "{unchanged} {changed}");
    }
}
