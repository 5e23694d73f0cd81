//! RandAugment (Cubuk et al. 2020), with the operations and ranges that classifiers of this kind are trained with: all of them
//! grow with the magnitude.

use aff_vision::{Rgb, RgbImage};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::check;
use super::warp::Affine;
use crate::TrainError;

/// Some operations drawn from fifteen, each made with probability one half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// Operations of an image.
    pub operations: usize,
    /// How strong they are, 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the magnitude.
    pub deviation: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { operations: 2, magnitude: 9.0, deviation: 0.5 }
    }
}

/// What may happen to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Enhance(Enhance),
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

const OPERATIONS: [Operation; 15] = [
    Operation::AutoContrast,
    Operation::Equalize,
    Operation::Invert,
    Operation::Rotate,
    Operation::Posterize,
    Operation::Solarize,
    Operation::SolarizeAdd,
    Operation::Enhance(Enhance::Color),
    Operation::Enhance(Enhance::Contrast),
    Operation::Enhance(Enhance::Brightness),
    Operation::Enhance(Enhance::Sharpness),
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateX,
    Operation::TranslateY,
];

impl RandAugment {
    pub(super) fn validate(self) -> Result<(), TrainError> {
        if !(1..=16).contains(&self.operations) {
            return Err(TrainError::value(
                "augmentation.rand_augment.operations",
                self.operations,
                "1 to 16",
            ));
        }
        check("augmentation.rand_augment.magnitude", self.magnitude, 10.0)?;
        check("augmentation.rand_augment.deviation", self.deviation, 10.0)
    }

    pub(super) fn apply(self, mut image: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        for _ in 0..self.operations {
            let operation = OPERATIONS.choose(rng).copied().unwrap_or(Operation::AutoContrast);
            let noise: f64 = rng.sample(StandardNormal);
            let strength = ((self.magnitude + self.deviation * noise) / 10.0).clamp(0.0, 1.0) as f32;
            let signed = if rng.random_bool(0.5) { strength } else { -strength };
            if rng.random_bool(0.5) {
                image = operation.apply(image, strength, signed);
            }
        }
        image
    }
}

impl Operation {
    /// `strength` is from 0 to 1, `signed` the same or its opposite.
    fn apply(self, mut image: RgbImage, strength: f32, signed: f32) -> RgbImage {
        let identity = Affine::IDENTITY;
        match self {
            Self::Rotate => {
                let (sin, cos) = (30.0 * signed).to_radians().sin_cos();
                return Affine { x: [cos, sin, 0.0], y: [-sin, cos, 0.0] }.apply(&image);
            }
            Self::ShearX => return Affine { x: [1.0, 0.3 * signed, 0.0], ..identity }.apply(&image),
            Self::ShearY => return Affine { y: [0.3 * signed, 1.0, 0.0], ..identity }.apply(&image),
            Self::TranslateX => {
                let shift = 0.45 * signed * image.width() as f32;
                return Affine { x: [1.0, 0.0, shift], ..identity }.apply(&image);
            }
            Self::TranslateY => {
                let shift = 0.45 * signed * image.height() as f32;
                return Affine { y: [0.0, 1.0, shift], ..identity }.apply(&image);
            }
            Self::AutoContrast => auto_contrast(&mut image),
            Self::Equalize => equalize(&mut image),
            Self::Invert => each_value(&mut image, |value| 255 - value),
            Self::Posterize => {
                let bits = 4 - (4.0 * strength) as u32;
                let mask = if bits == 0 { 0 } else { u8::MAX << (8 - bits) };
                each_value(&mut image, |value| value & mask);
            }
            Self::Solarize => {
                let threshold = 256 - (256.0 * strength) as u32;
                each_value(
                    &mut image,
                    |value| if u32::from(value) < threshold { value } else { 255 - value },
                );
            }
            Self::SolarizeAdd => {
                let add = (110.0 * strength) as u8;
                each_value(&mut image, |value| if value < 128 { value.saturating_add(add) } else { value });
            }
            Self::Enhance(enhance) => enhance.apply(&mut image, (1.0 + 0.9 * signed).max(0.1)),
        }
        image
    }
}

/// A move away from a plain version of the image, or towards it, as Pillow's `ImageEnhance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enhance {
    /// From grey.
    Color,
    /// From the mean of the greys.
    Contrast,
    /// From black.
    Brightness,
    /// From a smoothed version.
    Sharpness,
}

impl Enhance {
    /// `plain + factor * (image - plain)`.
    pub(super) fn apply(self, image: &mut RgbImage, factor: f32) {
        let blend =
            |value: u8, plain: f32| (plain + factor * (f32::from(value) - plain)).clamp(0.0, 255.0) as u8;
        match self {
            Self::Brightness => each_value(image, |value| blend(value, 0.0)),
            Self::Contrast => {
                let pixels = f64::from(image.width()) * f64::from(image.height());
                let sum: f64 = image.pixels().map(|pixel| f64::from(grey(pixel))).sum();
                let mean = (sum / pixels.max(1.0) + 0.5).floor() as f32;
                each_value(image, |value| blend(value, mean));
            }
            Self::Color => {
                for pixel in image.pixels_mut() {
                    let grey = grey(pixel);
                    pixel.0 = pixel.0.map(|value| blend(value, grey));
                }
            }
            Self::Sharpness => {
                let smooth = smoothed(image);
                for (pixel, plain) in image.pixels_mut().zip(smooth.pixels()) {
                    pixel.0 =
                        std::array::from_fn(|channel| blend(pixel.0[channel], f32::from(plain.0[channel])));
                }
            }
        }
    }
}

/// The grey of a pixel, as Pillow rounds it.
fn grey(pixel: &Rgb<u8>) -> f32 {
    let [r, g, b] = pixel.0.map(u32::from);
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as f32
}

fn each_value(image: &mut RgbImage, change: impl Fn(u8) -> u8) {
    image.as_mut().iter_mut().for_each(|value| *value = change(*value));
}

/// Means over 3 x 3 pixels, of which the middle one weighs five times; edges stay.
fn smoothed(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            return *image.get_pixel(x, y);
        }
        Rgb(std::array::from_fn(|channel| {
            let value = |x: u32, y: u32| u32::from(image.get_pixel(x, y).0[channel]);
            let around: u32 = (y - 1..=y + 1)
                .flat_map(|y| (x - 1..=x + 1).map(move |x| (x, y)))
                .map(|(x, y)| value(x, y))
                .sum();
            (f64::from(around + 4 * value(x, y)) / 13.0).round() as u8
        }))
    })
}

/// Maps the values of each channel by a table that is made of how often each occurs.
fn by_histogram(image: &mut RgbImage, table: impl Fn(&[u32; 256]) -> [u8; 256]) {
    for channel in 0..3 {
        let mut counts = [0; 256];
        image.pixels().for_each(|pixel| counts[usize::from(pixel.0[channel])] += 1);
        let table = table(&counts);
        image.pixels_mut().for_each(|pixel| pixel.0[channel] = table[usize::from(pixel.0[channel])]);
    }
}

/// The least and the greatest value of each channel become 0 and 255.
fn auto_contrast(image: &mut RgbImage) {
    by_histogram(image, |counts| {
        let first = counts.iter().position(|&count| count > 0).unwrap_or(0);
        let last = counts.iter().rposition(|&count| count > 0).unwrap_or(255);
        std::array::from_fn(|value| {
            if last <= first {
                return value as u8;
            }
            (255.0 * (value as f64 - first as f64) / (last - first) as f64).clamp(0.0, 255.0) as u8
        })
    });
}

/// The values of each channel become about equally frequent, as Pillow does it.
fn equalize(image: &mut RgbImage) {
    by_histogram(image, |counts| {
        let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<u32>() - last) / 255;
        let mut sum = step / 2;
        let mut table: [u8; 256] = std::array::from_fn(|value| value as u8);
        if step > 0 && counts.iter().filter(|&&count| count > 0).count() > 1 {
            for (value, count) in table.iter_mut().zip(counts) {
                *value = (sum / step).min(255) as u8;
                sum += count;
            }
        }
        table
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> RgbImage {
        RgbImage::from_fn(16, 8, |x, y| Rgb([(16 * x) as u8, (30 * y) as u8, (10 + x * y) as u8]))
    }

    /// Values of Pillow 12: `ImageEnhance` and `ImageOps` on the picture above, at (5, 3) and (12, 6).
    #[test]
    fn operations_are_those_of_pillow() {
        let at = |image: &RgbImage| [image.get_pixel(5, 3).0, image.get_pixel(12, 6).0];
        let enhanced = |enhance: Enhance, factor: f32| {
            let mut image = ramp();
            enhance.apply(&mut image, factor);
            at(&image)
        };
        let operated = |operation: Operation, strength: f32| at(&operation.apply(ramp(), strength, strength));
        let found = [
            enhanced(Enhance::Color, 1.5),
            enhanced(Enhance::Contrast, 0.5),
            enhanced(Enhance::Brightness, 0.7),
            enhanced(Enhance::Sharpness, 1.8),
            operated(Operation::AutoContrast, 0.0),
            operated(Operation::Equalize, 0.0),
            operated(Operation::Posterize, 0.5),
            operated(Operation::Solarize, 0.6),
            operated(Operation::SolarizeAdd, 0.5),
        ];
        let expected: Vec<[[u8; 3]; 2]> =
            serde_json::from_str(include_str!("../../tests/data/rand_augment.json")).unwrap();
        for (index, (found, expected)) in
            found.iter().flatten().flatten().zip(expected.iter().flatten().flatten()).enumerate()
        {
            assert!(found.abs_diff(*expected) <= 1, "{index}: {found} {expected}");
        }
    }

    #[test]
    fn pictures_are_moved() {
        let image = RgbImage::from_fn(9, 9, |x, y| Rgb([if (x, y) == (6, 4) { 255 } else { 0 }, 0, 0]));
        let brightest = |image: &RgbImage| {
            image.enumerate_pixels().max_by_key(|(_, _, pixel)| pixel.0[0]).map(|(x, y, _)| (x, y))
        };
        // Twice 30 degrees of strength 1, clockwise as one looks at it or the other way.
        let turned = Operation::Rotate.apply(image.clone(), 1.0, 1.0);
        assert!(
            [(5, 3), (6, 3), (5, 5), (6, 5)].contains(&brightest(&turned).unwrap()),
            "{:?}",
            brightest(&turned)
        );
        let shifted = Affine { x: [1.0, 0.0, 2.0], ..Affine::IDENTITY }.apply(&image);
        // Of equal values the last counts; the padding is not as bright.
        assert_eq!(brightest(&shifted), Some((4, 4)));
        assert_eq!(Affine::IDENTITY.apply(&image), image);
    }
}
