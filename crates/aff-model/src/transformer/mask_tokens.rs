//! The tokens that masks are predicted on, and what they say about the tokens of the levels.

use candle_core::{D, Result, Tensor};

use super::Level;
use crate::Tokens;
use crate::macs::performed;

/// Mask features, and for each level the mask tokens that sit on the places of its tokens.
pub(super) struct MaskTokens {
    /// `[B,C,N]`
    features: Tensor,
    /// For each level, u32 `[B,N]`.
    at_level: Vec<Tensor>,
}

impl MaskTokens {
    /// # Errors
    /// If a level has a token where the mask features have none.
    pub(super) fn new(features: &Tokens, levels: &[Level]) -> Result<Self> {
        let device = features.feat.device();
        let under = |level: &Level| features.layout.tokens_under(&level.tokens.layout, device);
        Ok(Self {
            features: features.feat.transpose(1, 2)?.contiguous()?,
            at_level: levels.iter().map(under).collect::<Result<_>>()?,
        })
    }

    /// `embedding [B,Q,mask_feature_size]` -> `[B,Q,N]`
    pub(super) fn logits(&self, embedding: &Tensor) -> Result<Tensor> {
        performed(embedding.elem_count() * self.features.dim(2)?);
        embedding.matmul(&self.features)
    }

    /// Where a query may not look in a level: 1 where its mask probability is below one half, `[B,Q,N]` u8. A query
    /// that could look nowhere may look everywhere.
    ///
    /// A level's tokens sit on places of mask tokens, so that interpolating the logits to them is reading them.
    pub(super) fn blocked(&self, mask_logits: &Tensor, level: usize) -> Result<Tensor> {
        let logits = mask_logits.detach();
        let images = (0..logits.dim(0)?)
            .map(|image| logits.get(image)?.contiguous()?.index_select(&self.at_level[level].get(image)?, 1));
        let blocked = Tensor::stack(&images.collect::<Result<Vec<_>>>()?, 0)?.lt(0f64)?;
        let somewhere = blocked.min_keepdim(D::Minus1)?.eq(0u8)?;
        blocked.broadcast_mul(&somewhere)
    }
}

#[cfg(test)]
mod tests {
    use aff_geometry::Canvas;
    use aff_ops::Positions;
    use candle_core::Device;

    use super::*;
    use crate::tokens::TokenLayout;

    /// Mask features 1, 2, 3, 4 on a row of four places, in the order of some clusters; a level on places 1 and 3.
    fn mask_tokens() -> MaskTokens {
        let canvas = Canvas::new(4, 1).unwrap();
        let clustered = TokenLayout::full_grid(1, canvas).clustered(&[2, 0, 3, 1]).unwrap();
        let features = Tensor::new(&[[[3f32], [1.], [4.], [2.]]], &Device::Cpu).unwrap();
        let level = Positions::new(vec![[1, 0], [3, 0]], 1, canvas).unwrap();
        let feat = Tensor::zeros((1, 2, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let level = Level::new(Tokens::new(feat, TokenLayout::raster(level).unwrap()).unwrap()).unwrap();
        MaskTokens::new(&Tokens::new(features, clustered).unwrap(), &[level]).unwrap()
    }

    #[test]
    fn logits_are_products_with_the_mask_features() {
        let embedding = Tensor::new(&[[[1f32], [-2.]]], &Device::Cpu).unwrap();
        let logits = mask_tokens().logits(&embedding).unwrap();
        assert_eq!(logits.to_vec3::<f32>().unwrap(), [[[3., 1., 4., 2.], [-6., -2., -8., -4.]]]);
    }

    #[test]
    fn queries_are_blocked_where_their_mask_is_not_unless_that_is_everywhere() {
        // Places 2, 0, 3, 1; the level sees places 1 and 3.
        let logits =
            Tensor::new(&[[[-9f32, -9., 1., -1.], [9., 9., -1., -1.], [-9., -9., 0., 2.]]], &Device::Cpu)
                .unwrap();
        let blocked = mask_tokens().blocked(&logits, 0).unwrap();
        assert_eq!(blocked.to_vec3::<u8>().unwrap(), [[[1, 0], [0, 0], [0, 0]]]);
    }
}
