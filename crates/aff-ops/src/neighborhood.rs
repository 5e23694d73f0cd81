//! Who sees whom.

use std::sync::Arc;

use aff_geometry::{Clusters, NearestClusters, Neighbors};
use candle_core::{Device, Result, Tensor, bail};

use crate::weighted_gather::cpu::EMPTY;

/// For every query of every image, its M neighbours among N keys.
///
/// A neighbourhood is built once and shared; cloning is cheap.
///
/// ```
/// use aff_ops::Neighborhood;
///
/// // Two queries; the first sees keys 0 and 2, the second keys 1 and 2.
/// let neighborhood = Neighborhood::from_indices(1, 3, 2, vec![0, 2, 1, 2]).unwrap();
/// assert_eq!((neighborhood.queries(), neighborhood.slots()), (2, 2));
/// assert_eq!(neighborhood.key(0, 1, 0), Some(1));
/// ```
#[derive(Debug, Clone)]
pub struct Neighborhood {
    batch: usize,
    queries: usize,
    keys: usize,
    slots: Slots,
}

#[derive(Debug, Clone)]
enum Slots {
    /// Every key is a neighbour.
    Global,
    /// Keys are sorted by cluster, so that a cluster is a run of them; `nearest` is `[B, Q, R]`.
    Clusters { cluster_size: usize, per_query: usize, nearest: Arc<[u32]> },
    /// `keys` is `[B, Q, M]`.
    Indices { per_query: usize, keys: Arc<[u32]> },
}

/// Which runs of keys a query sees.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyRuns<'a> {
    /// All of them.
    All,
    /// Cluster k holds the keys from `k * cluster_size`; `nearest` is `[B, Q, per_query]`.
    Clusters { cluster_size: usize, per_query: usize, nearest: &'a [u32] },
}

impl Neighborhood {
    /// All `keys` neighbour each of the `queries`.
    pub fn global(batch: usize, queries: usize, keys: usize) -> Self {
        Self { batch, queries, keys, slots: Slots::Global }
    }

    /// The members of the nearest clusters of each query, where keys are **in the sorted order of the clusters**
    /// ([`Clusters::order`]): cluster k holds the keys from k*m to (k+1)*m.
    ///
    /// `nearest` holds for every image the nearest clusters of each query, in whatever order the queries have.
    ///
    /// # Errors
    /// If the images differ in their number of keys, queries or clusters, or there are none.
    pub fn from_clusters(clusters: &[Clusters], nearest: &[NearestClusters]) -> Result<Self> {
        let (Some(first), Some(rows)) = (clusters.first(), nearest.first()) else {
            bail!("neighborhood: no image")
        };
        let (keys, cluster_size, per_query) = (first.num_tokens(), first.cluster_size(), rows.per_token());
        if per_query == 0 {
            bail!("neighborhood: no nearest cluster")
        }
        let mut flat = Vec::with_capacity(nearest.len() * rows.as_slice().len());
        for (image, nearest) in nearest.iter().enumerate() {
            let same = clusters
                .get(image)
                .is_some_and(|c| c.num_tokens() == keys && c.cluster_size() == cluster_size)
                && nearest.per_token() == per_query
                && nearest.as_slice().len() == rows.as_slice().len();
            if !same {
                bail!("neighborhood: image {image} has other sizes than image 0")
            }
            flat.extend_from_slice(nearest.as_slice());
        }
        let queries = rows.as_slice().len() / per_query;
        let slots = Slots::Clusters { cluster_size, per_query, nearest: flat.into() };
        Ok(Self { batch: clusters.len(), queries, keys, slots })
    }

    /// The nearest points of each query, as [`aff_geometry::k_nearest`] finds them among `keys` points.
    ///
    /// # Errors
    /// If the images differ in their number of queries or neighbours, there are none, or an index is not below `keys`.
    pub fn from_nearest_points(keys: usize, nearest: &[Neighbors]) -> Result<Self> {
        let Some(k) = nearest.first().map(Neighbors::k) else { bail!("neighborhood: no image") };
        let flat: Vec<u32> = nearest.iter().flat_map(|image| image.as_slice().iter().copied()).collect();
        Self::from_indices(nearest.len(), keys, k, flat)
    }

    /// Neighbours listed one by one, `indices` being `[B, Q, M]` with M = `per_query`.
    ///
    /// # Errors
    /// If `indices` do not fill whole rows of every image, or one is not below `keys`.
    pub fn from_indices(batch: usize, keys: usize, per_query: usize, indices: Vec<u32>) -> Result<Self> {
        if batch == 0 || per_query == 0 || !indices.len().is_multiple_of(batch * per_query) {
            bail!("neighborhood: {} indices do not make {batch} images of rows of {per_query}", indices.len())
        }
        if let Some(place) = indices.iter().position(|&index| index as usize >= keys) {
            bail!("neighborhood: index {} at place {place} of {keys} keys", indices[place])
        }
        let queries = indices.len() / (batch * per_query);
        Ok(Self { batch, queries, keys, slots: Slots::Indices { per_query, keys: indices.into() } })
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
        match &self.slots {
            Slots::Global => self.keys,
            Slots::Clusters { cluster_size, per_query, .. } => cluster_size * per_query,
            Slots::Indices { per_query, .. } => *per_query,
        }
    }

    /// Whether some slot is empty: the last cluster may have fewer members than the others.
    pub fn has_empty_slots(&self) -> bool {
        matches!(&self.slots, Slots::Clusters { cluster_size, .. } if !self.keys.is_multiple_of(*cluster_size))
    }

    /// The key in a slot of a query of an image; `None` for a slot past the end of the last cluster.
    ///
    /// # Panics
    /// If an argument is out of range.
    pub fn key(&self, image: usize, query: usize, slot: usize) -> Option<u32> {
        let row = image * self.queries + query;
        match &self.slots {
            Slots::Global => Some(slot as u32),
            Slots::Clusters { cluster_size, per_query, nearest } => {
                let cluster = nearest[row * per_query + slot / cluster_size] as usize;
                let key = cluster * cluster_size + slot % cluster_size;
                (key < self.keys).then_some(key as u32)
            }
            Slots::Indices { per_query, keys } => Some(keys[row * per_query + slot]),
        }
    }

    /// The neighbourhoods of some of the queries, in the order given: `queries` holds equally many indices for every
    /// image, image after image.
    ///
    /// # Errors
    /// If the indices do not divide among the images or one is not below [`Self::queries`].
    pub fn select_queries(&self, queries: &[u32]) -> Result<Self> {
        if !queries.len().is_multiple_of(self.batch) {
            bail!("neighborhood: {} indices do not divide among {} images", queries.len(), self.batch)
        }
        if let Some(query) = queries.iter().find(|&&query| query as usize >= self.queries) {
            bail!("neighborhood: index {query} of {} queries", self.queries)
        }
        let per_image = queries.len() / self.batch;
        let pick = |rows: &[u32], width: usize| -> Arc<[u32]> {
            let row = |(place, &query): (usize, &u32)| {
                let start = (place / per_image * self.queries + query as usize) * width;
                rows[start..start + width].iter().copied()
            };
            queries.iter().enumerate().flat_map(row).collect()
        };
        let slots = match &self.slots {
            Slots::Global => Slots::Global,
            Slots::Clusters { cluster_size, per_query, nearest } => Slots::Clusters {
                cluster_size: *cluster_size,
                per_query: *per_query,
                nearest: pick(nearest, *per_query),
            },
            Slots::Indices { per_query, keys } => {
                Slots::Indices { per_query: *per_query, keys: pick(keys, *per_query) }
            }
        };
        Ok(Self { queries: per_image, slots, ..*self })
    }

    /// The neighbours as runs of keys; `None` where they are listed one by one.
    pub(crate) fn key_runs(&self) -> Option<KeyRuns<'_>> {
        match &self.slots {
            Slots::Global => Some(KeyRuns::All),
            Slots::Clusters { cluster_size, per_query, nearest } => {
                Some(KeyRuns::Clusters { cluster_size: *cluster_size, per_query: *per_query, nearest })
            }
            Slots::Indices { .. } => None,
        }
    }

    /// Fills `keys` with the keys of all slots of a query, [`EMPTY`] for empty ones; `row` counts queries over all images.
    #[inline]
    pub(crate) fn keys_of(&self, row: usize, keys: &mut Vec<u32>) {
        keys.clear();
        match &self.slots {
            Slots::Global => keys.extend(0..self.keys as u32),
            Slots::Indices { per_query, keys: all } => {
                keys.extend_from_slice(&all[row * per_query..(row + 1) * per_query]);
            }
            Slots::Clusters { cluster_size, per_query, nearest } => {
                for &cluster in &nearest[row * per_query..(row + 1) * per_query] {
                    let start = cluster as usize * cluster_size;
                    let full = (start + cluster_size).min(self.keys);
                    keys.extend(start as u32..full as u32);
                    keys.extend(std::iter::repeat_n(EMPTY, start + cluster_size - full));
                }
            }
        }
    }

    /// Every slot's row in the keys of all images laid end to end: u32 `[B*Q*M]`, empty slots pointing at key 0 of
    /// their image.
    pub(crate) fn flat_rows(&self, device: &Device) -> Result<Tensor> {
        let rows: Vec<u32> =
            self.each_slot().map(|(image, key)| (image * self.keys) as u32 + key.unwrap_or(0)).collect();
        Tensor::new(rows, device)
    }

    /// 1 for slots with a neighbour, 0 for empty ones: u8 `[B,Q,M]`.
    pub(crate) fn occupied(&self, device: &Device) -> Result<Tensor> {
        let occupied: Vec<u8> = self.each_slot().map(|(_, key)| u8::from(key.is_some())).collect();
        Tensor::from_vec(occupied, (self.batch, self.queries, self.slots()), device)
    }

    /// Image and key of every slot of every query.
    pub(crate) fn each_slot(&self) -> impl Iterator<Item = (usize, Option<u32>)> {
        (0..self.batch).flat_map(move |image| {
            (0..self.queries).flat_map(move |query| {
                (0..self.slots()).map(move |slot| (image, self.key(image, query, slot)))
            })
        })
    }

    /// The rows of `feat [B,N,C]` that the slots hold: `[B,Q,M,C]`.
    pub(crate) fn gather(&self, feat: &Tensor) -> Result<Tensor> {
        let (batch, keys, channels) = feat.dims3()?;
        let rows = feat.contiguous()?.reshape((batch * keys, channels))?;
        rows.index_select(&self.flat_rows(feat.device())?, 0)?.reshape((
            batch,
            self.queries,
            self.slots(),
            channels,
        ))
    }
}
