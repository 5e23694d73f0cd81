//! Neighbours listed one by one.

use std::sync::Arc;

use aff_geometry::Neighbors;
use candle_core::{Result, bail};

use super::Slots;
use super::clusters::check_count;
use crate::kernel::gpu::Kept;

/// For every query of every image the same number M of neighbours, listed.
///
/// Made once and shared; cloning is cheap.
///
/// ```
/// use aff_ops::NeighborLists;
///
/// // Two queries; the first sees keys 0 and 2, the second keys 1 and 2.
/// let neighbors = NeighborLists::from_indices(1, 3, 2, vec![0, 2, 1, 2]).unwrap();
/// assert_eq!((neighbors.queries(), neighbors.per_query()), (2, 2));
/// assert_eq!(neighbors.of(0, 1), [1, 2]);
/// ```
#[derive(Debug, Clone)]
pub struct NeighborLists {
    batch: usize,
    queries: usize,
    keys: usize,
    per_query: usize,
    /// `[B, Q, M]`
    indices: Arc<[u32]>,
    /// What of it is on devices.
    pub(crate) kept: Kept,
}

impl NeighborLists {
    /// The nearest points of each query, as [`aff_geometry::k_nearest`] finds them among `keys` points.
    ///
    /// # Errors
    /// If the images differ in their number of queries or neighbours, there are none, or an index is not below `keys`.
    pub fn from_nearest_points(keys: usize, nearest: &[Neighbors]) -> Result<Self> {
        let Some(first) = nearest.first() else { bail!("neighbor lists: no image") };
        let sizes = (first.num_queries(), first.k());
        if let Some(image) = nearest.iter().position(|image| (image.num_queries(), image.k()) != sizes) {
            bail!("neighbor lists: image {image} has other sizes than image 0")
        }
        let flat: Vec<u32> = nearest.iter().flat_map(|image| image.as_slice().iter().copied()).collect();
        Self::from_indices(nearest.len(), keys, sizes.1, flat)
    }

    /// Neighbours listed one by one, `indices` being `[B, Q, M]` with M = `per_query`.
    ///
    /// # Errors
    /// If `indices` do not fill whole rows of every image, or one is not below `keys`.
    pub fn from_indices(batch: usize, keys: usize, per_query: usize, indices: Vec<u32>) -> Result<Self> {
        check_count(keys)?;
        let rows_of_all = batch.checked_mul(per_query).filter(|&count| count > 0);
        let Some(rows_of_all) = rows_of_all.filter(|&count| indices.len().is_multiple_of(count)) else {
            bail!(
                "neighbor lists: {} indices do not make {batch} images of rows of {per_query}",
                indices.len()
            )
        };
        if let Some(at) = indices.iter().position(|&index| index as usize >= keys) {
            bail!("neighbor lists: index {} (number {at}) of {keys} keys", indices[at])
        }
        let queries = indices.len() / rows_of_all;
        Ok(Self { batch, queries, keys, per_query, indices: indices.into(), kept: Kept::default() })
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

    /// Number M of neighbours of a query.
    pub fn per_query(&self) -> usize {
        self.per_query
    }

    /// The neighbours of a query of an image.
    ///
    /// # Panics
    /// If an argument is out of range.
    pub fn of(&self, image: usize, query: usize) -> &[u32] {
        assert!(image < self.batch && query < self.queries, "query {query} of image {image}");
        self.row(image * self.queries + query)
    }

    /// The neighbours of a query, counted over all images.
    #[inline]
    fn row(&self, row: usize) -> &[u32] {
        &self.indices[row * self.per_query..(row + 1) * self.per_query]
    }
}

impl Slots for NeighborLists {
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
        self.per_query
    }

    #[inline]
    fn keys_of(&self, row: usize, keys: &mut Vec<u32>) {
        keys.clear();
        keys.extend_from_slice(self.row(row));
    }
}
