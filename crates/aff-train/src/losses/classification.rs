//! Cross entropy over classes.

use candle_core::{D, Result, Tensor, bail};

use crate::targets::ClassTarget;

/// Settings of [`cross_entropy`].
#[derive(Debug, Clone, Copy, Default)]
pub struct CrossEntropy<'a> {
    /// Weight of every class `[K]`; all alike without it.
    pub weights: Option<&'a [f32]>,
    /// Share of the probability that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// What the sum over the rows is divided by; the sum of the weights of the targets without it.
    pub normalizer: Option<f64>,
}

/// The weighted mean over the rows of -sum_k t_k log softmax(logits)_k, where t is 1 at the target, smoothed: PyTorch's
/// `cross_entropy`. A row weighs as its target does.
///
/// ```
/// use aff_train::losses::{CrossEntropy, cross_entropy};
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[0f32, 0., 0., 0.]], &Device::Cpu)?;
/// let loss = cross_entropy(&logits, &[2], CrossEntropy::default())?;
/// assert!((loss.to_scalar::<f32>()? - 4f32.ln()).abs() < 1e-6);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `logits [N,K]`, one of `targets` a row -> a scalar
///
/// # Errors
/// If the number of targets or weights does not fit, or a target is none of the classes.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], options: CrossEntropy<'_>) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if targets.len() != rows || targets.iter().any(|&target| target as usize >= classes) {
        bail!("cross entropy: {rows} rows of {classes} classes do not fit {} targets", targets.len())
    }
    let uniform = vec![1.0; classes];
    let weights = options.weights.unwrap_or(&uniform);
    if weights.len() != classes {
        bail!("cross entropy: {} weights for {classes} classes", weights.len())
    }
    // As in PyTorch, smoothing spreads over the weighted classes, and the mean divides by the weights of the targets.
    let spread = options.label_smoothing / classes as f64;
    let mut coefficients = Vec::with_capacity(rows * classes);
    let mut sum = 0.0;
    for &target in targets {
        sum += f64::from(weights[target as usize]);
        coefficients.extend(weights.iter().zip(0..).map(|(&weight, class)| {
            let share = if class == target { 1.0 - options.label_smoothing } else { 0.0 };
            ((share + spread) * f64::from(weight)) as f32
        }));
    }
    let coefficients = Tensor::from_vec(coefficients, (rows, classes), logits.device())?;
    let log_probabilities = log_softmax(logits)?;
    (log_probabilities * coefficients)?.sum_all()? / -options.normalizer.unwrap_or(sum).max(f64::MIN_POSITIVE)
}

/// The mean over the rows of -sum_k t_k log softmax(logits)_k, where t is the distribution of the row's target, a share
/// `label_smoothing` of it spread evenly over all classes.
///
/// ```
/// use aff_train::losses::soft_cross_entropy;
/// use aff_train::targets::ClassTarget;
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[0f32, 0., 0., 0.]], &Device::Cpu)?;
/// let target = ClassTarget::of(1).mixed(&ClassTarget::of(2), 0.5);
/// let loss = soft_cross_entropy(&logits, &[&target], 0.1)?;
/// assert!((loss.to_scalar::<f32>()? - 4f32.ln()).abs() < 1e-6);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `logits [N,K]`, one of `targets` a row -> a scalar
///
/// # Errors
/// If the number of targets does not fit, or one is of a class that is not there.
pub fn soft_cross_entropy(logits: &Tensor, targets: &[&ClassTarget], label_smoothing: f64) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if targets.len() != rows {
        bail!("cross entropy: {rows} rows and {} targets", targets.len())
    }
    let mut wanted = vec![(label_smoothing / classes as f64) as f32; rows * classes];
    for (row, target) in wanted.chunks_exact_mut(classes).zip(targets) {
        for &(class, share) in target.shares() {
            let Some(wanted) = row.get_mut(class as usize) else {
                bail!("cross entropy: class {class}; expected one of {classes}")
            };
            *wanted += (1.0 - label_smoothing) as f32 * share;
        }
    }
    let wanted = Tensor::from_vec(wanted, (rows, classes), logits.device())?;
    (log_softmax(logits)? * wanted)?.sum_all()? / -(rows as f64)
}

/// Logarithm of the softmax over the last axis.
pub(super) fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Values of PyTorch 2.15: `F.cross_entropy(logits, [0, 2], weight=[1, 2, 0.5], label_smoothing=s)`.
    #[test]
    fn it_is_pytorchs() {
        let logits = Tensor::new(&[[1.0f32, -0.5, 2.0], [0.3, 0.1, -1.2]], &Device::Cpu).unwrap();
        let loss = |weights: Option<&[f32]>, label_smoothing: f64| {
            let options = CrossEntropy { weights, label_smoothing, normalizer: None };
            cross_entropy(&logits, &[0, 2], options).unwrap().to_scalar::<f32>().unwrap()
        };
        let weights = [1.0, 2.0, 0.5];
        let expected = [1.792_700_3, 1.754_367, 1.652_313_2, 1.730_390_8];
        let found = [loss(None, 0.0), loss(None, 0.1), loss(Some(&weights), 0.0), loss(Some(&weights), 0.1)];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn a_target_that_is_no_class_is_refused() {
        let logits = Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(cross_entropy(&logits, &[3], CrossEntropy::default()).is_err());
        assert!(cross_entropy(&logits, &[0, 1], CrossEntropy::default()).is_err());
        let weights = Some([1.0].as_slice());
        assert!(cross_entropy(&logits, &[0], CrossEntropy { weights, ..CrossEntropy::default() }).is_err());
    }
}
