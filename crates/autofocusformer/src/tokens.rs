//! Where the network looks: the tokens of each stage, in the photo's own pixels.

use aff_geometry::{ClusterOptions, PointIndex, cluster};
use aff_model::Phase;
use aff_model::backbone::StageOutput;
use aff_vision::{ImageSize, LabelMap, RgbImage};
use candle_core::DType;

use crate::Error;
use crate::model::{Model, to_tensor};

/// Pixels of the network's input between neighbouring positions on the canvas.
const STRIDE: f64 = 4.0;

/// The tokens that the blocks of a stage worked on.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTokens {
    /// Their positions `(x, y)` in pixels of the photo; those in the padding are left out.
    pub points: Vec<[f32; 2]>,
    /// Their importance, 0 to 1, which decides who goes on to the next stage; none in the last stage.
    pub scores: Option<Vec<f32>>,
    /// The cluster of each.
    pub clusters: Vec<u32>,
}

impl Model {
    /// The tokens of the four stages for a photo.
    ///
    /// ```
    /// use autofocusformer::{Device, Model, vision::RgbImage};
    ///
    /// let model = Model::random("aff-mini", &Device::Cpu)?;
    /// let stages = model.tokens(&RgbImage::new(224, 224))?;
    /// assert_eq!(stages[0].points.len(), 56 * 56);
    /// assert_eq!(stages[1].points.len(), 56 * 56 / 4);
    /// # Ok::<(), autofocusformer::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoPreprocessor`], [`Error::Vision`] for an empty photo, [`Error::Network`] if the network fails.
    pub fn tokens(&self, photo: &RgbImage) -> Result<[StageTokens; 4], Error> {
        let preprocessor = self.preprocessor()?;
        let pixels = preprocessor.apply(photo)?;
        let input = to_tensor(&pixels, self.tensor_options())?;
        let stages = self.network().features(&input, Phase::Inference)?.stages;
        let resized =
            if preprocessor.do_resize { preprocessor.size.size_for(pixels.source) } else { pixels.source };
        let frame = Frame { source: pixels.source, resized, content: pixels.content };
        let cluster_size = self.config().backbone_config.cluster_size;
        let [a, b, c, d] = stages.map(|stage| stage_tokens(&stage, &frame, cluster_size));
        Ok([a?, b?, c?, d?])
    }
}

/// How the network's input lies on the photo.
struct Frame {
    source: ImageSize,
    /// The photo's size when the crop is taken.
    resized: ImageSize,
    /// The crop's size, without padding.
    content: ImageSize,
}

impl Frame {
    /// The photo's pixel that a position on the canvas is the middle of; `None` in the padding.
    fn pixel(&self, [x, y]: [i32; 2]) -> Option<[f32; 2]> {
        let axis = |position: i32, source: u32, resized: u32, content: u32| {
            let middle = (f64::from(position) + 0.5) * STRIDE;
            let start = (f64::from(resized) - f64::from(content)) / 2.0;
            let inside = middle < f64::from(content);
            inside.then_some(((middle + start) * f64::from(source) / f64::from(resized)) as f32)
        };
        let x = axis(x, self.source.width, self.resized.width, self.content.width)?;
        Some([x, axis(y, self.source.height, self.resized.height, self.content.height)?])
    }
}

fn stage_tokens(stage: &StageOutput, frame: &Frame, cluster_size: usize) -> Result<StageTokens, Error> {
    let positions = stage.tokens.positions();
    let pos = positions.image(0);
    let clusters = cluster(pos, positions.canvas(), &ClusterOptions::new(cluster_size))
        .map_err(candle_core::Error::wrap)?;
    let scores: Option<Vec<f32>> = match &stage.downsampled {
        Some(downsampled) => Some(downsampled.scores.to_dtype(DType::F32)?.get(0)?.to_vec1()?),
        None => None,
    };
    let mut tokens =
        StageTokens { points: Vec::new(), scores: scores.as_ref().map(|_| Vec::new()), clusters: Vec::new() };
    for (token, &position) in pos.iter().enumerate() {
        let Some(point) = frame.pixel(position) else { continue };
        tokens.points.push(point);
        tokens.clusters.push(clusters.cluster_of()[token]);
        if let (Some(kept), Some(all)) = (&mut tokens.scores, &scores) {
            kept.push(all[token]);
        }
    }
    Ok(tokens)
}

impl StageTokens {
    /// The cluster of the token nearest to each pixel of a picture of this size: cells that can be drawn like classes.
    ///
    /// # Errors
    /// If there is no token.
    pub fn cells(&self, size: ImageSize) -> Result<LabelMap, Error> {
        let pixels: Vec<[u32; 2]> =
            (0..size.height).flat_map(|y| (0..size.width).map(move |x| [x, y])).collect();
        let index = PointIndex::new(&self.points).map_err(candle_core::Error::wrap)?;
        let nearest = index.k_nearest(&pixels, 1).map_err(candle_core::Error::wrap)?;
        let cluster = |&token: &u32| (self.clusters[token as usize] % u32::from(u16::MAX)) as u16;
        Ok(LabelMap::new(size, nearest.as_slice().iter().map(cluster).collect())?)
    }
}
