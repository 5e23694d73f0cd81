//! Masks from tokens to the canvas.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::TokenPrediction;
use crate::heads::MaskPrediction;
use crate::tokens::{TokenLayout, TokenOrder};

/// The canvas that masks on tokens belong on: there is a token on each of its places.
pub(crate) struct MaskCanvas {
    layout: Arc<TokenLayout>,
}

impl MaskCanvas {
    /// # Errors
    /// If the tokens do not cover their canvas.
    pub(crate) fn new(layout: &Arc<TokenLayout>) -> Result<Self> {
        if !layout.covers_canvas() {
            let positions = layout.positions();
            bail!("masks: {} tokens do not cover the canvas {:?}", positions.tokens(), positions.canvas())
        }
        Ok(Self { layout: Arc::clone(layout) })
    }

    /// Brings masks `[B,Q,N]` to the places of their tokens, `[B,Q,h,w]`.
    pub(crate) fn scatter(&self, prediction: TokenPrediction) -> Result<MaskPrediction> {
        let TokenPrediction { class_logits, mask_logits } = prediction;
        let (batch, queries, _) = mask_logits.dims3()?;
        let canvas = self.layout.positions().canvas();
        let in_raster_order = match self.layout.order() {
            TokenOrder::Raster => mask_logits,
            TokenOrder::Cluster => {
                let grid = TokenLayout::full_grid(batch, canvas);
                let token_at = self.layout.tokens_under(&grid, mask_logits.device())?;
                let images = (0..batch).map(|image| {
                    mask_logits.get(image)?.contiguous()?.index_select(&token_at.get(image)?, 1)
                });
                Tensor::stack(&images.collect::<Result<Vec<_>>>()?, 0)?
            }
        };
        let (height, width) = (canvas.height() as usize, canvas.width() as usize);
        let mask_logits = in_raster_order.reshape((batch, queries, height, width))?;
        Ok(MaskPrediction { class_logits, mask_logits })
    }
}

#[cfg(test)]
mod tests {
    use aff_geometry::Canvas;
    use aff_ops::Positions;
    use candle_core::{DType, Device};

    use super::*;

    fn prediction(mask_logits: &[[[f32; 6]; 2]; 2]) -> TokenPrediction {
        TokenPrediction {
            class_logits: Tensor::zeros((2, 2, 1), DType::F32, &Device::Cpu).unwrap(),
            mask_logits: Tensor::new(mask_logits, &Device::Cpu).unwrap(),
        }
    }

    #[test]
    fn masks_lie_where_their_tokens_are() {
        let canvas = Canvas::new(3, 2).unwrap();
        let grid = TokenLayout::full_grid(2, canvas);
        let rows = [[0., 1., 2., 3., 4., 5.], [10., 11., 12., 13., 14., 15.]];
        let flat = |layout: &Arc<TokenLayout>, logits: &[[[f32; 6]; 2]; 2]| {
            let scattered = MaskCanvas::new(layout).unwrap().scatter(prediction(logits)).unwrap();
            assert_eq!(scattered.mask_logits.dims(), [2, 2, 2, 3]);
            scattered.mask_logits.flatten(2, 3).unwrap().to_vec3::<f32>().unwrap()
        };
        assert_eq!(flat(&grid, &[rows, rows]), [rows, rows]);
        // Token i of the first image is that of raster place 5 - i, of the second that of i + 1 (mod 6).
        let clustered = grid.clustered(&[5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 0]).unwrap();
        let expected = [
            [[5., 4., 3., 2., 1., 0.], [15., 14., 13., 12., 11., 10.]],
            [[5., 0., 1., 2., 3., 4.], [15., 10., 11., 12., 13., 14.]],
        ];
        assert_eq!(flat(&clustered, &[rows, rows]), expected);
    }

    #[test]
    fn tokens_that_leave_places_empty_have_no_canvas() {
        let canvas = Canvas::new(3, 2).unwrap();
        let row = Positions::new(vec![[0, 0], [1, 0]], 1, canvas).unwrap();
        let error = MaskCanvas::new(&TokenLayout::raster(row).unwrap()).err().unwrap().to_string();
        assert!(error.contains("2 tokens do not cover"), "{error}");
    }
}
