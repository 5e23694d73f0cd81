//! How the learning rate goes.

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// A linear warm-up, then a decay over the rest of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Steps over which the rate grows linearly to its full value.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Factor that the warm-up begins with; without it the first step has the rate of one of `warmup_steps` equal parts.
    #[serde(default)]
    pub warmup_factor: f64,
    /// How it falls from there.
    pub decay: Decay,
    /// Power of a `poly` decay.
    #[serde(default = "default_power")]
    pub power: f64,
    /// Factor that a `cosine` decay ends with.
    #[serde(default)]
    pub final_factor: f64,
    /// Steps at which a `steps` decay divides the rate by ten; ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<u64>,
}

fn default_power() -> f64 {
    0.9
}

/// The shape of a decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// `(1 - progress)^power`, as the segmenters were trained.
    Poly,
    /// `(1 + cos(pi progress)) / 2`, as the classifiers were.
    Cosine,
    /// A tenth from each of the `milestones` on, as the segmenters of COCO were.
    Steps,
    /// No decay.
    Constant,
}

impl Schedule {
    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Value`] for a power that is not a positive number.
    pub fn validate(&self) -> Result<(), TrainError> {
        if !(1e-3..=100.0).contains(&self.power) {
            return Err(TrainError::value("schedule.power", self.power, "0.001 to 100"));
        }
        for (key, factor) in
            [("schedule.warmup_factor", self.warmup_factor), ("schedule.final_factor", self.final_factor)]
        {
            if !(0.0..=1.0).contains(&factor) {
                return Err(TrainError::value(key, factor, "0 to 1"));
            }
        }
        if self.milestones.windows(2).any(|pair| pair[0] >= pair[1]) {
            let found = format!("{:?}", self.milestones);
            return Err(TrainError::value("schedule.milestones", found, "ascending steps"));
        }
        Ok(())
    }

    /// A decay without a warm-up.
    pub fn new(decay: Decay) -> Self {
        let power = default_power();
        Self { warmup_steps: 0, warmup_factor: 0.0, decay, power, final_factor: 0.0, milestones: Vec::new() }
    }

    /// Factor of the learning rate at a step, counted from 0, of `steps`.
    ///
    /// ```
    /// use aff_train::optim::{Decay, Schedule};
    ///
    /// let schedule = Schedule { warmup_steps: 2, power: 1.0, ..Schedule::new(Decay::Poly) };
    /// let factors: Vec<f64> = (0..6).map(|step| schedule.factor(step, 6)).collect();
    /// assert_eq!(factors, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
    /// ```
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            let share = (step + 1) as f64 / self.warmup_steps as f64;
            return self.warmup_factor + (1.0 - self.warmup_factor) * share;
        }
        let rest = steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / rest).min(1.0);
        match self.decay {
            Decay::Poly => (1.0 - progress).powf(self.power),
            Decay::Cosine => {
                let share = (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
                self.final_factor + (1.0 - self.final_factor) * share
            }
            Decay::Steps => {
                let passed = self.milestones.iter().filter(|&&milestone| step >= milestone).count();
                0.1_f64.powi(passed as i32)
            }
            Decay::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_falls_from_one_to_zero() {
        let schedule = Schedule { warmup_steps: 10, ..Schedule::new(Decay::Cosine) };
        assert!((schedule.factor(0, 110) - 0.1).abs() < 1e-12);
        assert!((schedule.factor(10, 110) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(60, 110) - 0.5).abs() < 1e-12);
        assert!(schedule.factor(110, 110) < 1e-12 && schedule.factor(500, 110) < 1e-12);
    }

    #[test]
    fn milestones_and_the_ends_of_a_cosine_are_those_that_were_set() {
        let steps = Schedule { milestones: vec![5, 8], ..Schedule::new(Decay::Steps) };
        let factors: Vec<f64> = [4, 5, 7, 8].iter().map(|&step| steps.factor(step, 10)).collect();
        for (found, expected) in factors.iter().zip([1.0, 0.1, 0.1, 0.01]) {
            assert!((found - expected).abs() < 1e-12);
        }
        let cosine = Schedule {
            warmup_steps: 4,
            warmup_factor: 0.001,
            final_factor: 0.01,
            ..Schedule::new(Decay::Cosine)
        };
        assert!((cosine.factor(0, 104) - (0.001 + 0.999 / 4.0)).abs() < 1e-12);
        assert!((cosine.factor(104, 104) - 0.01).abs() < 1e-12);
        assert!(Schedule { milestones: vec![5, 5], ..steps }.validate().is_err());
    }
}
