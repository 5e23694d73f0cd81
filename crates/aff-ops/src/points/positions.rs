//! Where the tokens of a batch are.

use std::sync::Arc;

use aff_geometry::Canvas;
use candle_core::{Result, bail};

use crate::kernel::gpu::Kept;

/// Positions `(x, y)` of the N tokens of each of B images, on one canvas. Cloning is cheap.
///
/// ```
/// use aff_geometry::Canvas;
/// use aff_ops::Positions;
///
/// let canvas = Canvas::new(3, 2).unwrap();
/// let grid = Positions::full_grid(1, canvas);
/// assert_eq!(grid.image(0), [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    xy: Arc<[[i32; 2]]>,
    batch: usize,
    tokens: usize,
    canvas: Canvas,
    /// What of it is on devices.
    pub(crate) kept: Kept,
}

impl Positions {
    /// Takes the positions of all images, image after image.
    ///
    /// # Errors
    /// If there are not `batch` times the same number of them, or one lies outside the canvas.
    pub fn new(xy: Vec<[i32; 2]>, batch: usize, canvas: Canvas) -> Result<Self> {
        if batch == 0 || !xy.len().is_multiple_of(batch) {
            bail!("positions: {} of them do not make {batch} images of equally many tokens", xy.len())
        }
        let inside = |p: i32, size: u32| u32::try_from(p).is_ok_and(|p| p < size);
        if let Some(i) =
            xy.iter().position(|&[x, y]| !inside(x, canvas.width()) || !inside(y, canvas.height()))
        {
            bail!("positions: number {i}, {:?}, lies outside the canvas {canvas:?}", xy[i])
        }
        Ok(Self { tokens: xy.len() / batch, xy: xy.into(), batch, canvas, kept: Kept::default() })
    }

    /// A token on every cell of the canvas, in raster order, for each of `batch` images.
    ///
    /// # Panics
    /// Never for canvases that fit into memory: the sides of a canvas of an image are far below 2^31.
    pub fn full_grid(batch: usize, canvas: Canvas) -> Self {
        let (width, height) = (canvas.width() as i32, canvas.height() as i32);
        let image = (0..height).flat_map(|y| (0..width).map(move |x| [x, y]));
        let xy = (0..batch).flat_map(|_| image.clone()).collect();
        Self { tokens: (width as usize) * (height as usize), xy, batch, canvas, kept: Kept::default() }
    }

    /// Number B of images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Number N of tokens of an image.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The canvas that the positions lie on.
    pub fn canvas(&self) -> Canvas {
        self.canvas
    }

    /// Positions of the tokens of one image.
    ///
    /// # Panics
    /// If `image` is not below [`Self::batch`], like an index out of range.
    pub fn image(&self, image: usize) -> &[[i32; 2]] {
        &self.xy[image * self.tokens..(image + 1) * self.tokens]
    }

    /// Positions of every image in turn.
    pub fn images(&self) -> impl ExactSizeIterator<Item = &[[i32; 2]]> {
        (0..self.batch).map(|image| self.image(image))
    }

    /// All positions, image after image.
    pub fn as_slice(&self) -> &[[i32; 2]] {
        &self.xy
    }

    /// The positions of some tokens of every image, in the order given: `indices` holds equally many for each image.
    ///
    /// # Errors
    /// If `indices` do not divide among the images or one is not below [`Self::tokens`].
    pub fn select(&self, indices: &[u32]) -> Result<Self> {
        if !indices.len().is_multiple_of(self.batch) {
            bail!("positions: {} indices do not divide among {} images", indices.len(), self.batch)
        }
        if let Some(&index) = indices.iter().find(|&&i| i as usize >= self.tokens) {
            bail!("positions: index {index} of {} tokens", self.tokens)
        }
        let per_image = indices.len() / self.batch;
        let pick = |(at, &index): (usize, &u32)| self.image(at / per_image)[index as usize];
        let xy = indices.iter().enumerate().map(pick).collect();
        Ok(Self { xy, batch: self.batch, tokens: per_image, canvas: self.canvas, kept: Kept::default() })
    }
}
