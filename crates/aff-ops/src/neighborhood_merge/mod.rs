//! Merging of neighbours into kept tokens, a PointConv (sections 5 and 7 of the method).
//!
//! ```text
//! w_ij = s_j * GELU(LayerNorm(Linear(phi(p_j - p_i))))    in R^W
//! out_i = flatten( sum_j w_ij (x) x_j )                   in R^(W*C), weight channels slow, features fast
//! ```
//!
//! The importance scores `s` are learnt through this sum: they are what a token counts for where it is merged.

mod cpu;
mod cuda;
pub mod reference;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::kernel::gpu;
use crate::kernel::gradient::gradient;
use crate::kernel::simd::Real;
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::points::{self, Slots};
use crate::weighted_gather::check_feat;
use crate::{Neighborhood, Offset, Positions, shape};
use cpu::{Shared, WeightNet};

/// What merging computes from; see [`neighborhood_merge`](fn@neighborhood_merge).
#[derive(Debug, Clone, Copy)]
pub struct NeighborhoodMerge<'a> {
    /// Features of the keys, `[B,N,C]`.
    pub feat: &'a Tensor,
    /// Importance scores of the keys, `[B,N]`; all 1 without them.
    pub score: Option<&'a Tensor>,
    /// Weight of the linear layer over phi, `[W,5]`.
    pub linear_weight: &'a Tensor,
    /// Its bias, `[W]`.
    pub linear_bias: &'a Tensor,
    /// Weight of the layer norm after it, `[W]`.
    pub norm_weight: &'a Tensor,
    /// Its bias, `[W]`.
    pub norm_bias: &'a Tensor,
}

/// Where the queries and the keys of a merge are, and who neighbours whom.
#[derive(Debug, Clone, Copy)]
pub struct MergeGeometry<'a> {
    /// Positions of the Q kept tokens.
    pub queries: &'a Positions,
    /// Positions of the N tokens that are merged.
    pub keys: &'a Positions,
    /// Which of them a kept token merges.
    pub neighborhood: &'a Neighborhood,
    /// Which way relative positions point.
    pub offset: Offset,
}

/// Sums the neighbours of every query with weights learnt from their relative positions and scores; see the
/// [module](self) for the equation.
///
/// ```
/// use aff_geometry::Canvas;
/// use aff_ops::{ClusterNeighborhood, MergeGeometry, NeighborhoodMerge, Offset, Positions, neighborhood_merge};
/// use candle_core::{DType, Device, Tensor};
///
/// let cpu = &Device::Cpu;
/// let keys = Positions::full_grid(1, Canvas::new(2, 1).unwrap());
/// let queries = keys.select(&[0])?;
/// // Weights that do not look at the position: 20 after the norm's bias, which GELU leaves.
/// let inputs = NeighborhoodMerge {
///     feat: &Tensor::new(&[[[1f32], [3.]]], cpu)?,
///     score: Some(&Tensor::new(&[[1f32, 0.5]], cpu)?),
///     linear_weight: &Tensor::zeros((2, 5), DType::F32, cpu)?,
///     linear_bias: &Tensor::zeros(2, DType::F32, cpu)?,
///     norm_weight: &Tensor::zeros(2, DType::F32, cpu)?,
///     norm_bias: &Tensor::new(&[20f32, 0.], cpu)?,
/// };
/// let geometry = MergeGeometry {
///     queries: &queries,
///     keys: &keys,
///     neighborhood: &ClusterNeighborhood::all_keys(1, 1, 2)?.into(),
///     offset: Offset::ToNeighbor,
/// };
/// let out = neighborhood_merge(&inputs, &geometry)?;
/// assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, [50., 0.]); // 20 * (1 * 1 + 0.5 * 3), and nothing
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// See [`NeighborhoodMerge`]; the result is `[B,Q,W*C]`.
///
/// # Errors
/// If a shape differs from these, or positions and neighbourhood do not fit.
pub fn neighborhood_merge(inputs: &NeighborhoodMerge<'_>, geometry: &MergeGeometry<'_>) -> Result<Tensor> {
    let sizes = inputs.sizes(geometry)?;
    if !storage::has_kernel(inputs.feat, || cuda::covers(sizes, geometry)) {
        return reference::prepared(inputs, geometry);
    }
    let ones;
    let score = match inputs.score {
        Some(score) => score,
        None => {
            ones = Tensor::ones((sizes.batch, sizes.keys), inputs.feat.dtype(), inputs.feat.device())?;
            &ones
        }
    };
    let net = [inputs.linear_weight, inputs.linear_bias, inputs.norm_weight, inputs.norm_bias];
    let net: Vec<Tensor> = net.iter().map(|tensor| tensor.flatten_all()).collect::<Result<_>>()?;
    let net = storage::prepared(&Tensor::cat(&net, 0)?)?;
    let operator = Operator {
        sizes,
        queries: geometry.queries.clone(),
        keys: geometry.keys.clone(),
        neighborhood: geometry.neighborhood.clone(),
        offset: geometry.offset,
    };
    let (feat, score) = (storage::prepared(inputs.feat)?, storage::prepared(score)?);
    feat.apply_op3(&score, &net, operator)?.to_dtype(inputs.feat.dtype())
}

const OPERATOR: &str = "neighborhood_merge";
/// `eps` of the layer norm within the weight network, as of every layer norm of the method.
const EPS: f64 = 1e-5;

/// Sizes of a merge, once its inputs are checked.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    queries: usize,
    keys: usize,
    channels: usize,
    weights: usize,
}

impl NeighborhoodMerge<'_> {
    fn sizes(&self, geometry: &MergeGeometry<'_>) -> Result<Sizes> {
        let neighborhood = geometry.neighborhood;
        check_feat(OPERATOR, self.feat, neighborhood)?;
        points::check(geometry.queries, geometry.keys, neighborhood)?;
        let (batch, keys, channels) = self.feat.dims3()?;
        if let Some(score) = self.score {
            shape::expect(OPERATOR, "score", score, &[batch, keys])?;
        }
        let Some(&weights) = self.linear_weight.dims().first() else {
            bail!("{OPERATOR}: `linear_weight` is a scalar; expected [W,5]")
        };
        shape::expect(OPERATOR, "linear_weight", self.linear_weight, &[weights, 5])?;
        shape::expect(OPERATOR, "linear_bias", self.linear_bias, &[weights])?;
        shape::expect(OPERATOR, "norm_weight", self.norm_weight, &[weights])?;
        shape::expect(OPERATOR, "norm_bias", self.norm_bias, &[weights])?;
        let named = [
            ("feat", self.feat),
            ("linear_weight", self.linear_weight),
            ("linear_bias", self.linear_bias),
            ("norm_weight", self.norm_weight),
            ("norm_bias", self.norm_bias),
            ("score", self.score.unwrap_or(self.feat)),
        ];
        storage::check_types(OPERATOR, &named)?;
        shape::count(OPERATOR, &[batch, neighborhood.queries(), weights, channels])?;
        shape::count(OPERATOR, &[batch, neighborhood.queries(), neighborhood.slots(), weights])?;
        Ok(Sizes { batch, queries: neighborhood.queries(), keys, channels, weights })
    }
}

/// A merge of contiguous tensors of one type; the parameters of the weight network are one tensor, see [`WeightNet::split`].
struct Operator {
    sizes: Sizes,
    queries: Positions,
    keys: Positions,
    neighborhood: Neighborhood,
    offset: Offset,
}

impl Operator {
    fn shared<'a, T: Real>(&'a self, feat: &'a [T], score: &'a [T], net: &'a [T]) -> Shared<'a, T> {
        Shared {
            feat,
            score,
            net: WeightNet::split(net),
            sizes: self.sizes,
            queries: &self.queries,
            keys: &self.keys,
            neighborhood: &self.neighborhood,
            offset: self.offset,
        }
    }
}

impl CustomOp3 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(
        &self,
        feat: &CpuStorage,
        feat_layout: &Layout,
        score: &CpuStorage,
        score_layout: &Layout,
        net: &CpuStorage,
        net_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        #[cfg(all(test, unix))]
        if let Some(emulated) =
            gpu::emulated::forward(self, [(feat, feat_layout), (score, score_layout), (net, net_layout)])?
        {
            return Ok(emulated);
        }
        let Sizes { batch, queries, channels, weights, .. } = self.sizes;
        by_type!(feat.dtype(), T => {
            let feat = storage::slice::<T>(feat, feat_layout)?;
            let (score, net) = (storage::slice(score, score_layout)?, storage::slice(net, net_layout)?);
            let out = cpu::forward(self.shared(feat, score, net));
            storage::output(out, (batch, queries, weights * channels))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        feat: &CudaStorage,
        feat_layout: &Layout,
        score: &CudaStorage,
        score_layout: &Layout,
        net: &CudaStorage,
        net_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::cuda::forward(self, [(feat, feat_layout), (score, score_layout), (net, net_layout)])
    }

    fn bwd(
        &self,
        feat: &Tensor,
        score: &Tensor,
        net: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        if let Some([feat, score, net]) = gpu::backward(self, [feat, score, net], out, &grad)? {
            return Ok((Some(feat), Some(score), Some(net)));
        }
        let all = [feat, score, net];
        by_type!(feat.dtype(), T => {
            let borrowed = [feat, score, net, &grad].map(Borrowed::new);
            let [feat_values, score_values, net_values, grad] = &borrowed;
            let shared = self.shared(feat_values.slice::<T>()?, score_values.slice()?, net_values.slice()?);
            let gradients = cpu::backward(shared, grad.slice()?);
            drop(borrowed);
            let of = |values, input| gradient(OPERATOR, values, input, &all).map(Some);
            Ok((of(gradients.feat, feat)?, of(gradients.score, score)?, of(gradients.net, net)?))
        })
    }
}
