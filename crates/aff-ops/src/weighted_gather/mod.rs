//! Sums of neighbours with given weights.

mod cpu;
pub(crate) mod cuda;
pub mod reference;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::kernel::gpu;
use crate::kernel::gradient::gradient;
use crate::kernel::storage::{self, Borrowed, by_type};
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
    check_feat(OPERATOR, feat, neighbors)?;
    let expected = [neighbors.batch(), neighbors.queries(), neighbors.per_query()];
    shape::expect(OPERATOR, "weights", weights, &expected)?;
    storage::check_types(OPERATOR, &[("feat", feat), ("weights", weights)])?;
    shape::count(OPERATOR, &[neighbors.batch(), neighbors.queries(), feat.dim(2)?])?;
    let (wide, weights) = (storage::prepared(feat)?, storage::prepared(weights)?);
    let out = if storage::has_kernel(feat, || true) {
        wide.apply_op2(&weights, Operator { neighbors: neighbors.clone() })?
    } else {
        reference::weighted_gather(&wide, &weights, neighbors)?
    };
    out.to_dtype(feat.dtype())
}

const OPERATOR: &str = "weighted_gather";

/// Sums of contiguous tensors of one type.
struct Operator {
    neighbors: NeighborLists,
}

impl CustomOp2 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(
        &self,
        feat: &CpuStorage,
        feat_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        #[cfg(all(test, unix))]
        if let Some(emulated) =
            gpu::emulated::forward(self, [(feat, feat_layout), (weights, weights_layout)])?
        {
            return Ok(emulated);
        }
        let (batch, _, channels) = feat_layout.shape().dims3()?;
        by_type!(feat.dtype(), T => {
            let feat = storage::slice::<T>(feat, feat_layout)?;
            let weights = storage::slice(weights, weights_layout)?;
            let out = cpu::forward(feat, weights, channels, &self.neighbors);
            storage::output(out, (batch, self.neighbors.queries(), channels))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        feat: &CudaStorage,
        feat_layout: &Layout,
        weights: &CudaStorage,
        weights_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::cuda::forward(self, [(feat, feat_layout), (weights, weights_layout)])
    }

    fn bwd(
        &self,
        feat: &Tensor,
        weights: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let channels = feat.dim(2)?;
        let grad = grad.contiguous()?;
        if let Some([feat, weights]) = gpu::backward(self, [feat, weights], out, &grad)? {
            return Ok((Some(feat), Some(weights)));
        }
        let all = [feat, weights];
        by_type!(feat.dtype(), T => {
            let borrowed = [feat, weights, &grad].map(Borrowed::new);
            let [values, weight_values, grad] = &borrowed;
            let [grad_feat, grad_weights] = cpu::backward(
                values.slice::<T>()?, weight_values.slice()?, grad.slice()?, channels, &self.neighbors,
            );
            drop(borrowed);
            let of = |values, input| gradient(OPERATOR, values, input, &all).map(Some);
            Ok((of(grad_feat, feat)?, of(grad_weights, weights)?))
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
