//! Balanced clustering: one sort along a space-filling curve, cut into runs.

use std::ops::Range;

use rayon::prelude::*;

use crate::coordinate::{check_count, widen};
use crate::{Canvas, CellGrid, Coordinate, Curve, GeometryError, rank_sort, raster};

/// How tokens are ordered before they are cut into clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClusterMode {
    /// By the rank of their cell in a coarse grid of about one cell a cluster, then by the ratio of squared distances
    /// to the anchors of the cells before and after. What every published checkpoint uses.
    #[default]
    Anchors,
    /// By the rank of their own unit square on the curve.
    Direct,
}

/// What clusters to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterOptions {
    /// Members of every cluster but the last, which takes what is left.
    pub cluster_size: usize,
    /// The curve that orders the cells.
    pub curve: Curve,
    /// What is ordered along it.
    pub mode: ClusterMode,
}

impl ClusterOptions {
    /// Clusters of this size as published checkpoints use them: scanline, with anchors.
    pub const fn new(cluster_size: usize) -> Self {
        Self { cluster_size, curve: Curve::Scanline, mode: ClusterMode::Anchors }
    }
}

/// Tokens sorted along a curve and cut into runs of one size, made by [`cluster`].
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    cluster_size: usize,
    order: Vec<u32>,
    cluster_of: Vec<u32>,
    centers: Vec<[f32; 2]>,
}

impl Clusters {
    /// The tokens in the sorted order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.centers.len()
    }

    /// Whether there is no cluster, because there was no token.
    pub fn is_empty(&self) -> bool {
        self.centers.is_empty()
    }

    /// Members of every cluster but the last.
    pub fn cluster_size(&self) -> usize {
        self.cluster_size
    }

    /// Number of tokens.
    pub fn num_tokens(&self) -> usize {
        self.order.len()
    }

    /// The indices of cluster `k` in the sorted order.
    ///
    /// # Panics
    /// If there is no cluster `k`.
    pub fn range(&self, k: usize) -> Range<usize> {
        assert!(k < self.len(), "cluster {k} of {}", self.len());
        let start = k * self.cluster_size;
        start..start.saturating_add(self.cluster_size).min(self.num_tokens())
    }

    /// The tokens of cluster `k`, in the sorted order.
    ///
    /// # Panics
    /// If there is no cluster `k`.
    pub fn members(&self, k: usize) -> &[u32] {
        &self.order[self.range(k)]
    }

    /// The cluster of each token, tokens as they were given.
    pub fn cluster_of(&self) -> &[u32] {
        &self.cluster_of
    }

    /// The mean position of each cluster's members.
    pub fn centers(&self) -> &[[f32; 2]] {
        &self.centers
    }
}

/// Cuts tokens into clusters of exactly `cluster_size` neighbours, but for the last, which takes what is left.
///
/// # Errors
/// [`GeometryError::ZeroClusterSize`], [`GeometryError::NotFinite`], [`GeometryError::OutsideCanvas`],
/// [`GeometryError::DuplicatePosition`], [`GeometryError::TooManyPoints`].
///
/// ```
/// use aff_geometry::{Canvas, ClusterOptions, cluster};
///
/// let pos = [[0, 0], [1, 0], [7, 0], [0, 1], [6, 1]];
/// let clusters = cluster(&pos, Canvas::new(8, 2)?, &ClusterOptions::new(3))?;
/// assert_eq!(clusters.len(), 2);
/// assert_eq!(clusters.members(0), [0, 3, 1]);
/// assert_eq!(clusters.members(1), [4, 2]);
/// assert_eq!(clusters.cluster_of(), [0, 0, 1, 0, 1]);
/// assert_eq!(clusters.centers()[1], [6.5, 0.5]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn cluster<T: Coordinate>(
    pos: &[[T; 2]],
    canvas: Canvas,
    options: &ClusterOptions,
) -> Result<Clusters, GeometryError> {
    let &ClusterOptions { cluster_size, curve, mode } = options;
    if cluster_size == 0 {
        return Err(GeometryError::ZeroClusterSize);
    }
    check_count(pos.len())?;
    canvas.check(pos)?;
    let order = match mode {
        ClusterMode::Anchors => {
            let grid = CellGrid::anchors(canvas, pos.len().div_ceil(cluster_size));
            order_by_anchors(pos, &Anchors { canvas, grid, curve })
        }
        ClusterMode::Direct => {
            let grid = CellGrid::of_canvas(canvas);
            // On the canvas, so the cast rounds down to a cell of it.
            let ranks = ranks(pos, curve, grid, |[x, y]| [x as u32, y as u32]);
            order_by(pos, &ranks, |_| |_: [f64; 2]| 0.0)
        }
    };
    // Equal positions have equal keys, so they are neighbours in the order.
    raster::refuse_duplicates(pos, &order)?;
    let mut cluster_of = vec![0; pos.len()];
    let mut centers = Vec::with_capacity(pos.len().div_ceil(cluster_size));
    for (k, members) in order.chunks(cluster_size).enumerate() {
        let mut sum = [0.0; 2];
        for &token in members {
            cluster_of[token as usize] = k as u32;
            let [x, y] = widen(pos[token as usize]);
            sum = [sum[0] + x, sum[1] + y];
        }
        centers.push(sum.map(|sum| (sum / members.len() as f64) as f32));
    }
    Ok(Clusters { cluster_size, order, cluster_of, centers })
}

/// [`cluster`] for each image of a batch, on rayon. The result for an image does not depend on the others.
///
/// # Errors
/// [`GeometryError::InImage`] with the first image that is refused.
///
/// ```
/// use aff_geometry::{Canvas, ClusterOptions, cluster_batch};
///
/// let images: [&[[i32; 2]]; 2] = [&[[0, 0], [3, 3]], &[[2, 1]]];
/// let clusters = cluster_batch(&images, Canvas::new(4, 4)?, &ClusterOptions::new(8))?;
/// assert_eq!(clusters[0].centers(), [[1.5, 1.5]]);
/// assert_eq!(clusters[1].centers(), [[2.0, 1.0]]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn cluster_batch<T: Coordinate>(
    images: &[&[[T; 2]]],
    canvas: Canvas,
    options: &ClusterOptions,
) -> Result<Vec<Clusters>, GeometryError> {
    in_order(images.par_iter().map(|pos| cluster(pos, canvas, options)).collect())
}

/// All results, or the error of the first image that has one.
pub(crate) fn in_order<R>(results: Vec<Result<R, GeometryError>>) -> Result<Vec<R>, GeometryError> {
    let named = |(image, result): (usize, Result<R, GeometryError>)| {
        result.map_err(|source| GeometryError::InImage { image, source: Box::new(source) })
    };
    results.into_iter().enumerate().map(named).collect()
}

/// The anchors of a canvas: the centres of the cells of a coarse grid, in the order of a curve.
struct Anchors {
    canvas: Canvas,
    grid: CellGrid,
    curve: Curve,
}

impl Anchors {
    fn size(&self) -> [f64; 2] {
        [f64::from(self.canvas.width()), f64::from(self.canvas.height())]
    }

    fn count(&self) -> [f64; 2] {
        [f64::from(self.grid.cols()), f64::from(self.grid.rows())]
    }

    /// The cells before and after the one of this rank. Anchors are linear in the cell, so where the curve ends, the line
    /// beyond is continued in cells; a lone cell lies on a line from left to right.
    fn around(&self, rank: u64) -> [[f64; 2]; 2] {
        let cell_at = |rank| self.curve.cell(self.grid, rank).map(|cell| cell.map(f64::from));
        let Some(cell) = cell_at(rank) else { return [[0.0; 2]; 2] };
        let before = rank.checked_sub(1).and_then(cell_at);
        let after = cell_at(rank + 1);
        let beyond = |other: [f64; 2]| [0, 1].map(|axis| 2.0 * cell[axis] - other[axis]);
        let next = after.or_else(|| before.map(beyond)).unwrap_or([cell[0] + 1.0, cell[1]]);
        [before.unwrap_or_else(|| beyond(next)), next]
    }

    /// Squared distance from a point to the anchor of a cell, `(cell + 1/2) * size / count - 1/2`.
    ///
    /// The offsets are rounded only once, at the end, so that points symmetric to an anchor get the same distance and tie.
    fn squared_distance(&self, point: [f64; 2], cell: [f64; 2]) -> f64 {
        let (size, count) = (self.size(), self.count());
        let [dx, dy] = [0, 1].map(|axis| {
            let (size, count) = (size[axis], count[axis]);
            (count * (2.0 * point[axis] + 1.0) - (2.0 * cell[axis] + 1.0) * size) / (2.0 * count)
        });
        dx * dx + dy * dy
    }
}

/// Tokens by (rank of the cell, ratio of squared distances to the anchors around it).
fn order_by_anchors<T: Coordinate>(pos: &[[T; 2]], anchors: &Anchors) -> Vec<u32> {
    let (size, count) = (anchors.size(), anchors.count());
    let ranks = ranks(pos, anchors.curve, anchors.grid, |point| {
        [0, 1].map(|axis| cell_of(point[axis], count[axis], size[axis]))
    });
    order_by(pos, &ranks, |rank| {
        let [prev, next] = anchors.around(rank);
        move |point| anchors.squared_distance(point, prev) / (anchors.squared_distance(point, next) + 1e-5)
    })
}

/// The cell `floor(coordinate * count / size)`, exactly.
fn cell_of(coordinate: f64, count: f64, size: f64) -> u32 {
    let scaled = coordinate * count;
    let cell = (scaled / size).floor();
    // The division may have rounded up to a whole number.
    (if cell * size > scaled { cell - 1.0 } else { cell }) as u32
}

/// The rank of each token's cell.
fn ranks<T: Coordinate>(
    pos: &[[T; 2]],
    curve: Curve,
    grid: CellGrid,
    cell_of: impl Fn([f64; 2]) -> [u32; 2],
) -> Vec<u64> {
    // Tokens mostly come row by row, so the next one is often in the same cell.
    let mut last = ([0, 0], 0);
    let rank = |&point: &[T; 2]| {
        let cell = cell_of(widen(point));
        if cell != last.0 {
            last = (cell, curve.rank(grid, cell).unwrap_or(u64::MAX));
        }
        last.1
    };
    pos.iter().map(rank).collect()
}

/// Tokens by rank, those of one rank by a key, ties in raster order. `key_of` makes the key of a rank.
fn order_by<T, K>(pos: &[[T; 2]], ranks: &[u64], key_of: impl Fn(u64) -> K) -> Vec<u32>
where
    T: Coordinate,
    K: Fn([f64; 2]) -> f64,
{
    let mut order = rank_sort::order(ranks);
    let mut keyed = Vec::new();
    for run in order.chunk_by_mut(|&a, &b| ranks[a as usize] == ranks[b as usize]) {
        let key = key_of(ranks[run[0] as usize]);
        keyed.clear();
        keyed.extend(run.iter().map(|&token| (key(widen(pos[token as usize])), token)));
        keyed.sort_unstable_by(|a, b| {
            a.0.total_cmp(&b.0).then_with(|| raster::compare(pos[a.1 as usize], pos[b.1 as usize]))
        });
        for (token, &(_, sorted)) in run.iter_mut().zip(&keyed) {
            *token = sorted;
        }
    }
    order
}
