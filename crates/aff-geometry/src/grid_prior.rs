//! The adaptive grid prior: which tokens lie on the coarser grid that comes next.

use crate::coordinate::{check_finite, widen};
use crate::k_nearest::nearest_squared_distances;
use crate::{Coordinate, GeometryError};

/// Which rule decides whether a token lies on the coarser grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GridPrior {
    /// x and y are both divisible by 2. For the first stage, whose tokens cover the whole canvas.
    Full,
    /// x and y are both divisible by `t = 2^(ceil(log2 d) + 1)`, where `d` is the Euclidean distance to the nearest other
    /// token. For later stages, whose tokens are spaced unevenly.
    Adaptive,
}

impl GridPrior {
    /// The rule for a stage of this stride: [`Full`](Self::Full) for stride 2, the first stage,
    /// [`Adaptive`](Self::Adaptive) for all others.
    pub const fn for_stride(stride: u32) -> Self {
        if stride == 2 { Self::Full } else { Self::Adaptive }
    }
}

/// Whether each token lies on the coarser grid.
///
/// A lone token has no nearest one; it counts as infinitely far, so only `(0, 0)` is divisible. Expected cost O(tokens) for
/// tokens of even density. Runs on rayon.
///
/// # Errors
/// [`GeometryError::NotFinite`] for NaN and infinities, [`GeometryError::TooManyPoints`].
///
/// ```
/// use aff_geometry::{GridPrior, grid_prior};
///
/// let pos = [[0, 0], [2, 0], [4, 0], [8, 0]];
/// assert_eq!(grid_prior(&pos, GridPrior::Full)?, [true, true, true, true]);
/// assert_eq!(grid_prior(&pos, GridPrior::Adaptive)?, [true, false, true, true]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn grid_prior<T: Coordinate>(pos: &[[T; 2]], prior: GridPrior) -> Result<Vec<bool>, GeometryError> {
    match prior {
        GridPrior::Full => {
            check_finite(pos)?;
            Ok(pos.iter().map(|&point| divisible(widen(point), 2.0)).collect())
        }
        GridPrior::Adaptive => {
            let distances = nearest_squared_distances(pos)?;
            let coarser = |(&point, d2)| divisible(widen(point), 2.0 * local_stride(d2));
            Ok(pos.iter().zip(distances).map(coarser).collect())
        }
    }
}

/// Whether a token is reserved in a stage of this stride, that is kept in any case: x and y are both divisible by
/// `2 * stride`.
///
/// ```
/// use aff_geometry::is_reserved;
///
/// assert!(is_reserved([8, 0], 4));
/// assert!(!is_reserved([8, 4], 4));
/// ```
pub fn is_reserved<T: Coordinate>(point: [T; 2], stride: u32) -> bool {
    divisible(widen(point), 2.0 * f64::from(stride))
}

fn divisible([x, y]: [f64; 2], by: f64) -> bool {
    x % by == 0.0 && y % by == 0.0
}

/// The power of two next to a distance, upwards, given the distance squared.
fn local_stride(d2: f64) -> f64 {
    let mut stride = d2.sqrt().log2().ceil().exp2();
    // The root may have rounded across a power of two.
    if stride * stride < d2 {
        stride *= 2.0;
    } else if stride * stride / 4.0 >= d2 {
        stride /= 2.0;
    }
    stride
}
