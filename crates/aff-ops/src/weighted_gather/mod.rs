//! Sums of neighbours with given weights.

pub mod reference;

use candle_core::{Result, Tensor, bail};

use crate::{Neighborhood, shape};

/// `out_i = sum_j weights_ij feat_j` over the neighbours j of query i. Empty slots count nothing.
///
/// ```
/// use aff_ops::{Neighborhood, weighted_gather};
/// use candle_core::{Device, Tensor};
///
/// let feat = Tensor::new(&[[[1f32], [10.], [100.]]], &Device::Cpu)?;
/// let weights = Tensor::new(&[[[0.5f32, 2.]]], &Device::Cpu)?;
/// let neighborhood = Neighborhood::from_indices(1, 3, 2, vec![1, 2])?;
/// assert_eq!(weighted_gather(&feat, &weights, &neighborhood)?.flatten_all()?.to_vec1::<f32>()?, [205.]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `feat [B,N,C]`, `weights [B,Q,M]` -> `[B,Q,C]`
///
/// # Errors
/// If a shape differs from these.
pub fn weighted_gather(feat: &Tensor, weights: &Tensor, neighborhood: &Neighborhood) -> Result<Tensor> {
    check_feat("weighted_gather", feat, neighborhood)?;
    let expected = [neighborhood.batch(), neighborhood.queries(), neighborhood.slots()];
    shape::expect("weighted_gather", "weights", weights, &expected)?;
    reference::multi_weighted_gather(feat, &weights.unsqueeze(3)?, neighborhood)?.squeeze(2)
}

/// Refuses features that are not those of the neighbourhood's keys.
pub(crate) fn check_feat(operator: &str, feat: &Tensor, neighborhood: &Neighborhood) -> Result<()> {
    let (batch, keys, _) = shape::dims3(operator, "feat", feat, "[B,N,C]")?;
    let expected = (neighborhood.batch(), neighborhood.keys());
    if (batch, keys) != expected {
        bail!("{operator}: `feat` has {batch} images of {keys} tokens; the neighborhood has {expected:?}")
    }
    Ok(())
}
