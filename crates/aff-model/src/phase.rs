//! What a forward pass is for.

use candle_core::{Result, Tensor};

/// Inference, or a step of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing is random, and batch norm uses its running statistics.
    #[default]
    Inference,
    /// Residual branches are dropped at random (stochastic depth), and batch norm uses, and updates, those of the batch.
    Training {
        /// Decides what is dropped; the same seed drops the same. A training run gives every step its own.
        seed: u64,
    },
}

impl Phase {
    /// Whether it is training.
    pub fn is_training(self) -> bool {
        self != Self::Inference
    }

    /// Stochastic depth: drops `branch [B,..]` for each image with probability `rate`, and scales what is kept so that the mean
    /// stays. `index` tells the branches of a network apart.
    pub(crate) fn drop_path(self, branch: Tensor, rate: f64, index: u64) -> Result<Tensor> {
        let Self::Training { seed } = self else { return Ok(branch) };
        if rate <= 0.0 {
            return Ok(branch);
        }
        let keep = 1.0 - rate;
        let factor = |image: usize| if uniform(seed, index, image as u64) < keep { 1.0 / keep } else { 0.0 };
        let batch = branch.dim(0)?;
        let factors: Vec<f64> = (0..batch).map(factor).collect();
        let mut shape = vec![1; branch.rank()];
        shape[0] = batch;
        let factors = Tensor::from_vec(factors, shape, branch.device())?.to_dtype(branch.dtype())?;
        branch.broadcast_mul(&factors)
    }
}

/// A number in 0..1 that depends on the arguments alone (SplitMix64).
fn uniform(seed: u64, branch: u64, image: u64) -> f64 {
    let mut bits = seed;
    for word in [branch, image] {
        bits = (bits ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
    }
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn branches_are_dropped_whole_and_the_mean_stays() {
        let branch = Tensor::ones((10_000, 2, 3), DType::F32, &Device::Cpu).unwrap();
        let kept = Phase::Inference.drop_path(branch.clone(), 0.3, 1).unwrap();
        assert_eq!(kept.to_vec3::<f32>().unwrap(), branch.to_vec3::<f32>().unwrap());
        let seed = 7;
        let dropped = Phase::Training { seed }.drop_path(branch.clone(), 0.3, 1).unwrap();
        let mean = dropped.mean_all().unwrap().to_scalar::<f32>().unwrap();
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        for image in dropped.to_vec3::<f32>().unwrap() {
            let first = image[0][0];
            assert!(first == 0.0 || (first - 1.0 / 0.7).abs() < 1e-6);
            assert!(image.iter().flatten().all(|&value| value == first));
        }
        let flat = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let again =
            |seed, index| flat(Phase::Training { seed }.drop_path(branch.clone(), 0.3, index).unwrap());
        assert_eq!(again(7, 1), flat(dropped));
        assert!(again(8, 1) != again(7, 1) && again(7, 2) != again(7, 1));
    }
}
