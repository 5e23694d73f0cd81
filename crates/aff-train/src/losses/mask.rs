//! Losses of mask logits against target masks, at points.

use candle_core::{Result, Tensor};

/// Binary cross entropy of logits, for each row the mean over its points: stable for logits of any size.
///
/// ```
/// use aff_train::losses::binary_cross_entropy;
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[0f32, 0.], [100., -100.]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[1f32, 0.], [1., 0.]], &Device::Cpu)?;
/// let loss = binary_cross_entropy(&logits, &targets)?.to_vec1::<f32>()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6 && loss[1] == 0.0);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `logits [M,P]`, `targets [M,P]` -> `[M]`
///
/// # Errors
/// If the shapes differ.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    // log(1 + e^x) - x t, with the first term as max(x, 0) + log(1 + e^-|x|).
    let softplus = (logits.relu()? + (logits.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    (softplus - (logits * targets)?)?.mean(1)
}

/// 1 - (2 sum p t + 1) / (sum p + sum t + 1) of each row, where p is the sigmoid of the logits.
///
/// ```
/// use aff_train::losses::dice_loss;
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[100f32, -100.], [0., 0.]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[1f32, 0.], [1., 0.]], &Device::Cpu)?;
/// let loss = dice_loss(&logits, &targets)?.to_vec1::<f32>()?;
/// assert!(loss[0].abs() < 1e-6 && (loss[1] - (1.0 - 2.0 / 3.0)).abs() < 1e-6);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `logits [M,P]`, `targets [M,P]` -> `[M]`
///
/// # Errors
/// If the shapes differ.
pub fn dice_loss(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let probabilities = candle_nn::ops::sigmoid(logits)?;
    let overlap = ((&probabilities * targets)?.sum(1)? * 2.0)?;
    let sizes = (probabilities.sum(1)? + targets.sum(1)?)?;
    1.0 - ((overlap + 1.0)? / (sizes + 1.0)?)?
}
