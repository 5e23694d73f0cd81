//! Random changes of colour.

use aff_vision::RgbImage;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::check;
use super::rand_augment::Enhance;
use crate::TrainError;

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
    /// In which space saturation and hue are changed.
    #[serde(default)]
    pub space: ColorSpace,
}

/// A space in which colours are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorSpace {
    /// Luma and chroma, where all changes are linear.
    #[default]
    Yiq,
    /// Hue, saturation and value, as SSD has it. The contrast is changed first or last, by a coin.
    Hsv,
}

/// A linear map of colours: a matrix and a vector that is added.
struct ColorMap {
    matrix: [[f32; 3]; 3],
    offset: [f32; 3],
}

/// Weights of the channels in the grey of a pixel (ITU-R BT.601).
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

impl ColorJitter {
    pub(super) fn validate(self) -> Result<(), TrainError> {
        check("augmentation.color.brightness", self.brightness, 255.0)?;
        check("augmentation.color.contrast", self.contrast, 1.0)?;
        check("augmentation.color.saturation", self.saturation, 1.0)?;
        check("augmentation.color.hue", self.hue, 180.0)
    }

    pub(super) fn apply(&self, image: &mut RgbImage, rng: &mut ChaCha8Rng) {
        match self.space {
            ColorSpace::Yiq => self.apply_linear(image, rng),
            ColorSpace::Hsv => self.apply_hsv(image, rng),
        }
    }

    fn apply_hsv(&self, image: &mut RgbImage, rng: &mut ChaCha8Rng) {
        let mut amount = |most: f64| {
            let value = rng.random_range(-most..=most);
            if rng.random_bool(0.5) { value as f32 } else { 0.0 }
        };
        let brightness = amount(self.brightness);
        let contrast = 1.0 + amount(self.contrast);
        let saturation = 1.0 + amount(self.saturation);
        let hue = amount(self.hue);
        let is_first = rng.random_bool(0.5);
        let (before, after) = if is_first { (contrast, 1.0) } else { (1.0, contrast) };
        for pixel in image.pixels_mut() {
            let rgb =
                pixel.0.map(|value| ((f32::from(value) + brightness).clamp(0.0, 255.0) * before).min(255.0));
            let [of_hue, of_saturation, value] = to_hsv(rgb);
            let saturated = (of_saturation * saturation).min(1.0);
            let rgb = from_hsv([(of_hue + hue).rem_euclid(360.0), saturated, value]);
            pixel.0 = rgb.map(|value| (value * after).round().clamp(0.0, 255.0) as u8);
        }
    }

    /// Every change is linear in the channels, so that all of them are one matrix a pixel is multiplied with.
    fn apply_linear(&self, image: &mut RgbImage, rng: &mut ChaCha8Rng) {
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

/// Hue in degrees, saturation from 0 to 1, and value in the units of the channels.
fn to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let spread = most - least;
    if spread <= 0.0 {
        return [0.0, 0.0, most];
    }
    let hue = if most == r {
        (g - b) / spread
    } else if most == g {
        2.0 + (b - r) / spread
    } else {
        4.0 + (r - g) / spread
    };
    [(60.0 * hue).rem_euclid(360.0), spread / most, most]
}

fn from_hsv([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    // Red, green and blue begin their part of the circle at 5, 3 and 1 sixths.
    [5.0, 3.0, 1.0].map(|start| {
        let place = (start + hue / 60.0) % 6.0;
        value - value * saturation * place.min(4.0 - place).clamp(0.0, 1.0)
    })
}

/// Brightness, contrast and saturation by factors of 1 - amount .. 1 + amount, in an order that is drawn.
pub(super) fn jitter(image: &mut RgbImage, amount: f64, rng: &mut ChaCha8Rng) {
    let mut changes = [Enhance::Brightness, Enhance::Contrast, Enhance::Color];
    changes.shuffle(rng);
    for change in changes {
        change.apply(image, rng.random_range(1.0 - amount..=1.0 + amount) as f32);
    }
}

#[cfg(test)]
mod tests {
    use aff_vision::Rgb;

    use super::*;
    use crate::random::{Purpose, generator};

    #[test]
    fn colours_change_as_said() {
        let identity = hue_rotation(0.0);
        for (row, values) in identity.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                assert!((value - if row == column { 1.0 } else { 0.0 }).abs() < 2e-3, "{identity:?}");
            }
        }
        let jitter = ColorJitter {
            brightness: 32.0,
            contrast: 0.5,
            saturation: 0.5,
            hue: 18.0,
            space: ColorSpace::Yiq,
        };
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

    #[test]
    fn hsv_is_that_of_pythons_colorsys_and_comes_back() {
        for (rgb, hsv) in [
            ([200.0, 100.0, 50.0], [20.0, 0.75, 200.0]),
            ([50.0, 100.0, 200.0], [220.0, 0.75, 200.0]),
            ([10.0, 250.0, 130.0], [150.0, 0.96, 250.0]),
            ([7.0, 7.0, 7.0], [0.0, 0.0, 7.0]),
        ] {
            let (found, back) = (to_hsv(rgb), from_hsv(hsv));
            for channel in 0..3 {
                assert!((found[channel] - hsv[channel]).abs() < 1e-3, "{rgb:?} {found:?}");
                assert!((back[channel] - rgb[channel]).abs() < 1e-3, "{hsv:?} {back:?}");
            }
        }
    }

    #[test]
    fn hsv_changes_leave_grey_without_colour() {
        let options = ColorJitter {
            brightness: 32.0,
            contrast: 0.5,
            saturation: 0.5,
            hue: 36.0,
            space: ColorSpace::Hsv,
        };
        let mut values = std::collections::BTreeSet::new();
        for place in 0..32 {
            let mut image = RgbImage::from_pixel(1, 1, Rgb([100, 100, 100]));
            options.apply(&mut image, &mut generator(1, Purpose::Augmentation, place));
            let [r, g, b] = image.get_pixel(0, 0).0;
            assert!(r == g && g == b);
            values.insert(r);
        }
        assert!(values.len() > 10, "{values:?}");
    }
}
