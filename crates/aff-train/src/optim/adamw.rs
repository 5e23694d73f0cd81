//! AdamW with parameter groups (Loshchilov and Hutter 2019).

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Gradients;
use crate::TrainError;

/// Settings of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerOptions {
    /// Learning rate at the top of the schedule.
    pub learning_rate: f64,
    /// Factor of the learning rate of parameters named `backbone.*`.
    pub backbone_factor: f64,
    /// Decoupled weight decay; none on norms and embeddings.
    pub weight_decay: f64,
    /// Decay of the running means of the gradient and of its square.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Gradients with a greater L2 norm over the whole model are scaled down to it.
    pub clip_norm: f64,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            backbone_factor: 0.1,
            weight_decay: 0.05,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            clip_norm: 0.01,
        }
    }
}

impl OptimizerOptions {
    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Value`] names the first that no optimiser can have.
    pub fn validate(&self) -> std::result::Result<(), TrainError> {
        for (key, value, low, high) in [
            ("optimizer.learning_rate", self.learning_rate, 0.0, 1e3),
            ("optimizer.backbone_factor", self.backbone_factor, 0.0, 1e3),
            ("optimizer.weight_decay", self.weight_decay, 0.0, 1e3),
            ("optimizer.betas[0]", self.betas[0], 0.0, 1.0 - 1e-9),
            ("optimizer.betas[1]", self.betas[1], 0.0, 1.0 - 1e-9),
            ("optimizer.epsilon", self.epsilon, 1e-30, 1.0),
            ("optimizer.clip_norm", self.clip_norm, 1e-12, f64::MAX),
        ] {
            if !(low..=high).contains(&value) {
                return Err(TrainError::value(key, value, format!("{low} to {high}")));
            }
        }
        Ok(())
    }
}

/// Running means of a parameter's gradient and of its square.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of its square.
    pub second: Vec<f32>,
}

/// The optimiser and its state.
#[derive(Debug, Clone)]
pub struct AdamW {
    options: OptimizerOptions,
    /// By parameter, once it has had a gradient.
    pub(crate) moments: BTreeMap<String, Moments>,
    /// Updates made.
    pub(crate) updates: u64,
}

impl AdamW {
    /// An optimiser that has made no update.
    pub fn new(options: OptimizerOptions) -> Self {
        Self { options, moments: BTreeMap::new(), updates: 0 }
    }

    /// One update of every parameter with a gradient, `factor` being that of the schedule. Clips the gradients first, and
    /// returns their norm before.
    ///
    /// # Errors
    /// If a parameter has another size than its gradient.
    pub fn update(
        &mut self,
        vars: &BTreeMap<String, Var>,
        gradients: &mut Gradients,
        factor: f64,
    ) -> Result<f64> {
        let norm = gradients.norm();
        if norm > self.options.clip_norm {
            gradients.scale(self.options.clip_norm / norm);
        }
        self.updates += 1;
        for name in gradients.values().keys() {
            self.moments.entry(name.clone()).or_default();
        }
        let [beta1, beta2] = self.options.betas;
        let corrections = [beta1, beta2].map(|beta| 1.0 - beta.powf(self.updates as f64));
        let options = &self.options;
        let work: Vec<_> =
            self.moments.iter_mut().filter(|(name, _)| gradients.values().contains_key(*name)).collect();
        work.into_par_iter().try_for_each(|(name, moments)| {
            let (Some(var), Some(gradient)) = (vars.get(name), gradients.values().get(name)) else {
                candle_core::bail!("optimiser: there is no parameter {name}")
            };
            let group = if name.starts_with("backbone.") { options.backbone_factor } else { 1.0 };
            let rate = options.learning_rate * factor * group;
            let decay = if decays(name, vars) { options.weight_decay } else { 0.0 };
            let mut values: Vec<f32> = var.flatten_all()?.to_vec1()?;
            if values.len() != gradient.len() {
                candle_core::bail!(
                    "optimiser: {name} has {} values, its gradient {}",
                    values.len(),
                    gradient.len()
                )
            }
            moments.first.resize(values.len(), 0.0);
            moments.second.resize(values.len(), 0.0);
            let (keep, step) = ((1.0 - rate * decay) as f32, (rate / corrections[0]) as f32);
            let (beta1, beta2, root) = (beta1 as f32, beta2 as f32, (corrections[1]).sqrt() as f32);
            let means = moments.first.iter_mut().zip(&mut moments.second);
            for ((value, &gradient), (first, second)) in values.iter_mut().zip(gradient).zip(means) {
                *first = beta1 * *first + (1.0 - beta1) * gradient;
                *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
                *value = keep * *value - step * *first / (second.sqrt() / root + options.epsilon as f32);
            }
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)
        })?;
        Ok(norm)
    }
}

/// Whether weight decay acts on a parameter: on all but norms and embeddings. A norm is what has a `weight` of one axis.
fn decays(name: &str, vars: &BTreeMap<String, Var>) -> bool {
    const EMBEDDINGS: [&str; 3] = ["query_feat.weight", "query_embed.weight", "level_embed.weight"];
    if EMBEDDINGS.iter().any(|embedding| name.ends_with(embedding)) || name.ends_with("level_embed") {
        return false;
    }
    let owner = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias"));
    let weight = owner.and_then(|owner| vars.get(&format!("{owner}.weight")));
    weight.is_none_or(|weight| weight.rank() != 1)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn vars() -> BTreeMap<String, Var> {
        let var = |values: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        BTreeMap::from([
            ("backbone.fc.weight".to_owned(), var(&[1.0, -2.0], &[1, 2])),
            ("head.fc.bias".to_owned(), var(&[0.5], &[1])),
            ("head.fc.weight".to_owned(), var(&[3.0], &[1, 1])),
            ("head.norm.weight".to_owned(), var(&[1.5], &[1])),
            ("head.norm.bias".to_owned(), var(&[0.25], &[1])),
            ("head.query_feat.weight".to_owned(), var(&[2.0], &[1, 1])),
        ])
    }

    fn gradients(scale: f32) -> Gradients {
        let values = [
            ("backbone.fc.weight", vec![0.1, -0.2]),
            ("head.fc.bias", vec![0.3]),
            ("head.fc.weight", vec![-0.4]),
            ("head.norm.weight", vec![0.5]),
            ("head.norm.bias", vec![-0.6]),
            ("head.query_feat.weight", vec![0.7]),
        ];
        let values =
            values.map(|(name, values)| (name.to_owned(), values.iter().map(|v| v * scale).collect()));
        Gradients { values: BTreeMap::from(values) }
    }

    /// Two steps of PyTorch 2.15's `AdamW(groups, lr=0.1, weight_decay=0.2)` with learning rate 0.01 for the backbone, no decay
    /// on the norm and the query, after `clip_grad_norm_(parameters, 1.0)`; gradients as above, then three times as large.
    #[test]
    fn it_is_pytorchs() {
        let options = OptimizerOptions {
            learning_rate: 0.1,
            backbone_factor: 0.1,
            weight_decay: 0.2,
            clip_norm: 1.0,
            ..OptimizerOptions::default()
        };
        let vars = vars();
        let mut optimizer = AdamW::new(options);
        let first = optimizer.update(&vars, &mut gradients(1.0), 1.0).unwrap();
        optimizer.update(&vars, &mut gradients(3.0), 1.0).unwrap();
        assert!((first - 1.183_216).abs() < 1e-5);
        let expected: [(&str, &[f32]); 6] = [
            ("backbone.fc.weight", &[0.976_024_1, -1.972_028_1]),
            ("head.fc.bias", &[0.282_200_04]),
            ("head.fc.weight", &[3.079_2]),
            ("head.norm.weight", &[1.3]),
            ("head.norm.bias", &[0.45]),
            ("head.query_feat.weight", &[1.8]),
        ];
        for (name, expected) in expected {
            let found: Vec<f32> = vars[name].flatten_all().unwrap().to_vec1().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{name}: {found} {expected}");
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_found() {
        let mut gradients = gradients(1.0);
        assert_eq!(gradients.not_finite(), None);
        gradients.values.insert("head.fc.bias".to_owned(), vec![f32::INFINITY]);
        assert_eq!(gradients.not_finite(), Some(("head.fc.bias", f32::INFINITY)));
    }

    #[test]
    fn gradients_of_several_passes_add_up() {
        let vars = vars();
        let mut gradients = Gradients::default();
        for _ in 0..2 {
            let loss = (vars["head.fc.weight"].as_tensor() * 3.0).unwrap().sum_all().unwrap();
            gradients.add(&vars, &loss.backward().unwrap()).unwrap();
        }
        assert_eq!(gradients.values()["head.fc.weight"], [6.0]);
        assert_eq!(gradients.values().len(), 1);
        assert_eq!(vars["head.fc.weight"].dtype(), DType::F32);
    }
}
