//! The whole segmentation network: the backbone and a head.

use std::sync::Arc;

use aff_ops::Positions;
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

use crate::backbone::{Backbone, StageOutput};
use crate::config::{DecoderConfig, Mask2FormerConfig, ModelConfig};
use crate::hcformer::HcFormerHead;
use crate::layers::LayerNorm;
use crate::mask2former::{Auxiliary, DecoderSizes, Mask2FormerDecoder, TokenPrediction};
use crate::pixel_decoder::{LEVELS, PixelDecoder};
use crate::{Phase, Tokens};

/// Images in, a class and a mask for each object query out.
#[derive(Debug, Clone)]
pub struct Segmenter {
    backbone: Backbone,
    /// Norms of the stages' tokens before they leave the backbone.
    norms: Vec<LayerNorm>,
    head: Head,
}

/// Either segmentation head.
#[derive(Debug, Clone)]
pub enum Head {
    /// Pixel decoder and Mask2Former decoder.
    Mask2Former(Mask2FormerHead),
    /// Soft assignments.
    HcFormer(HcFormerHead),
}

/// The pixel decoder and the decoder over its levels.
#[derive(Debug, Clone)]
pub struct Mask2FormerHead {
    /// Section 7 of the method.
    pub pixel_decoder: PixelDecoder,
    /// Section 8 of the method.
    pub predictor: Mask2FormerDecoder,
}

/// The backbone's part of a segmentation.
#[derive(Debug, Clone)]
pub struct Features {
    /// res2, res3, res4, res5: the normalised tokens of each stage before its downsampling, in the order of the stage.
    pub levels: [Tokens; 4],
    /// What left each stage of the backbone.
    pub stages: [StageOutput; 4],
}

/// A class and a mask for every query.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// `[B,Q,classes+1]`; the last class is "no object".
    pub class_logits: Tensor,
    /// `[B,Q,h,w]` on the stride-4 canvas.
    pub mask_logits: Tensor,
}

/// What a segmenter computes.
#[derive(Debug, Clone)]
pub struct SegmenterOutput {
    /// After the last layer.
    pub prediction: Prediction,
    /// Before the first layer and after every layer but the last; empty with [`Auxiliary::Drop`].
    pub auxiliary: Vec<Prediction>,
}

impl Segmenter {
    /// Builds the segmenter from parameters `backbone.*` and `sem_seg_head.*`.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape, or the configuration is that of a classifier.
    pub fn new(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (Some(decoder), Some(queries)) = (&config.decoder_config, config.num_queries) else {
            bail!(
                "segmenter: the configuration has no `decoder_config` or no `num_queries`; is it a classifier?"
            )
        };
        let dims = &config.backbone_config.embed_dims;
        let backbone = vb.pp("backbone");
        let norms = (0..4).map(|stage| LayerNorm::new(dims[stage], &backbone.pp(format!("norm{stage}"))));
        let (head, classes) = (vb.pp("sem_seg_head"), config.num_classes());
        Ok(Self {
            norms: norms.collect::<Result<_>>()?,
            backbone: Backbone::new(&config.backbone_config, &backbone)?,
            head: match decoder {
                DecoderConfig::Mask2Former(decoder) => {
                    Head::Mask2Former(Mask2FormerHead::new(decoder, dims, queries, classes, &head)?)
                }
                DecoderConfig::HcFormer(decoder) => {
                    Head::HcFormer(HcFormerHead::new(decoder, dims, queries, classes, &head)?)
                }
            },
        })
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Runs the backbone and normalises its tokens.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`
    ///
    /// # Errors
    /// If the input is not of that shape.
    pub fn features(&self, pixel_values: &Tensor, phase: Phase) -> Result<Features> {
        let stages = self.backbone.forward(pixel_values, phase)?;
        let normed = |stage: usize| {
            let tokens = &stages[stage].tokens;
            tokens.with_feat(self.norms[stage].forward(&tokens.feat)?)
        };
        let levels = [normed(0)?, normed(1)?, normed(2)?, normed(3)?];
        Ok(Features { levels, stages })
    }

    /// Runs the head on the backbone's tokens.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn predict(&self, features: &Features, auxiliary: Auxiliary) -> Result<SegmenterOutput> {
        let (predictions, pos) = match &self.head {
            Head::Mask2Former(head) => {
                let decoded = head.pixel_decoder.forward(&features.levels)?;
                let predictions =
                    head.predictor.forward(&decoded.levels, &decoded.mask_features, auxiliary)?;
                (predictions, decoded.mask_features.pos)
            }
            Head::HcFormer(head) => {
                let predictions = head.forward(&features.levels[3], &features.stages, auxiliary)?;
                (predictions, Arc::clone(&features.levels[0].pos))
            }
        };
        let canvas = MaskCanvas::new(&pos)?;
        let mut auxiliary = predictions
            .into_iter()
            .map(|prediction| canvas.prediction(prediction))
            .collect::<Result<Vec<_>>>()?;
        let Some(prediction) = auxiliary.pop() else { bail!("segmenter: the head predicted nothing") };
        Ok(SegmenterOutput { prediction, auxiliary })
    }

    /// Backbone and head in a row; in training with the predictions of all layers.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`
    ///
    /// # Errors
    /// If the input is not of that shape.
    pub fn forward(&self, pixel_values: &Tensor, phase: Phase) -> Result<SegmenterOutput> {
        let auxiliary = if phase.is_training() { Auxiliary::Keep } else { Auxiliary::Drop };
        self.predict(&self.features(pixel_values, phase)?, auxiliary)
    }
}

impl Mask2FormerHead {
    /// Builds the head from parameters `pixel_decoder.*` and `predictor.*`.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn new(
        config: &Mask2FormerConfig,
        embed_dims: &[usize; 4],
        queries: usize,
        classes: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let sizes = DecoderSizes {
            width: config.hidden_dim,
            mask_features: config.mask_feature_size,
            heads: config.num_attention_heads,
            feedforward: config.decoder_feedforward_dim,
            layers: config.decoder_layers,
            levels: LEVELS,
            queries,
            classes,
        };
        Ok(Self {
            pixel_decoder: PixelDecoder::new(config, embed_dims, &vb.pp("pixel_decoder"))?,
            predictor: Mask2FormerDecoder::new(sizes, &vb.pp("predictor"))?,
        })
    }
}

/// Where the mask logits of tokens that cover the canvas belong on it.
struct MaskCanvas<'a> {
    pos: &'a Positions,
    /// The token at each place, `[h*w]` for each image, unless tokens are in raster order.
    scatter: Option<Vec<Tensor>>,
}

impl<'a> MaskCanvas<'a> {
    fn new(pos: &'a Positions) -> Result<Self> {
        let canvas = pos.canvas();
        let (width, height) = (canvas.width() as usize, canvas.height() as usize);
        if pos.tokens() != width * height {
            bail!("masks: {} tokens do not cover the canvas {canvas:?}", pos.tokens())
        }
        if *pos == Positions::full_grid(pos.batch(), canvas) {
            return Ok(Self { pos, scatter: None });
        }
        let token_at = |image: &[[i32; 2]]| {
            let mut token_at = vec![0u32; image.len()];
            for (token, &[x, y]) in image.iter().enumerate() {
                token_at[y as usize * width + x as usize] = token as u32;
            }
            Tensor::new(token_at, &candle_core::Device::Cpu)
        };
        Ok(Self { pos, scatter: Some(pos.images().map(token_at).collect::<Result<_>>()?) })
    }

    fn prediction(&self, prediction: TokenPrediction) -> Result<Prediction> {
        let TokenPrediction { class_logits, mask_logits } = prediction;
        let (batch, queries, _) = mask_logits.dims3()?;
        let placed = match &self.scatter {
            None => mask_logits,
            Some(token_at) => {
                let images = token_at.iter().enumerate().map(|(image, token_at)| {
                    let token_at = token_at.to_device(mask_logits.device())?;
                    mask_logits.get(image)?.contiguous()?.index_select(&token_at, 1)
                });
                Tensor::stack(&images.collect::<Result<Vec<_>>>()?, 0)?
            }
        };
        let canvas = self.pos.canvas();
        let (height, width) = (canvas.height() as usize, canvas.width() as usize);
        Ok(Prediction { class_logits, mask_logits: placed.reshape((batch, queries, height, width))? })
    }
}
