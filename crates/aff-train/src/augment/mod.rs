//! Random views of images: scale, crop, flip, colours; and what classifiers take besides: RandAugment, erasing, mixing.
//!
//! What moves pixels moves masks and boxes alike. Everything depends on the seed and on the number of the sample in the run.

mod color;
mod erase;
mod geometry;
mod mix;
mod rand_augment;
mod warp;

use aff_vision::{IMAGENET_MEAN, IMAGENET_STD, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::data::Sample;

pub use color::{ColorJitter, ColorSpace};
pub use erase::RandomErasing;
pub use geometry::{Crop, ScaleOf};
pub use mix::Mix;
pub use rand_augment::RandAugment;

/// How images are varied, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Least and greatest factor of the size; drawn evenly.
    pub scale: [f64; 2],
    /// What the factor is of.
    #[serde(default)]
    pub scale_of: ScaleOf,
    /// Part that is cut out.
    pub crop: Crop,
    /// Probability of a mirror image.
    pub flip: f64,
    /// Change of colours; none if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<ColorJitter>,
    /// Greatest change of brightness, contrast and saturation, in an order that is drawn: factors 1 - jitter .. 1 + jitter, as
    /// classifiers are trained; none by default.
    #[serde(default)]
    pub jitter: f64,
    /// RandAugment, for classifiers: it moves no masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
    /// Random erasing, for classifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase: Option<RandomErasing>,
    /// Mixup and cutmix, for classifiers: labels are mixed as images are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
}

impl Augmentation {
    /// Scaling and crops of this size, and nothing else.
    pub fn crops(height: u32, width: u32) -> Self {
        Self {
            scale: [1.0, 1.0],
            scale_of: ScaleOf::Image,
            crop: Crop { height, width, single_category_max: 1.0 },
            flip: 0.0,
            color: None,
            jitter: 0.0,
            rand_augment: None,
            erase: None,
            mix: None,
        }
    }

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
        self.scale_of.validate(high)?;
        self.crop.validate()?;
        if !(0.0..=1.0).contains(&self.flip) {
            return Err(TrainError::value("augmentation.flip", self.flip, "a probability from 0 to 1"));
        }
        check("augmentation.jitter", self.jitter, 1.0)?;
        self.color.map_or(Ok(()), ColorJitter::validate)?;
        self.rand_augment.map_or(Ok(()), RandAugment::validate)?;
        self.erase.map_or(Ok(()), RandomErasing::validate)?;
        self.mix.map_or(Ok(()), Mix::validate)
    }

    /// The first key that is set and only classifiers can have.
    pub(crate) fn for_labels_alone(&self) -> Option<&'static str> {
        let set = [
            ("augmentation.rand_augment", self.rand_augment.is_some()),
            ("augmentation.erase", self.erase.is_some()),
            ("augmentation.mix", self.mix.is_some()),
        ];
        set.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }

    /// A random view of an image.
    ///
    /// # Errors
    /// If the scaled image would be too large.
    pub fn apply(&self, source: &Sample, rng: &mut ChaCha8Rng) -> Result<Sample, TrainError> {
        let (mut image, mut view) = self.cut_out(source, rng)?;
        if rng.random_bool(self.flip) {
            view.columns = view.columns.flipped();
            image = geometry::flip(&image);
        }
        if let Some(color) = &self.color {
            color.apply(&mut image, rng);
        }
        if self.jitter > 0.0 {
            color::jitter(&mut image, self.jitter, rng);
        }
        if let Some(options) = &self.rand_augment {
            image = options.apply(image, rng);
        }
        Ok(Sample { image, target: source.target.viewed(&view)? })
    }
}

/// Refuses what is not from 0 to a greatest value.
fn check(key: &'static str, value: f64, most: f64) -> Result<(), TrainError> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(TrainError::value(key, value, format!("0 to {most}")))
}

/// An image as the network reads it: normalised planes `[3, height, width]`, as `preprocessor_config.json` of our models says.
pub(crate) fn normalized_planes(image: &RgbImage) -> Vec<f32> {
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
    use aff_vision::{ImageSize, LabelMap, Rgb, Rle};

    use super::*;
    use crate::data::IGNORED;
    use crate::random::{Purpose, generator};
    use crate::targets::{ClassTarget, SegmentTarget, Target, TargetSegment};

    /// Colours that say where a pixel came from, and labels that say the same.
    fn scene(height: u32, width: u32) -> Sample {
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 0]));
        let labels = (0..height * width).map(|place| (place % width) as u16).collect();
        let labels = LabelMap::new(ImageSize::new(height, width), labels).unwrap();
        Sample { image, target: Target::Semantic(labels) }
    }

    fn labels(sample: &Sample) -> LabelMap {
        sample.target.to_label_map().unwrap()
    }

    fn augmentation() -> Augmentation {
        Augmentation { flip: 0.5, ..Augmentation::crops(16, 24) }
    }

    /// A box of the colour of its class on black, as a mask, with its box.
    fn objects() -> Sample {
        let size = ImageSize::new(40, 60);
        let rectangles = [(5u32, 5u32, 20u32, 30u32), (15, 20, 35, 50)];
        let mut image = RgbImage::new(60, 40);
        let inside = |&(top, left, bottom, right): &(u32, u32, u32, u32), x: u32, y: u32| {
            (top..bottom).contains(&y) && (left..right).contains(&x)
        };
        for (x, y, pixel) in image.enumerate_pixels_mut() {
            pixel.0 = std::array::from_fn(|channel| {
                if rectangles.get(channel).is_some_and(|rectangle| inside(rectangle, x, y)) { 255 } else { 0 }
            });
        }
        let mask = |rectangle: &(u32, u32, u32, u32)| {
            let bitmap: Vec<bool> = (0..2400).map(|at| inside(rectangle, at % 60, at / 60)).collect();
            Rle::from_bitmap(size, &bitmap).unwrap()
        };
        let segment = |class: u32, &(top, left, bottom, right): &(u32, u32, u32, u32)| {
            let bbox = [left, top, right - left, bottom - top].map(|length| length as f32);
            TargetSegment::new(class).with_bbox(bbox)
        };
        let segments = (0..).zip(&rectangles).map(|(class, r)| segment(class, r)).collect();
        let masks = rectangles.iter().map(mask).collect();
        Sample { image, target: SegmentTarget::from_masks(size, segments, masks).unwrap().into() }
    }

    #[test]
    fn masks_and_boxes_move_with_the_image_whatever_is_scaled() {
        for scale_of in [
            ScaleOf::Image,
            ScaleOf::Crop,
            ScaleOf::ShortestEdge { pixels: 40, longest: 90 },
            ScaleOf::Area { ratio: [0.75, 4.0 / 3.0] },
        ] {
            let scale = if matches!(scale_of, ScaleOf::Area { .. }) { [0.2, 1.0] } else { [0.5, 2.0] };
            let options = Augmentation { scale, scale_of, flip: 0.5, ..Augmentation::crops(32, 36) };
            options.validate().unwrap();
            let mut seen = 0;
            for place in 0..24 {
                let mut rng = generator(3, Purpose::Augmentation, place);
                let view = options.apply(&objects(), &mut rng).unwrap();
                let target = view.target.to_segments().unwrap();
                assert_eq!(target.size(), ImageSize::new(32, 36));
                for (index, segment) in target.segments().iter().enumerate() {
                    seen += 1;
                    let bitmap = target.mask(index).unwrap().to_bitmap();
                    let channel = segment.class as usize;
                    let agree = view.image.pixels().zip(&bitmap);
                    let wrong = agree.filter(|(pixel, inside)| (pixel.0[channel] > 127) != **inside).count();
                    // Padding has the mean colour, which is dark in no channel that is compared.
                    assert!(wrong <= 72, "{scale_of:?} {place}: {wrong} pixels of class {channel}");
                    let (found, of_mask) = (target.bbox(index), target.mask(index).unwrap().bbox());
                    for (found, of_mask) in found.iter().zip(of_mask) {
                        assert!((found - of_mask as f32).abs() <= 2.0, "{found} {of_mask}");
                    }
                }
            }
            assert!(seen > 24, "{scale_of:?}: {seen}");
        }
    }

    #[test]
    fn large_scale_jitter_fits_the_image_into_the_crop() {
        let options =
            Augmentation { scale_of: ScaleOf::Crop, scale: [0.5, 0.5], ..Augmentation::crops(32, 36) };
        let view = options.apply(&scene(40, 60), &mut generator(1, Purpose::Augmentation, 0)).unwrap();
        // 60 columns become 36 / 2, and 40 rows 12: the rest is padding.
        let known: Vec<usize> = (0..32 * 36).filter(|&at| labels(&view).labels()[at] != IGNORED).collect();
        assert_eq!(known.len(), 12 * 18);
        assert!(known.iter().all(|at| at / 36 < 12 && at % 36 < 18));
    }

    #[test]
    fn every_variation_is_that_of_its_seed() {
        let options = Augmentation {
            scale: [0.3, 1.0],
            scale_of: ScaleOf::Area { ratio: [0.75, 4.0 / 3.0] },
            flip: 0.5,
            jitter: 0.4,
            rand_augment: Some(RandAugment::default()),
            ..Augmentation::crops(16, 16)
        };
        let source = Sample { target: Target::Class(ClassTarget::of(2)), ..scene(40, 60) };
        let view = |place| options.apply(&source, &mut generator(1, Purpose::Augmentation, place)).unwrap();
        assert_eq!(view(1), view(1));
        assert!(view(1).image != view(2).image);
        assert_eq!(view(1).target, source.target);
    }

    #[test]
    fn image_and_labels_move_together() {
        let scene = scene(40, 60);
        let mut flipped = [false; 2];
        for place in 0..32 {
            let view = augmentation().apply(&scene, &mut generator(1, Purpose::Augmentation, place)).unwrap();
            assert_eq!(labels(&view).size(), ImageSize::new(16, 24));
            for (pixel, &label) in view.image.pixels().zip(labels(&view).labels()) {
                assert_eq!(u16::from(pixel.0[0]), label);
            }
            flipped[usize::from(labels(&view).labels()[0] > labels(&view).labels()[1])] = true;
        }
        assert_eq!(flipped, [true, true]);
    }

    #[test]
    fn a_small_image_is_padded_and_the_padding_is_ignored() {
        let mut augmentation = augmentation();
        augmentation.flip = 0.0;
        let view = augmentation.apply(&scene(10, 20), &mut generator(1, Purpose::Augmentation, 0)).unwrap();
        let known = labels(&view).labels().iter().filter(|&&label| label != IGNORED).count();
        assert_eq!(known, 10 * 20);
        assert_eq!(labels(&view).labels()[23], IGNORED);
        let padding = normalized_planes(&view.image)[23];
        assert!(padding.abs() < 0.01, "{padding}");
    }

    #[test]
    fn a_crop_of_one_class_is_drawn_again() {
        // One class but for one column at the right.
        let size = ImageSize::new(32, 64);
        let map = (0..32 * 64).map(|place| u16::from(place % 64 > 40)).collect();
        let target = Target::Semantic(LabelMap::new(size, map).unwrap());
        let scene = Sample { image: RgbImage::new(64, 32), target };
        let mixed = |limit: f64| {
            let mut augmentation = augmentation();
            augmentation.crop.single_category_max = limit;
            let is_mixed = |place: &u64| {
                let view =
                    augmentation.apply(&scene, &mut generator(1, Purpose::Augmentation, *place)).unwrap();
                labels(&view).areas().len() == 2
            };
            (0..64).filter(is_mixed).count()
        };
        assert!(mixed(0.9) > 60 && mixed(1.0) < 50, "{} {}", mixed(0.9), mixed(1.0));
    }
}
