//! Soft assignment of fine tokens to coarse ones (section 11 of the method).
//!
//! ```text
//! A_ij = softmax_j( e_i . c_j / (|tau| + 1e-8) + w . phi(q_j - p_i) )
//! ```
//!
//! over the coarse neighbours j of the fine token i, where `e` and `c` are the tokens' embeddings, scaled to length one.

pub mod reference;

use candle_core::{Result, Tensor, bail};

use crate::{NeighborLists, Positions, shape};

/// What the assignment computes from; see [`soft_assignment`](fn@soft_assignment).
#[derive(Debug, Clone, Copy)]
pub struct SoftAssignment<'a> {
    /// Embeddings of the fine tokens, `[B,N,C]`; they need not have length one.
    pub fine: &'a Tensor,
    /// Embeddings of the coarse tokens, `[B,N',C]`; likewise.
    pub coarse: &'a Tensor,
    /// `tau`, `[1]`.
    pub temperature: &'a Tensor,
    /// `w`, `[5]`.
    pub position_weight: &'a Tensor,
}

/// Where fine and coarse tokens are, and which coarse tokens are near a fine one.
#[derive(Debug, Clone, Copy)]
pub struct AssignmentGeometry<'a> {
    /// Positions of the N fine tokens: the queries of the neighbourhood.
    pub fine: &'a Positions,
    /// Positions of the N' coarse tokens: its keys.
    pub coarse: &'a Positions,
    /// Coarse neighbours of the fine tokens.
    pub neighbors: &'a NeighborLists,
}

/// How much every fine token belongs to each of its coarse neighbours; see the [module](self) for the equation.
///
/// ```
/// use aff_geometry::Canvas;
/// use aff_ops::{AssignmentGeometry, NeighborLists, Positions, SoftAssignment, soft_assignment};
/// use candle_core::{DType, Device, Tensor};
///
/// let cpu = &Device::Cpu;
/// let coarse = Positions::full_grid(1, Canvas::new(2, 1).unwrap());
/// let fine = coarse.select(&[0])?;
/// let inputs = SoftAssignment {
///     fine: &Tensor::new(&[[[1f32, 0.]]], cpu)?,
///     coarse: &Tensor::new(&[[[0f32, 3.], [0., 5.]]], cpu)?, // both at a right angle to the fine token's
///     temperature: &Tensor::new(&[0.1f32], cpu)?,
///     position_weight: &Tensor::zeros(5, DType::F32, cpu)?,
/// };
/// let neighbors = &NeighborLists::from_indices(1, 2, 2, vec![0, 1])?;
/// let weights = soft_assignment(&inputs, &AssignmentGeometry { fine: &fine, coarse: &coarse, neighbors })?;
/// assert_eq!(weights.flatten_all()?.to_vec1::<f32>()?, [0.5, 0.5]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// See [`SoftAssignment`]; the result is `[B,N,k]`, rows of sum 1.
///
/// # Errors
/// If a shape differs from these, or positions and neighbours do not fit.
pub fn soft_assignment(inputs: &SoftAssignment<'_>, geometry: &AssignmentGeometry<'_>) -> Result<Tensor> {
    const OPERATOR: &str = "soft_assignment";
    let neighbors = geometry.neighbors;
    let (batch, fine, channels) = shape::dims3(OPERATOR, "fine", inputs.fine, "[B,N,C]")?;
    shape::expect(OPERATOR, "coarse", inputs.coarse, &[batch, neighbors.keys(), channels])?;
    shape::expect(OPERATOR, "temperature", inputs.temperature, &[1])?;
    shape::expect(OPERATOR, "position_weight", inputs.position_weight, &[5])?;
    if (batch, fine) != (neighbors.batch(), neighbors.queries()) {
        bail!(
            "{OPERATOR}: `fine` has {batch} images of {fine} tokens; the neighbor lists have {} of {}",
            neighbors.batch(),
            neighbors.queries()
        )
    }
    reference::forward(inputs, geometry)
}
