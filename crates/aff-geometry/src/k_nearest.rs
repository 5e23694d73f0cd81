//! The k nearest points, and the distance to the nearest other point.

use rayon::prelude::*;

use crate::bucket_grid::BucketGrid;
use crate::coordinate::{check_count, check_finite, widen};
use crate::{Coordinate, GeometryError};

/// Queries a thread takes at a time.
pub(crate) const CHUNK: usize = 1024;

/// Points made ready for many nearest-neighbour queries.
///
/// Exact: neighbours come in order of Euclidean distance, ties to the lower index.
///
/// ```
/// use aff_geometry::PointIndex;
///
/// let index = PointIndex::new(&[[0, 0], [4, 0], [0, 3]])?;
/// let neighbors = index.k_nearest(&[[3.5, 0.5], [-9.0, -9.0]], 2)?;
/// assert_eq!(neighbors.row(0), [1, 0]);
/// assert_eq!(neighbors.row(1), [0, 2]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PointIndex {
    grid: BucketGrid<f64>,
    num_points: usize,
}

impl PointIndex {
    /// Sorts points into buckets, O(points).
    ///
    /// # Errors
    /// [`GeometryError::NotFinite`] for NaN and infinities, [`GeometryError::TooManyPoints`].
    pub fn new<T: Coordinate>(points: &[[T; 2]]) -> Result<Self, GeometryError> {
        check_count(points.len())?;
        check_finite(points)?;
        let points: Vec<_> = points.iter().copied().map(widen).collect();
        Ok(Self { grid: BucketGrid::new(&points), num_points: points.len() })
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.num_points
    }

    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.num_points == 0
    }

    /// The `k` points nearest to each query, or all points if there are fewer. Queries may lie anywhere.
    ///
    /// Expected cost O(queries * k) for points of even density. Runs on rayon.
    ///
    /// # Errors
    /// [`GeometryError::NotFinite`] for a query that is NaN or infinite.
    pub fn k_nearest<Q: Coordinate>(&self, queries: &[[Q; 2]], k: usize) -> Result<Neighbors, GeometryError> {
        check_finite(queries)?;
        let k = k.min(self.num_points);
        let mut indices = vec![0; queries.len() * k];
        if k > 0 {
            indices.par_chunks_mut(CHUNK * k).zip(queries.par_chunks(CHUNK)).for_each(|(rows, queries)| {
                let mut best = vec![(0.0, 0); k];
                for (row, &query) in rows.chunks_exact_mut(k).zip(queries) {
                    self.grid.nearest(widen(query), &mut best);
                    for (slot, &(_, point)) in row.iter_mut().zip(&best) {
                        *slot = point;
                    }
                }
            });
        }
        Ok(Neighbors { k, num_queries: queries.len(), indices })
    }
}

/// The points nearest to each query, made by [`k_nearest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbors {
    k: usize,
    num_queries: usize,
    indices: Vec<u32>,
}

impl Neighbors {
    /// Number of neighbours a query: what was asked for, or the number of points if that is less.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of queries.
    pub fn num_queries(&self) -> usize {
        self.num_queries
    }

    /// Indices of the points nearest to query `i`, nearest first.
    ///
    /// # Panics
    /// If there is no query `i`.
    pub fn row(&self, i: usize) -> &[u32] {
        assert!(i < self.num_queries, "query {i} of {}", self.num_queries);
        &self.indices[i * self.k..(i + 1) * self.k]
    }

    /// All rows one after another, `[queries, k]`.
    pub fn as_slice(&self) -> &[u32] {
        &self.indices
    }

    /// All rows one after another, `[queries, k]`.
    pub fn into_vec(self) -> Vec<u32> {
        self.indices
    }
}

/// The `k` points nearest to each query; [`PointIndex`] serves the same points more than once.
///
/// Exact: in order of Euclidean distance, ties to the lower index. Queries may lie anywhere and be of another number type.
/// Expected cost O(points + queries * k) for points of even density.
///
/// # Errors
/// [`GeometryError::NotFinite`] for NaN and infinities, [`GeometryError::TooManyPoints`].
///
/// ```
/// use aff_geometry::k_nearest;
///
/// let points = [[0, 0], [2, 0], [0, 2], [2, 2]];
/// let neighbors = k_nearest(&points, &[[1.0_f32, 1.0], [1.9, 1.0]], 3)?;
/// assert_eq!(neighbors.k(), 3);
/// assert_eq!(neighbors.row(0), [0, 1, 2]);
/// assert_eq!(neighbors.row(1), [1, 3, 0]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn k_nearest<T: Coordinate, Q: Coordinate>(
    points: &[[T; 2]],
    queries: &[[Q; 2]],
    k: usize,
) -> Result<Neighbors, GeometryError> {
    PointIndex::new(points)?.k_nearest(queries, k)
}

/// Euclidean distance from each point to the nearest other point; infinite for a lone point.
///
/// Expected cost O(points) for points of even density. Runs on rayon.
///
/// # Errors
/// [`GeometryError::NotFinite`] for NaN and infinities, [`GeometryError::TooManyPoints`].
///
/// ```
/// use aff_geometry::nearest_distances;
///
/// assert_eq!(nearest_distances(&[[0, 0], [3, 4], [3, 6]])?, [5.0, 2.0, 2.0]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn nearest_distances<T: Coordinate>(points: &[[T; 2]]) -> Result<Vec<f64>, GeometryError> {
    let mut distances = nearest_squared_distances(points)?;
    distances.iter_mut().for_each(|distance| *distance = distance.sqrt());
    Ok(distances)
}

/// Squared distance from each point to the nearest other point; infinite for a lone point.
pub(crate) fn nearest_squared_distances<T: Coordinate>(points: &[[T; 2]]) -> Result<Vec<f64>, GeometryError> {
    check_count(points.len())?;
    check_finite(points)?;
    let mut distances = vec![f64::INFINITY; points.len()];
    if points.len() < 2 {
        return Ok(distances);
    }
    let points: Vec<[f64; 2]> = points.iter().copied().map(widen).collect();
    let grid = BucketGrid::new(&points);
    distances.par_chunks_mut(CHUNK).zip(points.par_chunks(CHUNK)).for_each(|(distances, points)| {
        for (distance, &point) in distances.iter_mut().zip(points) {
            // The nearest one is the point itself, or another one at the same position.
            let mut best = [(0.0, 0); 2];
            grid.nearest(point, &mut best);
            *distance = best[1].0;
        }
    });
    Ok(distances)
}
