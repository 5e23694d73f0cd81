//! The whole segmentation network: backbone, pixel decoder, Mask2Former decoder.

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

use crate::Tokens;
use crate::backbone::{Backbone, StageOutput};
use crate::config::ModelConfig;
use crate::layers::LayerNorm;
use crate::mask2former::{Auxiliary, DecoderOutput, Mask2FormerDecoder};
use crate::pixel_decoder::{PixelDecoder, PixelDecoderOutput};

/// Images in, a class and a mask for each object query out.
#[derive(Debug, Clone)]
pub struct Segmenter {
    backbone: Backbone,
    /// Norms of the stages' tokens before they leave the backbone.
    norms: Vec<LayerNorm>,
    pixel_decoder: PixelDecoder,
    predictor: Mask2FormerDecoder,
}

/// The backbone's part of a segmentation.
#[derive(Debug, Clone)]
pub struct Features {
    /// res2, res3, res4, res5: the normalised tokens of each stage before its downsampling, in the order
    /// of the stage.
    pub levels: [Tokens; 4],
    /// What left each stage of the backbone.
    pub stages: [StageOutput; 4],
}

impl Segmenter {
    /// Builds the segmenter from parameters `backbone.*`, `sem_seg_head.pixel_decoder.*` and
    /// `sem_seg_head.predictor.*`.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape, or the configuration is that of a classifier.
    pub fn new(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (Some(decoder), Some(num_queries)) = (&config.decoder_config, config.num_queries) else {
            bail!("segmenter: the configuration has no `decoder_config` or no `num_queries`; is it a classifier?")
        };
        let dims = &config.backbone_config.embed_dims;
        let backbone = vb.pp("backbone");
        let norms = (0..4).map(|stage| LayerNorm::new(dims[stage], &backbone.pp(format!("norm{stage}"))));
        let head = vb.pp("sem_seg_head");
        let classes = config.num_classes();
        Ok(Self {
            backbone: Backbone::new(&config.backbone_config, &backbone)?,
            norms: norms.collect::<Result<_>>()?,
            pixel_decoder: PixelDecoder::new(decoder, dims, &head.pp("pixel_decoder"))?,
            predictor: Mask2FormerDecoder::new(decoder, num_queries, classes, &head.pp("predictor"))?,
        })
    }

    /// Runs the backbone and normalises its tokens.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`
    ///
    /// # Errors
    /// If the input is not of that shape.
    pub fn features(&self, pixel_values: &Tensor) -> Result<Features> {
        let stages = self.backbone.forward(pixel_values)?;
        let normed = |stage: usize| {
            let tokens = &stages[stage].tokens;
            tokens.with_feat(self.norms[stage].forward(&tokens.feat)?)
        };
        let levels = [normed(0)?, normed(1)?, normed(2)?, normed(3)?];
        Ok(Features { levels, stages })
    }

    /// Runs the pixel decoder on res2 to res5.
    ///
    /// # Errors
    /// If a level has another width than the decoder was built for.
    pub fn decode_pixels(&self, levels: &[Tokens; 4]) -> Result<PixelDecoderOutput> {
        self.pixel_decoder.forward(levels)
    }

    /// Runs the transformer decoder on the output of the pixel decoder.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn predict(&self, decoded: &PixelDecoderOutput, auxiliary: Auxiliary) -> Result<DecoderOutput> {
        self.predictor.forward(decoded, auxiliary)
    }

    /// The three parts in a row.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`
    ///
    /// # Errors
    /// If the input is not of that shape.
    pub fn forward(&self, pixel_values: &Tensor, auxiliary: Auxiliary) -> Result<DecoderOutput> {
        let features = self.features(pixel_values)?;
        self.predict(&self.decode_pixels(&features.levels)?, auxiliary)
    }
}
