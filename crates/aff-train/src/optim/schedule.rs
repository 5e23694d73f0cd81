//! How the learning rate goes.

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// A linear warm-up, then a decay over the rest of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Steps over which the rate grows linearly to its full value.
    #[serde(default)]
    pub warmup_steps: u64,
    /// How it falls from there.
    pub decay: Decay,
    /// Power of a `poly` decay.
    #[serde(default = "default_power")]
    pub power: f64,
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
    /// No decay.
    Constant,
}

impl Schedule {
    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Value`] for a power that is not a positive number.
    pub fn validate(&self) -> Result<(), TrainError> {
        if (1e-3..=100.0).contains(&self.power) {
            return Ok(());
        }
        Err(TrainError::value("schedule.power", self.power, "0.001 to 100"))
    }

    /// Factor of the learning rate at a step, counted from 0, of `steps`.
    ///
    /// ```
    /// use aff_train::optim::{Decay, Schedule};
    ///
    /// let schedule = Schedule { warmup_steps: 2, decay: Decay::Poly, power: 1.0 };
    /// let factors: Vec<f64> = (0..6).map(|step| schedule.factor(step, 6)).collect();
    /// assert_eq!(factors, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
    /// ```
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let rest = steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / rest).min(1.0);
        match self.decay {
            Decay::Poly => (1.0 - progress).powf(self.power),
            Decay::Cosine => (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0,
            Decay::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_falls_from_one_to_zero() {
        let schedule = Schedule { warmup_steps: 10, decay: Decay::Cosine, power: 0.9 };
        assert!((schedule.factor(0, 110) - 0.1).abs() < 1e-12);
        assert!((schedule.factor(10, 110) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(60, 110) - 0.5).abs() < 1e-12);
        assert!(schedule.factor(110, 110) < 1e-12 && schedule.factor(500, 110) < 1e-12);
    }
}
