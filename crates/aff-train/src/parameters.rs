//! The variables of a network in training.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::random::{self, Purpose};

/// Named variables, by name.
///
/// A network built from [`Parameters::var_builder`] creates what it asks for. First values depend on the seed and on the name
/// of a parameter alone, so that two networks that share a part begin with the same values there.
///
/// ```
/// use aff_train::Parameters;
/// use candle_core::Device;
///
/// let parameters = Parameters::new(7, &Device::Cpu);
/// candle_nn::linear(3, 2, parameters.var_builder().pp("head"))?;
/// assert_eq!(parameters.vars().into_keys().collect::<Vec<_>>(), ["head.bias", "head.weight"]);
/// # candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Parameters {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    seed: u64,
    device: Device,
}

impl Parameters {
    /// No variables yet.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { vars: Arc::default(), seed, device: device.clone() }
    }

    /// The same variables, but running statistics of its own: for a network that sees other batches at the same time.
    ///
    /// # Errors
    /// If a statistic cannot be copied.
    pub(crate) fn replica(&self) -> Result<Self> {
        let copy = |(name, var): (String, Var)| {
            let var = if is_trained(&name) { var } else { Var::from_tensor(&var.as_tensor().copy()?)? };
            Ok((name, var))
        };
        let vars = self.vars().into_iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { vars: Arc::new(Mutex::new(vars)), seed: self.seed, device: self.device.clone() })
    }

    /// What networks are built from: gives the variable of a name, or makes it.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, self.device.clone())
    }

    /// All variables; clones share their values.
    pub fn vars(&self) -> BTreeMap<String, Var> {
        self.vars.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of variables' values that are trained, all but the running statistics of batch norms.
    pub fn count(&self) -> usize {
        self.vars().iter().filter(|(name, _)| is_trained(name)).map(|(_, var)| var.elem_count()).sum()
    }

    /// Sets variables to given values; names without a value keep theirs. Returns how many were set.
    ///
    /// # Errors
    /// If a value has another shape than its variable.
    pub fn set(&self, values: &BTreeMap<String, Tensor>) -> Result<usize> {
        let mut count = 0;
        for (name, var) in self.vars() {
            let Some(value) = values.get(&name) else { continue };
            if value.dims() != var.dims() {
                bail!("{name} has shape {:?}; its value has {:?}", var.dims(), value.dims())
            }
            var.set(&value.to_dtype(var.dtype())?.to_device(var.device())?.contiguous()?)?;
            count += 1;
        }
        Ok(count)
    }
}

/// Whether gradients change a parameter; running statistics follow the data instead.
pub(crate) fn is_trained(name: &str) -> bool {
    !name.contains(".running_")
}

impl SimpleBackend for Parameters {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut vars = self.vars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                bail!("{name} has shape {:?}; the network asks for {shape:?}", var.shape())
            }
            return Ok(var.as_tensor().clone());
        }
        let values = first_values(&shape, init, random::hash(name), self.seed);
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.vars().get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => bail!("{name} does not exist, and its shape is not known"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.vars().contains_key(name)
    }
}

fn first_values(shape: &Shape, init: Init, place: u64, seed: u64) -> Vec<f32> {
    let mut rng = random::generator(seed, Purpose::Initialization, place);
    let mut sample = |distribution: NormalOrUniform, center: f64, spread: f64| {
        let draw = |rng: &mut ChaCha8Rng| match distribution {
            NormalOrUniform::Normal => spread * normal(rng),
            NormalOrUniform::Uniform => spread * (2.0 * rng.random::<f64>() - 1.0),
        };
        (0..shape.elem_count()).map(|_| (center + draw(&mut rng)) as f32).collect()
    };
    match init {
        Init::Const(value) => vec![value as f32; shape.elem_count()],
        Init::Randn { mean, stdev } => sample(NormalOrUniform::Normal, mean, stdev),
        Init::Uniform { lo, up } => sample(NormalOrUniform::Uniform, (lo + up) / 2.0, (up - lo) / 2.0),
        Init::Kaiming { dist, fan, non_linearity } => {
            let deviation = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            let spread = match dist {
                NormalOrUniform::Normal => deviation,
                NormalOrUniform::Uniform => 3f64.sqrt() * deviation,
            };
            sample(dist, 0.0, spread)
        }
    }
}

/// A number of the standard normal distribution (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_values_depend_on_seed_and_name_alone() {
        let values = |seed: u64, names: &[&str]| {
            let parameters = Parameters::new(seed, &Device::Cpu);
            let vb = parameters.var_builder();
            for name in names {
                vb.get_with_hints((4, 5), name, Init::Randn { mean: 1.0, stdev: 0.5 }).unwrap();
            }
            let var = parameters.vars()["a"].clone();
            var.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values(1, &["a", "b"]), values(1, &["b", "a"]));
        assert_ne!(values(1, &["a"]), values(2, &["a"]));
    }

    #[test]
    fn first_values_have_their_distribution() {
        let shape = Shape::from((100, 200));
        let moments = |init| {
            let values = first_values(&shape, init, 3, 5);
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>();
            (mean, (square / values.len() as f32).sqrt())
        };
        let (mean, deviation) = moments(Init::Randn { mean: 2.0, stdev: 0.5 });
        assert!((mean - 2.0).abs() < 0.02 && (deviation - 0.5).abs() < 0.02, "{mean} {deviation}");
        let (mean, deviation) = moments(Init::Uniform { lo: -1.0, up: 3.0 });
        assert!(
            (mean - 1.0).abs() < 0.03 && (deviation - 2.0 / 3f32.sqrt()).abs() < 0.03,
            "{mean} {deviation}"
        );
        let (_, deviation) = moments(candle_nn::init::DEFAULT_KAIMING_NORMAL);
        assert!((deviation - (2.0 / 200f32).sqrt()).abs() < 0.005, "{deviation}");
    }

    #[test]
    fn values_are_set_by_name_and_shapes_must_fit() {
        let parameters = Parameters::new(0, &Device::Cpu);
        parameters.var_builder().get((2,), "a").unwrap();
        let value = |count| {
            BTreeMap::from([("a".to_owned(), Tensor::ones(count, DType::F16, &Device::Cpu).unwrap())])
        };
        assert_eq!(parameters.set(&value(2)).unwrap(), 1);
        assert_eq!(parameters.vars()["a"].to_vec1::<f32>().unwrap(), [1.0, 1.0]);
        assert!(parameters.set(&value(3)).is_err());
    }
}
