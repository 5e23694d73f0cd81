//! From gradients to new values.

mod adamw;
mod ema;
mod schedule;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Var};

use crate::parameters::is_trained;

pub use adamw::{AdamW, Moments, OptimizerOptions};
pub use ema::Average;
pub use schedule::{Decay, Schedule};

/// The gradient of every parameter that has one, by name.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    values: BTreeMap<String, Vec<f32>>,
}

impl Gradients {
    /// Adds what a backward pass computed.
    ///
    /// # Errors
    /// If a gradient cannot be read.
    pub fn add(&mut self, vars: &BTreeMap<String, Var>, store: &GradStore) -> Result<()> {
        for (name, var) in vars.iter().filter(|(name, _)| is_trained(name)) {
            let Some(gradient) = store.get(var) else { continue };
            let gradient: Vec<f32> = gradient.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            self.add_values(name.clone(), gradient);
        }
        Ok(())
    }

    /// Adds other gradients of the same parameters.
    pub fn merge(&mut self, other: Self) {
        for (name, gradient) in other.values {
            self.add_values(name, gradient);
        }
    }

    fn add_values(&mut self, name: String, gradient: Vec<f32>) {
        match self.values.entry(name) {
            Entry::Occupied(mut sum) => {
                sum.get_mut().iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
            Entry::Vacant(place) => {
                place.insert(gradient);
            }
        }
    }

    /// The values, by parameter.
    pub fn values(&self) -> &BTreeMap<String, Vec<f32>> {
        &self.values
    }

    /// The L2 norm over all parameters.
    pub fn norm(&self) -> f64 {
        let square = |values: &Vec<f32>| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        self.values.values().map(square).sum::<f64>().sqrt()
    }

    /// Multiplies all values.
    pub fn scale(&mut self, factor: f64) {
        self.values.values_mut().flatten().for_each(|value| *value *= factor as f32);
    }

    /// The first parameter with a gradient that is not a finite number, and that value.
    pub fn not_finite(&self) -> Option<(&str, f32)> {
        self.values.iter().find_map(|(name, values)| {
            values.iter().find(|value| !value.is_finite()).map(|&value| (name.as_str(), value))
        })
    }
}
