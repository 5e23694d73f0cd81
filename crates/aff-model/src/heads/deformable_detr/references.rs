//! What queries look around.

use candle_core::{Result, Tensor};

use crate::transformer::{Memory, ReferencePoints};

/// A reference for each query, in fractions of the canvas.
#[derive(Debug, Clone)]
pub(super) enum References {
    /// `[B,Q,2]`: (x, y).
    Points(Tensor),
    /// `[B,Q,4]`: (centre x, centre y, width, height).
    Boxes(Tensor),
}

impl References {
    /// The same on the canvas of the memory; a box spreads its `points` over half of its width and height.
    pub(super) fn on_canvas(&self, memory: &Memory, points: usize) -> Result<ReferencePoints> {
        let canvas = memory.levels[0].tokens.positions().canvas();
        let place = |center: &Tensor| {
            let sides = canvas_sides(canvas, center)?;
            center.broadcast_mul(&sides)? - 0.5
        };
        match self {
            Self::Points(points) => Ok(ReferencePoints { center: place(points)?, unit: None }),
            Self::Boxes(boxes) => {
                let (center, size) = (boxes.narrow(2, 0, 2)?, boxes.narrow(2, 2, 2)?);
                let sides = canvas_sides(canvas, &size)?;
                let unit = (size.broadcast_mul(&sides)? * (0.5 / points as f64))?;
                Ok(ReferencePoints { center: place(&center)?, unit: Some(unit) })
            }
        }
    }
}

/// (width, height), of the type and on the device of `like`.
fn canvas_sides(canvas: aff_geometry::Canvas, like: &Tensor) -> Result<Tensor> {
    let sides = [f64::from(canvas.width()), f64::from(canvas.height())];
    Tensor::new(&sides, like.device())?.to_dtype(like.dtype())
}
