//! Random erasing (Zhong et al. 2020).

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::check;
use crate::TrainError;

/// A rectangle of each image becomes noise. Its share of the area is 0.02 to 1/3, its sides have a ratio of 0.3 to 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// How often.
    pub probability: f64,
}

const ATTEMPTS: usize = 10;
const AREA: [f64; 2] = [0.02, 1.0 / 3.0];
const RATIO: [f64; 2] = [0.3, 1.0 / 0.3];

impl RandomErasing {
    pub(super) fn validate(self) -> Result<(), TrainError> {
        check("augmentation.erase.probability", self.probability, 1.0)
    }

    /// Changes normalised planes `[3,height,width]`.
    pub(crate) fn apply(self, planes: &mut [f32], (height, width): (usize, usize), rng: &mut ChaCha8Rng) {
        if !rng.random_bool(self.probability) {
            return;
        }
        for _ in 0..ATTEMPTS {
            let area = rng.random_range(AREA[0]..=AREA[1]) * (height * width) as f64;
            let ratio = rng.random_range(RATIO[0].ln()..=RATIO[1].ln()).exp();
            let rows = (area * ratio).sqrt().round() as usize;
            let columns = (area / ratio).sqrt().round() as usize;
            if rows >= height || columns >= width {
                continue;
            }
            let (top, left) = (rng.random_range(0..=height - rows), rng.random_range(0..=width - columns));
            for plane in planes.chunks_exact_mut(height * width) {
                for row in plane.chunks_exact_mut(width).skip(top).take(rows) {
                    row[left..left + columns]
                        .iter_mut()
                        .for_each(|value| *value = rng.sample(StandardNormal));
                }
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    #[test]
    fn a_rectangle_becomes_noise_as_often_as_asked() {
        let mut erased = 0;
        for place in 0..200 {
            let mut planes = vec![9.0; 3 * 20 * 30];
            let rng = &mut generator(1, Purpose::Augmentation, place);
            RandomErasing { probability: 0.25 }.apply(&mut planes, (20, 30), rng);
            let changed: Vec<usize> = (0..600).filter(|&at| planes[at] < 8.0).collect();
            if changed.is_empty() {
                continue;
            }
            erased += 1;
            let (rows, columns): (Vec<_>, Vec<_>) = changed.iter().map(|at| (at / 30, at % 30)).unzip();
            let span = |places: &[usize]| places.iter().max().unwrap() - places.iter().min().unwrap() + 1;
            assert_eq!(changed.len(), span(&rows) * span(&columns));
            let share = changed.len() as f64 / 600.0;
            assert!((0.01..0.4).contains(&share), "{share}");
            assert!(changed.iter().all(|at| planes[at + 600] < 8.0 && planes[at + 1200] < 8.0));
        }
        assert!((30..70).contains(&erased), "{erased}");
    }
}
