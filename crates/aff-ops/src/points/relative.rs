//! The features phi of relative positions, for whole neighbourhoods.

use aff_geometry::relative_features;
use candle_core::{Result, Tensor, bail};

use super::{EMPTY, Positions, Slots};
use crate::kernel::simd::{Real, Simd};
use crate::shape;

/// Which way a relative position points. The published network has it both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// From the query to its neighbour, `p_j - p_i`: attention and merging (sections 4 and 5 of the method).
    ToNeighbor,
    /// From the neighbour to the query, `p_i - p_j`: the pixel decoder's PointConv (section 7).
    ToQuery,
}

/// phi of [`LANES`](crate::kernel::simd::LANES) relative positions at a time: `(dx, dy, d, dy/d, dx/d)`, the ratios zero at distance zero.
#[inline(always)]
pub(crate) fn feature_lanes<T: Real, S: Simd<T>>(simd: S, dx: S::Vector, dy: S::Vector) -> [S::Vector; 5] {
    let distance = simd.sqrt(simd.mul_add(dx, dx, simd.mul(dy, dy)));
    // Finite even at distance zero, where it multiplies zero.
    let inverse = simd.div(simd.splat(T::one()), simd.max(distance, simd.splat(T::min_positive_value())));
    [dx, dy, distance, simd.mul(dy, inverse), simd.mul(dx, inverse)]
}

/// phi of every slot: `[B,Q,M,5]`, of the type and device of `like`. Empty slots have that of key 0, like all their contents.
pub(crate) fn relative_position_features(
    queries: &Positions,
    keys: &Positions,
    neighborhood: &impl Slots,
    offset: Offset,
    like: &Tensor,
) -> Result<Tensor> {
    check(queries, keys, neighborhood)?;
    let (batch, per_image, slots) = (neighborhood.batch(), neighborhood.queries(), neighborhood.slots());
    let mut phi = Vec::new();
    let mut row = Vec::with_capacity(slots);
    for (query, &position) in queries.as_slice().iter().enumerate() {
        let image = keys.image(query / per_image);
        neighborhood.keys_of(query, &mut row);
        for &key in &row {
            let key = image[if key == EMPTY { 0 } else { key as usize }];
            let (from, to) = match offset {
                Offset::ToNeighbor => (position, key),
                Offset::ToQuery => (key, position),
            };
            phi.extend(relative_features(f64::from(to[0] - from[0]), f64::from(to[1] - from[1])));
        }
    }
    let shape = (batch, per_image, slots, 5);
    shape::like(phi, shape, like)
}

pub(crate) fn check(queries: &Positions, keys: &Positions, neighborhood: &impl Slots) -> Result<()> {
    let found = [(queries.batch(), queries.tokens()), (keys.batch(), keys.tokens())];
    let expected =
        [(neighborhood.batch(), neighborhood.queries()), (neighborhood.batch(), neighborhood.keys())];
    if found == expected {
        return Ok(());
    }
    bail!("positions of (images, queries) and (images, keys) {found:?}; the neighborhood has {expected:?}")
}
