//! What travels between the parts of the network.

use std::sync::{Arc, OnceLock};

use aff_geometry::Canvas;
use aff_ops::Positions;
use candle_core::{Device, Result, Tensor, bail};

/// In which order tokens lie in memory.
///
/// It is part of the method: of equally near tokens the decoders take the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOrder {
    /// By y, then by x.
    Raster,
    /// By cluster, so that the members of a cluster lie together, as a stage of the backbone keeps them.
    Cluster,
}

/// Where the tokens of a batch are, and in which order they lie; shared by all tokens that sit on the same places.
#[derive(Debug)]
pub struct TokenLayout {
    positions: Positions,
    order: TokenOrder,
    /// The inverse of `positions`, made when it is first asked for.
    token_at: OnceLock<Vec<u32>>,
}

/// Stands for a place of the canvas without a token.
const NO_TOKEN: u32 = u32::MAX;

impl TokenLayout {
    /// Tokens in raster order.
    ///
    /// # Errors
    /// If they are not in raster order, or two of an image sit on the same place.
    pub fn raster(positions: Positions) -> Result<Arc<Self>> {
        for (image, pos) in positions.images().enumerate() {
            let ascending = |pair: &[[i32; 2]]| (pair[0][1], pair[0][0]) < (pair[1][1], pair[1][0]);
            if let Some(at) = pos.windows(2).position(|pair| !ascending(pair)) {
                bail!(
                    "tokens: in image {image}, {:?} comes before {:?}; expected raster order (y, then x), one token \
                     a place",
                    pos[at],
                    pos[at + 1]
                )
            }
        }
        Ok(Arc::new(Self { positions, order: TokenOrder::Raster, token_at: OnceLock::new() }))
    }

    /// Tokens on every place of the canvas.
    pub(crate) fn full_grid(batch: usize, canvas: Canvas) -> Arc<Self> {
        let positions = Positions::full_grid(batch, canvas);
        Arc::new(Self { positions, order: TokenOrder::Raster, token_at: OnceLock::new() })
    }

    /// The same tokens in the order of their clusters: `order [B*N]` holds the token of each place of the new order.
    pub(crate) fn clustered(&self, order: &[u32]) -> Result<Arc<Self>> {
        let positions = self.positions.select(order)?;
        Ok(Arc::new(Self { positions, order: TokenOrder::Cluster, token_at: OnceLock::new() }))
    }

    /// Tokens in the order of some clusters.
    #[cfg(test)]
    pub(crate) fn in_cluster_order(positions: Positions) -> Arc<Self> {
        Arc::new(Self { positions, order: TokenOrder::Cluster, token_at: OnceLock::new() })
    }

    /// Where the tokens are.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// In which order they lie.
    pub fn order(&self) -> TokenOrder {
        self.order
    }

    /// Whether a token sits on every place of the canvas.
    pub(crate) fn covers_canvas(&self) -> bool {
        self.positions.tokens() == places(self.positions.canvas())
            && (0..self.positions.batch()).all(|image| !self.token_at(image).contains(&NO_TOKEN))
    }

    /// For every place of the canvas, in raster order, the token of an image that sits there, or [`NO_TOKEN`].
    fn token_at(&self, image: usize) -> &[u32] {
        let places = places(self.positions.canvas());
        let all = self.token_at.get_or_init(|| {
            let width = self.positions.canvas().width() as usize;
            let mut token_at = vec![NO_TOKEN; self.positions.batch() * places];
            for (map, pos) in token_at.chunks_exact_mut(places).zip(self.positions.images()) {
                for (token, &[x, y]) in pos.iter().enumerate() {
                    map[y as usize * width + x as usize] = token as u32;
                }
            }
            token_at
        });
        &all[image * places..][..places]
    }

    /// The tokens of every image in raster order, `[B*N]`.
    pub(crate) fn raster_order(&self) -> Vec<u32> {
        let images = 0..self.positions.batch();
        images.flat_map(|image| self.token_at(image)).copied().filter(|&token| token != NO_TOKEN).collect()
    }

    /// The tokens of these that sit where the other tokens sit: u32 `[B,N]`, N being the number of the others.
    pub(crate) fn tokens_under(&self, others: &Self, device: &Device) -> Result<Tensor> {
        let (own, other) = (&self.positions, &others.positions);
        if (own.batch(), own.canvas()) != (other.batch(), other.canvas()) {
            bail!(
                "tokens: {} images on {:?} are looked for among {} on {:?}",
                other.batch(),
                other.canvas(),
                own.batch(),
                own.canvas()
            )
        }
        let width = own.canvas().width() as usize;
        let mut tokens = Vec::with_capacity(other.batch() * other.tokens());
        for (image, pos) in other.images().enumerate() {
            let token_at = self.token_at(image);
            for &[x, y] in pos {
                match token_at[y as usize * width + x as usize] {
                    NO_TOKEN => bail!("tokens: there is none at ({x}, {y}) of image {image}"),
                    token => tokens.push(token),
                }
            }
        }
        Tensor::from_vec(tokens, (other.batch(), other.tokens()), device)
    }
}

fn places(canvas: Canvas) -> usize {
    canvas.width() as usize * canvas.height() as usize
}

/// The tokens of a batch: features `[B,N,C]`, where they are, and in which order.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Features, `[B,N,C]`.
    pub feat: Tensor,
    /// Positions on the stride-4 canvas and the order, shared by all tokens that sit on the same places.
    pub layout: Arc<TokenLayout>,
}

impl Tokens {
    /// Joins features with the layout of their tokens.
    ///
    /// # Errors
    /// If they differ in B or N, or `feat` has not three axes.
    pub fn new(feat: Tensor, layout: Arc<TokenLayout>) -> Result<Self> {
        let (batch, tokens, _) = feat.dims3()?;
        let positions = layout.positions();
        if (batch, tokens) != (positions.batch(), positions.tokens()) {
            bail!(
                "tokens: features {:?} do not fit positions of {} images with {} tokens",
                feat.dims(),
                positions.batch(),
                positions.tokens()
            )
        }
        Ok(Self { feat, layout })
    }

    /// Where the tokens are.
    pub fn positions(&self) -> &Positions {
        self.layout.positions()
    }

    /// Number B of images.
    pub fn batch(&self) -> usize {
        self.positions().batch()
    }

    /// Number N of tokens of an image.
    pub fn count(&self) -> usize {
        self.positions().tokens()
    }

    /// The same tokens in raster order: by y, then by x.
    ///
    /// # Errors
    /// If `feat` was replaced by one of another shape, or two tokens sit on the same place.
    pub fn to_raster(&self) -> Result<Self> {
        if self.layout.order() == TokenOrder::Raster {
            return Ok(self.clone());
        }
        let order = self.layout.raster_order();
        Self::new(gather_tokens(&self.feat, &order)?, TokenLayout::raster(self.positions().select(&order)?)?)
    }

    /// The same places with other features.
    ///
    /// # Errors
    /// If `feat` is not `[B,N,..]`.
    pub fn with_feat(&self, feat: Tensor) -> Result<Self> {
        Self::new(feat, Arc::clone(&self.layout))
    }
}

/// The tokens `[B,N',C]` of `feat [B,N,C]` that `indices [B*N']` name.
pub(crate) fn gather_tokens(feat: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let (batch, tokens, channels) = feat.dims3()?;
    let per_image = indices.len() / batch;
    let rows = indices.iter().enumerate().map(|(i, &index)| (i / per_image * tokens) as u32 + index);
    let rows = Tensor::new(rows.collect::<Vec<_>>(), feat.device())?;
    let flat = feat.contiguous()?.reshape((batch * tokens, channels))?;
    flat.index_select(&rows, 0)?.reshape((batch, per_image, channels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(images: &[&[[i32; 2]]]) -> Positions {
        Positions::new(images.concat(), images.len(), Canvas::new(3, 2).unwrap()).unwrap()
    }

    /// Two images of three tokens on a canvas of 3 x 2, in the order of some clusters.
    fn clustered() -> Arc<TokenLayout> {
        let raster = positions(&[&[[0, 0], [2, 0], [1, 1]], &[[1, 0], [0, 1], [2, 1]]]);
        TokenLayout::raster(raster).unwrap().clustered(&[2, 0, 1, 1, 2, 0]).unwrap()
    }

    #[test]
    fn raster_order_is_the_inverse_of_the_clusters_order() {
        let layout = clustered();
        assert_eq!((layout.order(), layout.positions().image(0)[0]), (TokenOrder::Cluster, [1, 1]));
        assert_eq!(layout.raster_order(), [1, 2, 0, 2, 0, 1]);
        let feat = Tensor::new(&[[[2f32], [0.], [1.]], [[11.], [12.], [10.]]], &Device::Cpu).unwrap();
        let raster = Tokens::new(feat, layout).unwrap().to_raster().unwrap();
        assert_eq!(raster.layout.order(), TokenOrder::Raster);
        assert_eq!(raster.feat.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0., 1., 2., 10., 11., 12.]);
        assert_eq!(raster.positions().image(1), [[1, 0], [0, 1], [2, 1]]);
    }

    #[test]
    fn what_is_not_in_raster_order_is_refused() {
        for wrong in [[[1, 0], [0, 0]], [[0, 1], [2, 0]], [[1, 1], [1, 1]]] {
            let error = TokenLayout::raster(positions(&[&[[0, 0], [1, 0]], &wrong])).unwrap_err().to_string();
            assert!(error.contains("image 1") && error.contains("raster order"), "{error}");
        }
    }

    #[test]
    fn tokens_are_found_by_place_in_any_order() {
        let layout = clustered();
        let others = TokenLayout::raster(positions(&[&[[0, 0], [1, 1]], &[[0, 1], [2, 1]]])).unwrap();
        let under = layout.tokens_under(&others, &Device::Cpu).unwrap();
        assert_eq!(under.to_vec2::<u32>().unwrap(), [[1, 0], [0, 1]]);
        let absent = TokenLayout::raster(positions(&[&[[0, 0]], &[[0, 0]]])).unwrap();
        let error = layout.tokens_under(&absent, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("(0, 0) of image 1"), "{error}");
        let fewer = TokenLayout::raster(positions(&[&[[0, 0]]])).unwrap();
        assert!(layout.tokens_under(&fewer, &Device::Cpu).is_err());
    }

    #[test]
    fn only_a_full_grid_covers_the_canvas() {
        let canvas = Canvas::new(3, 2).unwrap();
        let grid = TokenLayout::full_grid(2, canvas);
        assert!(grid.covers_canvas() && !clustered().covers_canvas());
        let twice = Positions::new(vec![[0, 0]; 6], 1, canvas).unwrap();
        assert!(!TokenLayout::in_cluster_order(twice).covers_canvas());
    }

    #[test]
    fn features_must_fit_their_layout() {
        let feat = Tensor::zeros((2, 4, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = Tokens::new(feat, clustered()).unwrap_err().to_string();
        assert!(error.contains("[2, 4, 1]") && error.contains("3 tokens"), "{error}");
    }
}
