//! Neighbours that lie together: runs of keys.

use std::sync::Arc;

use aff_geometry::{Clusters, NearestClusters};
use candle_core::{Result, bail};

use super::Slots;
use super::slots::EMPTY;
use crate::kernel::gpu::Kept;

/// The keys that a query sees as runs: those of its nearest clusters, or all of them.
///
/// Made once for a stage and shared; cloning is cheap.
///
/// ```
/// use aff_geometry::{Canvas, ClusterOptions, cluster, nearest_clusters};
/// use aff_ops::ClusterNeighborhood;
///
/// // Three tokens in a row, in the order of their clusters of two.
/// let pos = [[0, 0], [1, 0], [2, 0]];
/// let clusters = cluster(&pos, Canvas::new(3, 1)?, &ClusterOptions::new(2))?;
/// let nearest = nearest_clusters(&pos, &clusters, 1)?;
/// let neighborhood = ClusterNeighborhood::from_clusters(&[clusters], &[nearest]).unwrap();
/// assert_eq!(neighborhood.slots(), 2);
/// assert_eq!(neighborhood.key(0, 1, 0), Some(0)); // the second token sees the first one
/// assert_eq!(neighborhood.key(0, 2, 1), None); // the last cluster lacks a member
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClusterNeighborhood {
    batch: usize,
    queries: usize,
    keys: usize,
    runs: Runs,
    /// What of it is on devices.
    pub(crate) kept: Kept,
}

#[derive(Debug, Clone)]
enum Runs {
    All,
    /// Keys are sorted by cluster, so that a cluster is a run of them; `nearest` is `[B, Q, R]`.
    Clusters {
        cluster_size: usize,
        per_query: usize,
        nearest: Arc<[u32]>,
    },
}

/// Which runs of keys a query sees.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyRuns<'a> {
    /// All of them.
    All,
    /// Cluster k holds the keys from `k * cluster_size`; `nearest` is `[B, Q, per_query]`.
    Clusters { cluster_size: usize, per_query: usize, nearest: &'a [u32] },
}

impl ClusterNeighborhood {
    /// All `keys` neighbour each of the `queries`.
    ///
    /// # Errors
    /// If there are 2^32 - 1 keys or more.
    pub fn all_keys(batch: usize, queries: usize, keys: usize) -> Result<Self> {
        check_count(keys)?;
        Ok(Self { batch, queries, keys, runs: Runs::All, kept: Kept::default() })
    }

    /// The members of the nearest clusters of each query, where keys are **in the sorted order of the clusters**
    /// ([`Clusters::order`]): cluster k holds the keys from k*m to (k+1)*m.
    ///
    /// `nearest` holds for every image the nearest clusters of each query, in whatever order the queries have.
    ///
    /// # Errors
    /// If there is not one set of nearest clusters for each clustering, there is no image, the images differ in their number
    /// of keys, queries or clusters, or a nearest cluster is none of the clustering.
    pub fn from_clusters(clusters: &[Clusters], nearest: &[NearestClusters]) -> Result<Self> {
        if clusters.len() != nearest.len() {
            bail!(
                "neighborhood: {} clusterings but {} sets of nearest clusters; expected one for each image",
                clusters.len(),
                nearest.len()
            )
        }
        let (Some(first), Some(rows)) = (clusters.first(), nearest.first()) else {
            bail!("neighborhood: no image")
        };
        let (keys, cluster_size, per_query) = (first.num_tokens(), first.cluster_size(), rows.per_token());
        check_count(keys)?;
        if per_query == 0 {
            bail!("neighborhood: no nearest cluster")
        }
        let mut flat = Vec::with_capacity(nearest.len() * rows.as_slice().len());
        for (image, (clusters, nearest)) in clusters.iter().zip(nearest).enumerate() {
            let found = (clusters.num_tokens(), clusters.cluster_size());
            let found_rows = (nearest.per_token(), nearest.num_tokens());
            if found != (keys, cluster_size) || found_rows != (per_query, rows.num_tokens()) {
                bail!("neighborhood: image {image} has other sizes than image 0")
            }
            if let Some(cluster) = nearest.as_slice().iter().find(|&&k| k as usize >= clusters.len()) {
                bail!("neighborhood: image {image} has {} clusters; found number {cluster}", clusters.len())
            }
            flat.extend_from_slice(nearest.as_slice());
        }
        let runs = Runs::Clusters { cluster_size, per_query, nearest: flat.into() };
        Ok(Self { batch: clusters.len(), queries: rows.num_tokens(), keys, runs, kept: Kept::default() })
    }

    /// Number B of images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Number Q of queries of an image.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// Number N of keys of an image.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Number M of neighbour slots of a query; some may be empty (see [`Self::key`]).
    pub fn slots(&self) -> usize {
        match &self.runs {
            Runs::All => self.keys,
            Runs::Clusters { cluster_size, per_query, .. } => cluster_size.saturating_mul(*per_query),
        }
    }

    /// Number of members that the last cluster lacks; 0 where all keys are seen.
    pub fn missing_slots(&self) -> usize {
        match &self.runs {
            Runs::All => 0,
            Runs::Clusters { cluster_size, .. } => match self.keys % cluster_size {
                0 => 0,
                members => cluster_size - members,
            },
        }
    }

    /// The key in a slot of a query of an image; `None` for a slot past the end of the last cluster.
    ///
    /// # Panics
    /// If an argument is out of range.
    pub fn key(&self, image: usize, query: usize, slot: usize) -> Option<u32> {
        assert!(image < self.batch && query < self.queries && slot < self.slots(), "out of the neighborhood");
        match &self.runs {
            Runs::All => Some(slot as u32),
            Runs::Clusters { cluster_size, per_query, nearest } => {
                let row = image * self.queries + query;
                let cluster = nearest[row * per_query + slot / cluster_size] as usize;
                let key = cluster * cluster_size + slot % cluster_size;
                (key < self.keys).then_some(key as u32)
            }
        }
    }

    /// The neighbourhoods of some of the queries, in the order given: `queries` holds equally many indices for every
    /// image, image after image.
    ///
    /// # Errors
    /// If the indices do not divide among the images or one is not below [`Self::queries`].
    pub fn select_queries(&self, queries: &[u32]) -> Result<Self> {
        if self.batch == 0 || !queries.len().is_multiple_of(self.batch) {
            bail!("neighborhood: {} indices do not divide among {} images", queries.len(), self.batch)
        }
        if let Some(query) = queries.iter().find(|&&query| query as usize >= self.queries) {
            bail!("neighborhood: index {query} of {} queries", self.queries)
        }
        let per_image = queries.len() / self.batch;
        let runs = match &self.runs {
            Runs::All => Runs::All,
            Runs::Clusters { cluster_size, per_query, nearest } => {
                let row = |(index, &query): (usize, &u32)| {
                    let start = (index / per_image * self.queries + query as usize) * per_query;
                    nearest[start..start + per_query].iter().copied()
                };
                let nearest = queries.iter().enumerate().flat_map(row).collect();
                Runs::Clusters { cluster_size: *cluster_size, per_query: *per_query, nearest }
            }
        };
        Ok(Self { batch: self.batch, queries: per_image, keys: self.keys, runs, kept: Kept::default() })
    }

    /// The neighbours as runs of keys.
    pub(crate) fn key_runs(&self) -> KeyRuns<'_> {
        match &self.runs {
            Runs::All => KeyRuns::All,
            Runs::Clusters { cluster_size, per_query, nearest } => {
                KeyRuns::Clusters { cluster_size: *cluster_size, per_query: *per_query, nearest }
            }
        }
    }
}

/// Refuses more keys than a slot can number.
pub(super) fn check_count(keys: usize) -> Result<()> {
    if keys < EMPTY as usize {
        return Ok(());
    }
    bail!("neighborhood: {keys} keys; expected fewer than {EMPTY}")
}

impl Slots for ClusterNeighborhood {
    fn batch(&self) -> usize {
        self.batch
    }

    fn queries(&self) -> usize {
        self.queries
    }

    fn keys(&self) -> usize {
        self.keys
    }

    fn slots(&self) -> usize {
        Self::slots(self)
    }

    #[inline]
    fn keys_of(&self, row: usize, keys: &mut Vec<u32>) {
        keys.clear();
        match &self.runs {
            Runs::All => keys.extend(0..self.keys as u32),
            Runs::Clusters { cluster_size, per_query, nearest } => {
                for &cluster in &nearest[row * per_query..(row + 1) * per_query] {
                    let start = cluster as usize * cluster_size;
                    let full = start.saturating_add(*cluster_size).min(self.keys);
                    keys.extend(start as u32..full as u32);
                    keys.extend(std::iter::repeat_n(EMPTY, cluster_size - (full - start)));
                }
            }
        }
    }
}
