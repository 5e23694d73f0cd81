//! The nearest tokens of every cell of the canvas.

use std::sync::Arc;

use aff_geometry::PointIndex;
use candle_core::{Error, Result, bail};

use super::Positions;
use crate::kernel::gpu::Kept;

/// For every cell of the canvas, the k tokens of a level that are nearest to it; of equally near ones the first.
/// Cloning is cheap.
#[derive(Debug, Clone)]
pub struct CanvasLookup {
    positions: Positions,
    k: usize,
    /// `[B, height, width, k]`
    nearest: Arc<[u32]>,
    /// What of it is on devices.
    pub(crate) kept: Kept,
}

impl CanvasLookup {
    /// Finds the `k` nearest of the level's tokens (or all, if there are fewer) for each cell of their canvas.
    ///
    /// # Errors
    /// If there is no token.
    pub fn new(positions: &Positions, k: usize) -> Result<Self> {
        if positions.tokens() == 0 || k == 0 {
            bail!("canvas lookup: {k} nearest of {} tokens; expected at least one", positions.tokens())
        }
        let k = k.min(positions.tokens());
        let cells = Positions::full_grid(1, positions.canvas());
        let mut nearest = Vec::with_capacity(positions.batch() * cells.tokens() * k);
        for image in positions.images() {
            let index = PointIndex::new(image).map_err(Error::wrap)?;
            let neighbors = index.k_nearest(cells.as_slice(), k).map_err(Error::wrap)?;
            nearest.extend_from_slice(neighbors.as_slice());
        }
        Ok(Self { positions: positions.clone(), k, nearest: nearest.into(), kept: Kept::default() })
    }

    /// Number B of images.
    pub fn batch(&self) -> usize {
        self.positions.batch()
    }

    /// Number of tokens of the level in an image.
    pub fn tokens(&self) -> usize {
        self.positions.tokens()
    }

    /// Number of nearest tokens of a cell.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Positions of the level's tokens.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The nearest tokens of the canvas cell that a location rounds to (half to even), clamped to the canvas.
    ///
    /// # Panics
    /// If `image` is not below [`Self::batch`].
    pub fn nearest(&self, image: usize, location: [f64; 2]) -> &[u32] {
        let canvas = self.positions.canvas();
        let [x, y] = [(location[0], canvas.width()), (location[1], canvas.height())]
            .map(|(coordinate, size)| coordinate.round_ties_even().clamp(0.0, f64::from(size - 1)) as usize);
        let (width, height) = (canvas.width() as usize, canvas.height() as usize);
        let start = ((image * height + y) * width + x) * self.k;
        &self.nearest[start..start + self.k]
    }

    /// The tokens of every cell of every image, `[B, height, width, k]`.
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.nearest
    }
}
