//! A level of tokens as the decoders see it.

use aff_ops::sine_position_embedding;
use candle_core::{Result, Tensor};

use crate::Tokens;

/// Tokens of the width of a decoder, with the sine embedding of their positions: computed once, used by every layer of encoder and
/// decoder.
#[derive(Debug, Clone)]
pub struct Level {
    /// `[B,N,C]`
    pub tokens: Tokens,
    /// `[B,N,C]`
    pub sine: Tensor,
}

impl Level {
    /// # Errors
    /// If the width of the tokens is not a multiple of 4.
    pub(crate) fn new(tokens: Tokens) -> Result<Self> {
        let images: Vec<_> = tokens.positions().images().collect();
        let (feat, width) = (&tokens.feat, tokens.feat.dim(2)?);
        let sine = sine_position_embedding(&images, width, feat)?;
        Ok(Self { tokens, sine })
    }

    /// The same places with other features.
    pub(crate) fn with_feat(&self, feat: Tensor) -> Result<Self> {
        Ok(Self { tokens: self.tokens.with_feat(feat)?, sine: self.sine.clone() })
    }
}
