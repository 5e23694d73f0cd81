//! Shepard's inverse distance interpolation between irregular points (section 7 of the method).

use aff_geometry::{Coordinate, PointIndex};
use candle_core::{Result, Tensor, bail};

use crate::{NeighborLists, shape, weighted_gather};

/// Keeps the weight of a point that is met exactly finite: `u = 1 / (distance^(2 power) + 1e-11)`.
pub(crate) const DISTANCE_FLOOR: f64 = 1e-11;

/// Interpolation of features from points to other positions: each gets the mean of its k nearest points, weighted by
/// `u = 1 / (d^2)^power`, normalised.
///
/// The weights depend on positions alone; they are computed once and used for as many features as there are.
///
/// ```
/// use aff_ops::ShepardInterpolation;
/// use candle_core::{Device, Tensor};
///
/// let points = [[0i32, 0], [4, 0]];
/// let queries = [[0f32, 0.0], [2.0, 0.0], [1.0, 0.0]];
/// let feat = Tensor::new(&[[[10f32], [20.]]], &Device::Cpu)?;
/// let shepard = ShepardInterpolation::new(&[&points], &[&queries], 2, 1.0, &feat)?;
/// assert_eq!(shepard.interpolate(&feat)?.flatten_all()?.to_vec1::<f32>()?, [10., 15., 11.]);
/// # candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct ShepardInterpolation {
    neighbors: NeighborLists,
    /// `[B,Q,k]`, of sum 1.
    weights: Tensor,
}

impl ShepardInterpolation {
    /// Weights for `queries` among `points`, both one slice for each image, from the `k` nearest points (or all, if
    /// there are fewer). `power` applies to the squared distance. The weights have the type and device of `like`.
    ///
    /// # Errors
    /// If the images differ in their numbers of points or queries, an image has no point, or a position is not finite.
    pub fn new<P: Coordinate, Q: Coordinate>(
        points: &[&[[P; 2]]],
        queries: &[&[[Q; 2]]],
        k: usize,
        power: f64,
        like: &Tensor,
    ) -> Result<Self> {
        let keys = points.first().map_or(0, |image| image.len());
        let count = queries.first().map_or(0, |image| image.len());
        let even = points.iter().all(|image| image.len() == keys)
            && queries.iter().all(|image| image.len() == count);
        if !even || points.len() != queries.len() || keys == 0 || count == 0 {
            bail!(
                "shepard interpolation: {} images of points and {} of queries; expected equally many images, \
                 each with the same positive number of points and of queries",
                points.len(),
                queries.len()
            )
        }
        let nearest = points
            .iter()
            .zip(queries)
            .map(|(points, queries)| PointIndex::new(points)?.k_nearest(queries, k))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(candle_core::Error::wrap)?;
        let neighbors = NeighborLists::from_nearest_points(keys, &nearest)?;

        let k = neighbors.per_query();
        let mut weights = Vec::with_capacity(points.len() * count * k);
        for ((points, queries), nearest) in points.iter().zip(queries).zip(&nearest) {
            for (i, query) in queries.iter().enumerate() {
                let row = nearest.row(i).iter().map(|&point| {
                    let squared = squared_distance(points[point as usize], *query);
                    1.0 / (squared.powf(power) + DISTANCE_FLOOR)
                });
                let start = weights.len();
                weights.extend(row);
                let sum: f64 = weights[start..].iter().sum();
                weights[start..].iter_mut().for_each(|weight| *weight /= sum);
            }
        }
        let weights = shape::like(weights, (points.len(), count, k), like)?;
        Ok(Self { neighbors, weights })
    }

    /// Who is interpolated from whom.
    pub fn neighbors(&self) -> &NeighborLists {
        &self.neighbors
    }

    /// Interpolates features of the points to the queries.
    ///
    /// # Shapes
    /// `feat [B,N,C]` -> `[B,Q,C]`
    ///
    /// # Errors
    /// If the shape differs from this.
    pub fn interpolate(&self, feat: &Tensor) -> Result<Tensor> {
        weighted_gather(feat, &self.weights, &self.neighbors)
    }
}

fn squared_distance<P: Coordinate, Q: Coordinate>(a: [P; 2], b: [Q; 2]) -> f64 {
    let [dx, dy] = [a[0].to_f64() - b[0].to_f64(), a[1].to_f64() - b[1].to_f64()];
    dx * dx + dy * dy
}
