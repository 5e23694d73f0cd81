//! What travels between the parts of the network.

use std::sync::Arc;

use aff_ops::Positions;
use candle_core::{Result, Tensor, bail};

/// The tokens of a batch: features `[B,N,C]` and where they are.
///
/// # Order
/// Tokens that leave a stage of the backbone are in the order of the stage: by cluster, so that the members of a cluster
/// lie together; by raster (y, then x) where the stage attends globally. Tokens that leave a downsampling are in raster
/// order. The order is part of the method: of equally near tokens the decoders take the first. [`Tokens::to_raster`]
/// brings any of them to raster order.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Features, `[B,N,C]`.
    pub feat: Tensor,
    /// Positions on the stride-4 canvas, shared by all tokens that sit on the same places.
    pub pos: Arc<Positions>,
}

impl Tokens {
    /// Joins features with positions.
    ///
    /// # Errors
    /// If they differ in B or N, or `feat` has not three axes.
    pub fn new(feat: Tensor, pos: Arc<Positions>) -> Result<Self> {
        let (batch, tokens, _) = feat.dims3()?;
        if (batch, tokens) != (pos.batch(), pos.tokens()) {
            bail!(
                "tokens: features {:?} do not fit positions of {} images with {} tokens",
                feat.dims(),
                pos.batch(),
                pos.tokens()
            )
        }
        Ok(Self { feat, pos })
    }

    /// Number B of images.
    pub fn batch(&self) -> usize {
        self.pos.batch()
    }

    /// Number N of tokens of an image.
    pub fn count(&self) -> usize {
        self.pos.tokens()
    }

    /// The same tokens in raster order: by y, then by x.
    ///
    /// # Errors
    /// If `feat` was replaced by one of another shape.
    pub fn to_raster(&self) -> Result<Self> {
        let order = self.raster_order();
        Self::new(gather_tokens(&self.feat, &order)?, Arc::new(self.pos.select(&order)?))
    }

    /// The tokens of every image in raster order, `[B*N]`.
    pub(crate) fn raster_order(&self) -> Vec<u32> {
        self.pos.images().flat_map(raster_order).collect()
    }

    /// The same places with other features.
    ///
    /// # Errors
    /// If `feat` is not `[B,N,..]`.
    pub fn with_feat(&self, feat: Tensor) -> Result<Self> {
        Self::new(feat, Arc::clone(&self.pos))
    }
}

fn raster_order(pos: &[[i32; 2]]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..pos.len() as u32).collect();
    order.sort_by_key(|&token| {
        let [x, y] = pos[token as usize];
        (y, x)
    });
    order
}

/// The tokens `[B,N',C]` of `feat [B,N,C]` that `indices [B*N']` name.
pub(crate) fn gather_tokens(feat: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let (batch, tokens, channels) = feat.dims3()?;
    let per_image = indices.len() / batch;
    let rows = indices.iter().enumerate().map(|(place, &index)| (place / per_image * tokens) as u32 + index);
    let rows = Tensor::new(rows.collect::<Vec<_>>(), feat.device())?;
    let flat = feat.contiguous()?.reshape((batch * tokens, channels))?;
    flat.index_select(&rows, 0)?.reshape((batch, per_image, channels))
}
