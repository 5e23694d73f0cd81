//! The running mean of the weights, which is what is validated and kept.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};
use rayon::prelude::*;

use crate::parameters::is_trained;

/// An exponential moving average of all parameters. Running statistics are copied: they are means already.
#[derive(Debug, Clone)]
pub struct Average {
    decay: f64,
    pub(crate) values: BTreeMap<String, Vec<f32>>,
    pub(crate) updates: u64,
}

impl Average {
    /// An average that follows from the first update on; a decay of 0 keeps the last values.
    pub fn new(decay: f64) -> Self {
        Self { decay, values: BTreeMap::new(), updates: 0 }
    }

    /// Moves the average towards the present values. Early averages move faster, so that they forget the first values:
    /// the decay is at most (1 + n) / (10 + n) at update n.
    ///
    /// # Errors
    /// If a value cannot be read.
    pub fn update(&mut self, vars: &BTreeMap<String, Var>) -> Result<()> {
        let updates = self.updates as f64;
        let decay = self.decay.min((1.0 + updates) / (10.0 + updates)) as f32;
        self.updates += 1;
        for name in vars.keys() {
            self.values.entry(name.clone()).or_default();
        }
        let work: Vec<_> = self.values.iter_mut().collect();
        work.into_par_iter().try_for_each(|(name, average)| {
            let Some(var) = vars.get(name) else { return Ok(()) };
            let values: Vec<f32> = var.flatten_all()?.to_vec1()?;
            if average.len() != values.len() || !is_trained(name) {
                *average = values;
                return Ok(());
            }
            let towards = 1.0 - decay;
            average.iter_mut().zip(values).for_each(|(mean, value)| *mean += towards * (value - *mean));
            Ok(())
        })
    }

    /// The averages in the shapes of the parameters.
    ///
    /// # Errors
    /// If a parameter has another size than when it was averaged.
    pub fn tensors(&self, vars: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>> {
        let tensor = |(name, values): (&String, &Vec<f32>)| {
            let var = vars.get(name)?;
            Some(Tensor::from_slice(values, var.shape(), var.device()).map(|tensor| (name.clone(), tensor)))
        };
        self.values.iter().filter_map(tensor).collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_average_follows_and_statistics_are_copied() {
        let var = |value: f32| Var::from_tensor(&Tensor::new(&[value], &Device::Cpu).unwrap()).unwrap();
        let vars = BTreeMap::from([("a".to_owned(), var(1.0)), ("bn.running_mean".to_owned(), var(1.0))]);
        let mut average = Average::new(0.5);
        average.update(&vars).unwrap();
        for var in vars.values() {
            var.set(&Tensor::new(&[3f32], &Device::Cpu).unwrap()).unwrap();
        }
        average.update(&vars).unwrap();
        // The second update has the decay 2/11, for there are few.
        assert!((average.values["a"][0] - (3.0 - 2.0 * 2.0 / 11.0)).abs() < 1e-6);
        assert_eq!(average.values["bn.running_mean"], [3.0]);
        for _ in 0..60 {
            average.update(&vars).unwrap();
        }
        let tensors = average.tensors(&vars).unwrap();
        assert!((tensors["a"].to_vec1::<f32>().unwrap()[0] - 3.0).abs() < 1e-6);
    }
}
