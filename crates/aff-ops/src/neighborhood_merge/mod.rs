//! Merging of neighbours into kept tokens, a PointConv (sections 5 and 7 of the method).
//!
//! ```text
//! w_ij = s_j * GELU(LayerNorm(Linear(phi(p_j - p_i))))    in R^W
//! out_i = flatten( sum_j w_ij (x) x_j )                   in R^(W*C), weight channels slow, features fast
//! ```
//!
//! The importance scores `s` are learnt through this sum: they are what a token counts for where it is merged.

pub mod reference;

use candle_core::{Result, Tensor, bail};

use crate::weighted_gather::check_feat;
use crate::{Neighborhood, Offset, Positions, shape};

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
/// use aff_ops::neighborhood_merge::{MergeGeometry, NeighborhoodMerge, neighborhood_merge};
/// use aff_ops::{Neighborhood, Offset, Positions};
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
///     neighborhood: &Neighborhood::global(1, 1, 2),
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
    const OPERATOR: &str = "neighborhood_merge";
    let neighborhood = geometry.neighborhood;
    check_feat(OPERATOR, inputs.feat, neighborhood)?;
    if let Some(score) = inputs.score {
        shape::expect(OPERATOR, "score", score, &[neighborhood.batch(), neighborhood.keys()])?;
    }
    let Some(&weights) = inputs.linear_weight.dims().first() else {
        bail!("{OPERATOR}: `linear_weight` is a scalar; expected [W,5]")
    };
    shape::expect(OPERATOR, "linear_weight", inputs.linear_weight, &[weights, 5])?;
    shape::expect(OPERATOR, "linear_bias", inputs.linear_bias, &[weights])?;
    shape::expect(OPERATOR, "norm_weight", inputs.norm_weight, &[weights])?;
    shape::expect(OPERATOR, "norm_bias", inputs.norm_bias, &[weights])?;
    reference::forward(inputs, geometry)
}
