//! Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use super::check;
use crate::TrainError;
use crate::targets::Target;

/// Every image of a batch is mixed with its counterpart in reverse order, all with one share; labels are mixed as images are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Parameter of the beta distribution that the share of a mixup is drawn from; 0 for no mixup.
    #[serde(default)]
    pub mixup: f64,
    /// The same of a cutmix, which puts a rectangle of one image into the other.
    #[serde(default)]
    pub cutmix: f64,
    /// Probability of a cutmix where both are on.
    #[serde(default = "half")]
    pub switch: f64,
}

fn half() -> f64 {
    0.5
}

impl Mix {
    pub(super) fn validate(self) -> Result<(), TrainError> {
        check("augmentation.mix.mixup", self.mixup, 1e3)?;
        check("augmentation.mix.cutmix", self.cutmix, 1e3)?;
        check("augmentation.mix.switch", self.switch, 1.0)
    }

    /// Changes the normalised planes `[B,3,height,width]` of a batch, and its targets.
    ///
    /// # Errors
    /// If a target is not a label.
    pub(crate) fn apply(
        self,
        planes: &mut [f32],
        targets: &mut [Target],
        (height, width): (usize, usize),
        rng: &mut ChaCha8Rng,
    ) -> Result<(), TrainError> {
        let cuts = self.cutmix > 0.0 && (self.mixup <= 0.0 || rng.random_bool(self.switch));
        let parameter = if cuts { self.cutmix } else { self.mixup };
        let Ok(distribution) = Beta::new(parameter, parameter) else { return Ok(()) };
        let keep: f64 = distribution.sample(rng);
        let image = 3 * height * width;
        let others: Vec<f32> = planes.chunks_exact(image).rev().flatten().copied().collect();
        let keep = if cuts {
            let ratio = (1.0 - keep).sqrt();
            let span = |length: usize, rng: &mut ChaCha8Rng| {
                let (center, half) = (rng.random_range(0..length), (length as f64 * ratio) as usize / 2);
                center.saturating_sub(half)..(center + half).min(length)
            };
            let (rows, columns) = (span(height, rng), span(width, rng));
            for (row, other) in planes
                .chunks_exact_mut(width)
                .zip(others.chunks_exact(width))
                .enumerate()
                .filter_map(|(row, pair)| rows.contains(&(row % height)).then_some(pair))
            {
                row[columns.clone()].copy_from_slice(&other[columns.clone()]);
            }
            1.0 - (rows.len() * columns.len()) as f64 / (height * width) as f64
        } else {
            for (value, other) in planes.iter_mut().zip(&others) {
                *value = keep as f32 * *value + (1.0 - keep as f32) * other;
            }
            keep
        };
        let classes = targets.iter().map(|target| target.class().cloned()).collect::<Result<Vec<_>, _>>()?;
        for (target, (own, other)) in targets.iter_mut().zip(classes.iter().zip(classes.iter().rev())) {
            *target = Target::Class(own.mixed(other, (1.0 - keep) as f32));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};
    use crate::targets::ClassTarget;

    /// Images of one value each; the share of each value in an image must be that of its label.
    fn shares(mix: Mix, place: u64) -> (f64, f32) {
        let (height, width) = (10, 12);
        let mut planes = vec![1.0; 3 * height * width];
        planes.extend(vec![0.0; 3 * height * width]);
        let mut targets = [7, 3].map(|class| Target::Class(ClassTarget::of(class)));
        mix.apply(&mut planes, &mut targets, (height, width), &mut generator(2, Purpose::Mix, place))
            .unwrap();
        let of_pixels = planes[..360].iter().map(|&value| f64::from(value)).sum::<f64>() / 360.0;
        let find = |target: &Target, class: u32| {
            let shares = target.class().unwrap().shares().to_vec();
            shares.iter().find(|(of, _)| *of == class).map_or(0.0, |(_, share)| *share)
        };
        assert!((find(&targets[0], 7) + find(&targets[1], 7) - 1.0).abs() < 1e-5);
        (of_pixels, find(&targets[0], 7))
    }

    #[test]
    fn labels_are_mixed_as_pixels_are() {
        for mix in [
            Mix { mixup: 0.8, cutmix: 0.0, switch: 0.5 },
            Mix { mixup: 0.0, cutmix: 1.0, switch: 0.5 },
            Mix { mixup: 0.8, cutmix: 1.0, switch: 0.5 },
        ] {
            let all: Vec<_> = (0..40).map(|place| shares(mix, place)).collect();
            for (pixels, label) in &all {
                assert!((pixels - f64::from(*label)).abs() < 1e-4, "{mix:?}: {pixels} {label}");
            }
            assert!(
                all.iter().any(|(pixels, _)| *pixels < 0.9) && all.iter().any(|(pixels, _)| *pixels > 0.5)
            );
            assert_eq!(shares(mix, 3), shares(mix, 3));
        }
    }

    #[test]
    fn masks_cannot_be_mixed() {
        let map = aff_vision::LabelMap::new(aff_vision::ImageSize::new(1, 1), vec![0]).unwrap();
        let mix = Mix { mixup: 1.0, cutmix: 0.0, switch: 0.5 };
        let rng = &mut generator(1, Purpose::Mix, 0);
        assert!(mix.apply(&mut [0.0; 3], &mut [Target::Semantic(map)], (1, 1), rng).is_err());
    }
}
