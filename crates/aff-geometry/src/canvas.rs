//! The canvas that positions lie on.

use crate::{Coordinate, GeometryError};

/// The rectangle `0 <= x < width`, `0 <= y < height` that token positions lie on.
///
/// A network keeps one canvas through all its stages: tokens are dropped, never moved.
///
/// ```
/// use aff_geometry::Canvas;
///
/// let canvas = Canvas::new(56, 40)?;
/// assert_eq!((canvas.width(), canvas.height()), (56, 40));
/// assert!(Canvas::new(56, 0).is_err());
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Canvas {
    width: u32,
    height: u32,
}

impl Canvas {
    /// A canvas of this size.
    ///
    /// # Errors
    /// [`GeometryError::EmptyCanvas`] if either side is zero.
    pub const fn new(width: u32, height: u32) -> Result<Self, GeometryError> {
        if width == 0 || height == 0 {
            return Err(GeometryError::EmptyCanvas { width, height });
        }
        Ok(Self { width, height })
    }

    /// Units from left to right.
    pub const fn width(self) -> u32 {
        self.width
    }

    /// Units from top to bottom.
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Refuses positions that do not lie on the canvas, the first of them by index.
    pub(crate) fn check<T: Coordinate>(self, pos: &[[T; 2]]) -> Result<(), GeometryError> {
        let (width, height) = (f64::from(self.width), f64::from(self.height));
        for (index, position) in pos.iter().enumerate() {
            let position = [position[0].to_f64(), position[1].to_f64()];
            let [x, y] = position;
            if !(x.is_finite() && y.is_finite()) {
                return Err(GeometryError::NotFinite { index, position });
            }
            if !(0.0..width).contains(&x) || !(0.0..height).contains(&y) {
                return Err(GeometryError::OutsideCanvas { index, position, canvas: self });
            }
        }
        Ok(())
    }
}
