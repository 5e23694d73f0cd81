//! The clusters around each token.

use rayon::prelude::*;

use crate::bucket_grid::BucketGrid;
use crate::cluster::in_order;
use crate::coordinate::{check_finite, widen};
use crate::k_nearest::CHUNK;
use crate::{Clusters, Coordinate, GeometryError};

/// How many clusters make a neighbourhood of about `neighborhood_size` tokens: `neighborhood_size / cluster_size`, rounded
/// half to even, at least one and at most `num_clusters`.
///
/// A cluster size of zero counts as one.
///
/// ```
/// use aff_geometry::clusters_per_neighborhood;
///
/// assert_eq!(clusters_per_neighborhood(48, 8, 392), 6);
/// assert_eq!(clusters_per_neighborhood(20, 8, 392), 2);
/// assert_eq!(clusters_per_neighborhood(48, 8, 4), 4);
/// assert_eq!(clusters_per_neighborhood(1, 8, 4), 1);
/// assert_eq!(clusters_per_neighborhood(48, 8, 0), 0);
/// ```
pub fn clusters_per_neighborhood(
    neighborhood_size: usize,
    cluster_size: usize,
    num_clusters: usize,
) -> usize {
    let size = cluster_size.max(1);
    let (whole, rest) = (neighborhood_size / size, neighborhood_size % size);
    let up = match rest.cmp(&(size - rest)) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => whole % 2,
        std::cmp::Ordering::Greater => 1,
    };
    (whole + up).max(1).min(num_clusters)
}

/// The clusters nearest to each token, made by [`nearest_clusters`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestClusters {
    per_token: usize,
    num_tokens: usize,
    indices: Vec<u32>,
}

impl NearestClusters {
    /// Number of clusters a token: what was asked for, or the number of clusters if that is less.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// Number of tokens.
    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// The clusters nearest to token `i`, nearest first.
    ///
    /// # Panics
    /// If there is no token `i`.
    pub fn row(&self, i: usize) -> &[u32] {
        assert!(i < self.num_tokens, "token {i} of {}", self.num_tokens);
        &self.indices[i * self.per_token..(i + 1) * self.per_token]
    }

    /// All rows one after another, `[tokens, per_token]`.
    pub fn as_slice(&self) -> &[u32] {
        &self.indices
    }

    /// All rows one after another, `[tokens, per_token]`.
    pub fn into_vec(self) -> Vec<u32> {
        self.indices
    }
}

/// The `r` clusters whose centres are nearest to each token, or all clusters if there are fewer.
///
/// In order of Euclidean distance, ties to the lower cluster index. Squared distances are computed in `f32`, like the centres:
/// that is what a tensor program sees and what the published checkpoints were trained with. `pos` must be the positions that
/// were clustered. Expected cost O(tokens * r) for centres of even density. Runs on rayon.
///
/// # Errors
/// [`GeometryError::TokenCount`] if `pos` cannot be what was clustered, [`GeometryError::NotFinite`].
///
/// ```
/// use aff_geometry::{Canvas, ClusterOptions, cluster, nearest_clusters};
///
/// let pos = [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0]];
/// let clusters = cluster(&pos, Canvas::new(5, 1)?, &ClusterOptions::new(2))?;
/// assert_eq!(clusters.centers(), [[0.5, 0.0], [2.5, 0.0], [4.0, 0.0]]);
/// let nearest = nearest_clusters(&pos, &clusters, 2)?;
/// assert_eq!(nearest.row(0), [0, 1]);
/// assert_eq!(nearest.row(4), [2, 1]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn nearest_clusters<T: Coordinate>(
    pos: &[[T; 2]],
    clusters: &Clusters,
    r: usize,
) -> Result<NearestClusters, GeometryError> {
    if pos.len() != clusters.num_tokens() {
        return Err(GeometryError::TokenCount { expected: clusters.num_tokens(), found: pos.len() });
    }
    check_finite(pos)?;
    let per_token = r.min(clusters.len());
    let mut indices = vec![0; pos.len() * per_token];
    if per_token > 0 {
        let grid = BucketGrid::new(clusters.centers());
        indices.par_chunks_mut(CHUNK * per_token).zip(pos.par_chunks(CHUNK)).for_each(|(rows, pos)| {
            let mut best = vec![(0.0_f32, 0); per_token];
            for (row, &point) in rows.chunks_exact_mut(per_token).zip(pos) {
                grid.nearest(widen(point).map(|c| c as f32), &mut best);
                for (slot, &(_, cluster)) in row.iter_mut().zip(&best) {
                    *slot = cluster;
                }
            }
        });
    }
    Ok(NearestClusters { per_token, num_tokens: pos.len(), indices })
}

/// [`nearest_clusters`] for each image of a batch, on rayon. The result for an image does not depend on the others.
///
/// # Errors
/// [`GeometryError::BatchLength`] if there is not one clustering an image, [`GeometryError::InImage`] with the first image
/// that is refused.
///
/// ```
/// use aff_geometry::{Canvas, ClusterOptions, cluster_batch, nearest_clusters_batch};
///
/// let images: [&[[i32; 2]]; 2] = [&[[0, 0], [3, 3]], &[[2, 1]]];
/// let clusters = cluster_batch(&images, Canvas::new(4, 4)?, &ClusterOptions::new(1))?;
/// let nearest = nearest_clusters_batch(&images, &clusters, 2)?;
/// assert_eq!(nearest[0].as_slice(), [0, 1, 1, 0]);
/// assert_eq!(nearest[1].as_slice(), [0]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn nearest_clusters_batch<T: Coordinate>(
    images: &[&[[T; 2]]],
    clusters: &[Clusters],
    r: usize,
) -> Result<Vec<NearestClusters>, GeometryError> {
    if images.len() != clusters.len() {
        return Err(GeometryError::BatchLength { expected: images.len(), found: clusters.len() });
    }
    in_order(
        images.par_iter().zip(clusters).map(|(pos, clusters)| nearest_clusters(pos, clusters, r)).collect(),
    )
}
