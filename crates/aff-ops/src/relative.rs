//! The features phi of relative positions, for whole neighbourhoods.

use aff_geometry::relative_features;
use candle_core::{DType, Device, Result, Tensor, bail};

use crate::simd::{Real, Simd};
use crate::{Neighborhood, Positions};

/// Which way a relative position points. The published network has it both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// From the query to its neighbour, `p_j - p_i`: attention and merging (sections 4 and 5 of the method).
    ToNeighbor,
    /// From the neighbour to the query, `p_i - p_j`: the pixel decoder's PointConv (section 7).
    ToQuery,
}

/// phi of [`LANES`](crate::simd::LANES) relative positions at a time: `(dx, dy, d, dy/d, dx/d)`, the ratios zero at distance zero.
#[inline(always)]
pub(crate) fn feature_lanes<T: Real, S: Simd<T>>(simd: S, dx: S::Vector, dy: S::Vector) -> [S::Vector; 5] {
    let distance = simd.sqrt(simd.mul_add(dx, dx, simd.mul(dy, dy)));
    // Finite even at distance zero, where it multiplies zero.
    let inverse = simd.div(simd.splat(T::one()), simd.max(distance, simd.splat(T::min_positive_value())));
    [dx, dy, distance, simd.mul(dy, inverse), simd.mul(dx, inverse)]
}

/// phi of every slot: `[B,Q,M,5]`. Empty slots have that of key 0, like all their contents.
pub(crate) fn relative_position_features(
    queries: &Positions,
    keys: &Positions,
    neighborhood: &Neighborhood,
    offset: Offset,
    (dtype, device): (DType, &Device),
) -> Result<Tensor> {
    check(queries, keys, neighborhood)?;
    let slots = neighborhood.slots();
    let mut phi = Vec::with_capacity(neighborhood.batch() * neighborhood.queries() * slots * 5);
    for (place, (image, key)) in neighborhood.each_slot().enumerate() {
        let query = queries.image(image)[place / slots % neighborhood.queries()];
        let key = keys.image(image)[key.unwrap_or(0) as usize];
        let (from, to) = match offset {
            Offset::ToNeighbor => (query, key),
            Offset::ToQuery => (key, query),
        };
        phi.extend(relative_features((to[0] - from[0]) as f32, (to[1] - from[1]) as f32));
    }
    let shape = (neighborhood.batch(), neighborhood.queries(), slots, 5);
    Tensor::from_vec(phi, shape, device)?.to_dtype(dtype)
}

pub(crate) fn check(queries: &Positions, keys: &Positions, neighborhood: &Neighborhood) -> Result<()> {
    let found = [(queries.batch(), queries.tokens()), (keys.batch(), keys.tokens())];
    let expected =
        [(neighborhood.batch(), neighborhood.queries()), (neighborhood.batch(), neighborhood.keys())];
    if found == expected {
        return Ok(());
    }
    bail!("positions of (images, queries) and (images, keys) {found:?}; the neighborhood has {expected:?}")
}
