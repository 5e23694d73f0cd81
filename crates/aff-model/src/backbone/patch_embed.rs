//! From pixels to the first tokens (section 1 of the method).

use aff_geometry::Canvas;
use aff_ops::gelu;
use candle_core::{Error, Module, ModuleT, Result, Tensor, bail};
use candle_nn::{BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, VarBuilder, batch_norm, conv2d};

use crate::Phase;
use crate::layers::LayerNorm;
use crate::macs::{Macs, performed};
use crate::tokens::{TokenLayout, Tokens};

/// Pixels of the image between neighbouring tokens.
const STRIDE: usize = 4;

/// Two convolutions of stride 2, then a layer norm.
#[derive(Debug, Clone)]
pub(super) struct PatchEmbed {
    proj1: Conv2d,
    bn: BatchNorm,
    proj2: Conv2d,
    norm: LayerNorm,
}

impl PatchEmbed {
    pub(super) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let config = Conv2dConfig { padding: 1, stride: 2, ..Conv2dConfig::default() };
        let batch_norm_config = BatchNormConfig { eps: 1e-5, ..BatchNormConfig::default() };
        Ok(Self {
            proj1: conv2d(3, channels / 2, 3, config, vb.pp("proj1"))?,
            bn: batch_norm(channels / 2, batch_norm_config, vb.pp("bn"))?,
            proj2: conv2d(channels / 2, channels, 3, config, vb.pp("proj2"))?,
            norm: LayerNorm::new(channels, &vb.pp("norm"))?,
        })
    }

    /// `[B,3,H,W]` to tokens on the full canvas of `ceil(H/4) x ceil(W/4)`.
    pub(super) fn forward(&self, pixel_values: &Tensor, phase: Phase) -> Result<Tokens> {
        let &[batch, 3, height, width] = pixel_values.dims() else {
            bail!("pixel_values have shape {:?}; expected [B,3,H,W]", pixel_values.dims())
        };
        if batch == 0 || height == 0 || width == 0 {
            bail!("pixel_values have shape {:?}; expected no empty axis", pixel_values.dims())
        }
        let padded = pixel_values
            .pad_with_zeros(2, 0, height.next_multiple_of(STRIDE) - height)?
            .pad_with_zeros(3, 0, width.next_multiple_of(STRIDE) - width)?;
        let halved = convolve(&self.proj1, &padded)?;
        let halved = gelu(&self.bn.forward_t(&halved, phase.is_training())?)?;
        let feat = convolve(&self.proj2, &halved)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;

        let canvas = Canvas::new(width.div_ceil(STRIDE) as u32, height.div_ceil(STRIDE) as u32);
        let layout = TokenLayout::full_grid(batch, canvas.map_err(Error::wrap)?);
        Tokens::new(self.norm.forward(&feat)?, layout)
    }

    pub(super) fn macs(&self, tokens: usize) -> Macs {
        // The first convolution leaves four places for each token.
        Macs::products(4 * tokens * self.proj1.weight().elem_count())
            + Macs::products(tokens * self.proj2.weight().elem_count())
            + self.norm.macs(tokens)
    }
}

fn convolve(convolution: &Conv2d, x: &Tensor) -> Result<Tensor> {
    let out = convolution.forward(x)?;
    performed(out.elem_count() / out.dim(1)? * convolution.weight().elem_count());
    Ok(out)
}
