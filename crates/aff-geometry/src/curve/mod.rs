//! Space-filling curves over a grid of any size.
//!
//! A curve visits every cell of a [`CellGrid`] once, and consecutive cells are always 4-neighbours, whatever the numbers
//! of columns and rows. The Hilbert and Peano curves are defined by cutting a block into smaller blocks
//! (`hilbert.rs`, `peano.rs` say how and why it works on every size); ranks and cells are found by walking down those
//! cuts, so nothing is stored.

mod block;
mod hilbert;
mod peano;
mod scanline;

use std::iter::FusedIterator;

use crate::{Canvas, GeometryError};

/// A space-filling curve: an order of the cells of a grid in which consecutive cells are 4-neighbours.
///
/// All of them start at cell `[0, 0]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Curve {
    /// Even rows left to right, odd rows right to left. What every published checkpoint uses.
    #[default]
    Scanline,
    /// Hilbert's curve on powers of two, and a generalisation of it on every other size.
    Hilbert,
    /// Peano's curve on powers of three, and a generalisation of it on every other size.
    Peano,
}

/// A grid of `cols` x `rows` cells; a cell is `[column, row]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellGrid {
    cols: u32,
    rows: u32,
}

impl CellGrid {
    /// A grid of this size.
    ///
    /// # Errors
    /// [`GeometryError::EmptyGrid`] if there is no column or no row.
    pub const fn new(cols: u32, rows: u32) -> Result<Self, GeometryError> {
        if cols == 0 || rows == 0 {
            return Err(GeometryError::EmptyGrid { cols, rows });
        }
        Ok(Self { cols, rows })
    }

    /// The grid of anchors for `num_clusters` clusters: cells as square as whole numbers of them allow, about one a
    /// cluster.
    ///
    /// With `L = sqrt(width * height / num_clusters)` there are `width / L` columns and `height / L` rows, each rounded
    /// half to even, and at least one. No clusters count as one.
    ///
    /// ```
    /// use aff_geometry::{Canvas, CellGrid};
    ///
    /// let grid = CellGrid::anchors(Canvas::new(64, 32)?, 52);
    /// assert_eq!((grid.cols(), grid.rows()), (10, 5));
    /// # Ok::<(), aff_geometry::GeometryError>(())
    /// ```
    pub fn anchors(canvas: Canvas, num_clusters: usize) -> Self {
        let (width, height) = (f64::from(canvas.width()), f64::from(canvas.height()));
        let side = (height * width / num_clusters.max(1) as f64).sqrt();
        let count = |length: f64| ((length / side).round_ties_even() as u32).max(1);
        Self { cols: count(width), rows: count(height) }
    }

    /// One cell for every unit square of a canvas.
    pub const fn of_canvas(canvas: Canvas) -> Self {
        Self { cols: canvas.width(), rows: canvas.height() }
    }

    /// Number of columns.
    pub const fn cols(self) -> u32 {
        self.cols
    }

    /// Number of rows.
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Number of cells.
    pub const fn num_cells(self) -> u64 {
        self.cols as u64 * self.rows as u64
    }

    /// Whether the grid has this cell.
    pub const fn contains(self, [col, row]: [u32; 2]) -> bool {
        col < self.cols && row < self.rows
    }
}

impl Curve {
    /// Rank of a cell on the curve, from 0; `None` if the grid has no such cell.
    ///
    /// Cost: constant for scanline, O(log cells) for Hilbert and Peano; no memory.
    ///
    /// ```
    /// use aff_geometry::{CellGrid, Curve};
    ///
    /// let grid = CellGrid::new(3, 2)?;
    /// assert_eq!(Curve::Scanline.rank(grid, [2, 1]), Some(3));
    /// assert_eq!(Curve::Scanline.rank(grid, [3, 0]), None);
    /// # Ok::<(), aff_geometry::GeometryError>(())
    /// ```
    pub fn rank(self, grid: CellGrid, cell: [u32; 2]) -> Option<u64> {
        grid.contains(cell).then(|| match self {
            Self::Scanline => scanline::rank(grid, cell),
            Self::Hilbert => block::rank(hilbert::whole(grid), cell, hilbert::split),
            Self::Peano => block::rank(peano::whole(grid), cell, peano::split),
        })
    }

    /// The cell of a rank on the curve; `None` past its end. The inverse of [`rank`](Self::rank), at the same cost.
    ///
    /// ```
    /// use aff_geometry::{CellGrid, Curve};
    ///
    /// let grid = CellGrid::new(4, 4)?;
    /// let cells: Vec<_> = (0..5).filter_map(|rank| Curve::Hilbert.cell(grid, rank)).collect();
    /// assert_eq!(cells, [[0, 0], [1, 0], [1, 1], [0, 1], [0, 2]]);
    /// # Ok::<(), aff_geometry::GeometryError>(())
    /// ```
    pub fn cell(self, grid: CellGrid, rank: u64) -> Option<[u32; 2]> {
        (rank < grid.num_cells()).then(|| match self {
            Self::Scanline => scanline::cell(grid, rank),
            Self::Hilbert => block::cell(hilbert::whole(grid), rank, hilbert::split),
            Self::Peano => block::cell(peano::whole(grid), rank, peano::split),
        })
    }

    /// The cells of a grid in the order of the curve.
    ///
    /// ```
    /// use aff_geometry::{CellGrid, Curve};
    ///
    /// let cells: Vec<_> = Curve::Scanline.cells(CellGrid::new(2, 2)?).collect();
    /// assert_eq!(cells, [[0, 0], [1, 0], [1, 1], [0, 1]]);
    /// # Ok::<(), aff_geometry::GeometryError>(())
    /// ```
    pub fn cells(self, grid: CellGrid) -> Cells {
        Cells { curve: self, grid, next: 0 }
    }
}

/// Iterator over the cells of a grid in the order of a curve, made by [`Curve::cells`]. It stores nothing but its rank.
#[derive(Clone, Debug)]
pub struct Cells {
    curve: Curve,
    grid: CellGrid,
    next: u64,
}

impl Iterator for Cells {
    type Item = [u32; 2];

    fn next(&mut self) -> Option<[u32; 2]> {
        let cell = self.curve.cell(self.grid, self.next)?;
        self.next += 1;
        Some(cell)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.grid.num_cells() - self.next);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

impl FusedIterator for Cells {}
