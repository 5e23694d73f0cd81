//! How good weights are, in the words of their task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which of two values of a metric is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The higher one, as of an accuracy.
    Higher,
    /// The lower one, as of an error.
    Lower,
}

/// What a validation found.
///
/// ```
/// use aff_train::tasks::{Better, Validation};
///
/// let found = Validation::new("top1", Better::Higher, [("top1", 0.75), ("top5", 0.9)]);
/// assert_eq!(found.value(), 0.75);
/// assert!(found.beats(0.7) && !found.beats(0.75));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Figures by name.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    /// Which of them decides.
    pub decides: String,
    /// Which of its values is better.
    pub better: Better,
    /// What else was found, such as figures by class; null if there is no more.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

impl Validation {
    /// Figures, and which of them decides.
    pub fn new<N: Into<String>>(
        decides: &str,
        better: Better,
        metrics: impl IntoIterator<Item = (N, f64)>,
    ) -> Self {
        Self {
            metrics: metrics.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            decides: decides.to_owned(),
            better,
            details: serde_json::Value::Null,
        }
    }

    /// The figure that decides; not a number if it is missing.
    pub fn value(&self) -> f64 {
        self.metrics.get(&self.decides).copied().unwrap_or(f64::NAN)
    }

    /// Whether it is better than a former value. What is not a number is better than nothing.
    pub fn beats(&self, former: f64) -> bool {
        let value = self.value();
        match self.better {
            Better::Higher => value > former || (former.is_nan() && !value.is_nan()),
            Better::Lower => value < former || (former.is_nan() && !value.is_nan()),
        }
    }
}
