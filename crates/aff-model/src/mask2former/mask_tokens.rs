//! The tokens that masks are predicted on, and what they say about the tokens of the levels.

use candle_core::{D, Result, Tensor, bail};

use crate::Tokens;

/// Mask features, and for each level the mask tokens that sit on the places of its tokens.
pub(super) struct MaskTokens<'a> {
    features: &'a Tokens,
    /// For each level, u32 `[B,N]`.
    at_level: Vec<Tensor>,
}

impl<'a> MaskTokens<'a> {
    pub(super) fn new(features: &'a Tokens, levels: &[Tokens]) -> Result<Self> {
        let at_level = levels.iter().map(|level| mask_tokens_of(features, level)).collect::<Result<_>>()?;
        Ok(Self { features, at_level })
    }

    /// `embedding [B,Q,mask_feature_size]` -> `[B,Q,N]`
    pub(super) fn logits(&self, embedding: &Tensor) -> Result<Tensor> {
        embedding.matmul(&self.features.feat.transpose(1, 2)?.contiguous()?)
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

/// The mask token at the place of each of the level's tokens: u32 `[B,N]`.
fn mask_tokens_of(features: &Tokens, level: &Tokens) -> Result<Tensor> {
    let canvas = features.pos.canvas();
    if level.pos.canvas() != canvas || level.batch() != features.batch() {
        bail!(
            "mask features: {} images on {canvas:?}; a level has {} on {:?}",
            features.batch(),
            level.batch(),
            level.pos.canvas()
        )
    }
    let place = |&[x, y]: &[i32; 2]| y as usize * canvas.width() as usize + x as usize;
    let mut token_at = vec![None; canvas.width() as usize * canvas.height() as usize];
    let mut indices = Vec::with_capacity(level.batch() * level.count());
    for image in 0..features.batch() {
        token_at.fill(None);
        for (token, pos) in features.pos.image(image).iter().enumerate() {
            token_at[place(pos)] = Some(token as u32);
        }
        for pos in level.pos.image(image) {
            let Some(token) = token_at[place(pos)] else { bail!("mask features: no token at {pos:?}") };
            indices.push(token);
        }
    }
    Tensor::from_vec(indices, (level.batch(), level.count()), features.feat.device())
}
