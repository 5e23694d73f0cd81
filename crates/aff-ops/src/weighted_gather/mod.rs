//! Sums of neighbours with given weights.

pub(crate) mod cpu;
pub mod reference;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::host::{self, by_type};
use crate::points::Slots;
use crate::{NeighborLists, shape};

/// `out_i = sum_j weights_ij feat_j` over the neighbours j of query i.
///
/// ```
/// use aff_ops::{NeighborLists, weighted_gather};
/// use candle_core::{Device, Tensor};
///
/// let feat = Tensor::new(&[[[1f32], [10.], [100.]]], &Device::Cpu)?;
/// let weights = Tensor::new(&[[[0.5f32, 2.]]], &Device::Cpu)?;
/// let neighbors = NeighborLists::from_indices(1, 3, 2, vec![1, 2])?;
/// assert_eq!(weighted_gather(&feat, &weights, &neighbors)?.flatten_all()?.to_vec1::<f32>()?, [205.]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `feat [B,N,C]`, `weights [B,Q,M]` -> `[B,Q,C]`
///
/// # Errors
/// If a shape differs from these.
pub fn weighted_gather(feat: &Tensor, weights: &Tensor, neighbors: &NeighborLists) -> Result<Tensor> {
    check_feat("weighted_gather", feat, neighbors)?;
    let expected = [neighbors.batch(), neighbors.queries(), neighbors.per_query()];
    shape::expect("weighted_gather", "weights", weights, &expected)?;
    host::check_types("weighted_gather", &[("feat", feat), ("weights", weights)])?;
    let operator = WeightedGather { neighbors: neighbors.clone() };
    host::prepared(feat)?.apply_op2(&host::prepared(weights)?, operator)?.to_dtype(feat.dtype())
}

struct WeightedGather {
    neighbors: NeighborLists,
}

impl CustomOp2 for WeightedGather {
    fn name(&self) -> &'static str {
        "weighted_gather"
    }

    fn cpu_fwd(
        &self,
        feat: &CpuStorage,
        feat_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, _, channels) = feat_layout.shape().dims3()?;
        by_type!(feat.dtype(), T => {
            let (feat, weights) = (host::slice::<T>(feat, feat_layout)?, host::slice(weights, weights_layout)?);
            let out = cpu::forward(feat, weights, channels, &self.neighbors);
            let shape = Shape::from((batch, self.neighbors.queries(), channels));
            Ok((candle_core::WithDType::to_cpu_storage_owned(out), shape))
        })
    }

    fn bwd(
        &self,
        feat: &Tensor,
        weights: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let channels = feat.dim(2)?;
        by_type!(feat.dtype(), T => {
            let (feat_values, weight_values, grad) =
                (host::values::<T>(feat)?, host::values::<T>(weights)?, host::values::<T>(grad)?);
            let grad_feat = cpu::feat_gradients(&self.neighbors, &weight_values, &grad, channels, 1);
            let grad_weights = cpu::weights_backward(&feat_values, &grad, channels, &self.neighbors);
            let device = feat.device();
            Ok((
                Some(Tensor::from_vec(grad_feat, feat.shape(), device)?),
                Some(Tensor::from_vec(grad_weights, weights.shape(), device)?),
            ))
        })
    }
}

/// Refuses features that are not those of the neighbourhood's keys.
pub(crate) fn check_feat(operator: &str, feat: &Tensor, neighborhood: &impl Slots) -> Result<()> {
    let (batch, keys, _) = shape::dims3(operator, "feat", feat, "[B,N,C]")?;
    let expected = (neighborhood.batch(), neighborhood.keys());
    if (batch, keys) != expected {
        bail!("{operator}: `feat` has {batch} images of {keys} tokens; the neighborhood has {expected:?}")
    }
    Ok(())
}
