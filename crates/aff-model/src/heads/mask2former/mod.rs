//! The Mask2Former head: sections 7 and 8 of the method.

mod pixel_decoder;

use candle_core::Result;
use candle_nn::VarBuilder;

use super::{Auxiliary, HeadSizes, MaskOutput};
use crate::Tokens;
use crate::config::Mask2FormerConfig;
use crate::macs::Macs;
use crate::transformer::{LEVELS, MaskCanvas, MaskedDecoder, MaskedDecoderSizes};

pub use pixel_decoder::{PixelDecoder, PixelDecoderOutput};

/// The pixel decoder and the decoder over its levels.
#[derive(Debug, Clone)]
pub struct Mask2FormerHead {
    pixel_decoder: PixelDecoder,
    predictor: MaskedDecoder,
}

impl Mask2FormerHead {
    /// Parameters `pixel_decoder.*` and `predictor.*`.
    pub(crate) fn new(config: &Mask2FormerConfig, sizes: HeadSizes<'_>, vb: &VarBuilder<'_>) -> Result<Self> {
        let decoder = MaskedDecoderSizes {
            width: config.hidden_dim,
            mask_features: config.mask_feature_size,
            heads: config.num_attention_heads,
            feedforward: config.decoder_feedforward_dim,
            layers: config.decoder_layers,
            levels: LEVELS,
            queries: sizes.queries,
            classes: sizes.classes,
        };
        Ok(Self {
            pixel_decoder: PixelDecoder::new(config, sizes.embed_dims, &vb.pp("pixel_decoder"))?,
            predictor: MaskedDecoder::new(decoder, &vb.pp("predictor"))?,
        })
    }

    /// The pixel decoder.
    pub fn pixel_decoder(&self) -> &PixelDecoder {
        &self.pixel_decoder
    }

    pub(super) fn predict(&self, stages: &[Tokens; 4], auxiliary: Auxiliary) -> Result<MaskOutput> {
        let decoded = self.pixel_decoder.forward(stages)?;
        let predictions = self.predictor.forward(&decoded.levels, &decoded.mask_features, auxiliary)?;
        let canvas = MaskCanvas::new(&decoded.mask_features.layout)?;
        let predictions = predictions.into_iter().map(|prediction| canvas.scatter(prediction));
        MaskOutput::new(predictions.collect::<Result<_>>()?, None)
    }

    pub(super) fn macs(&self, tokens: [usize; 4]) -> Vec<(&'static str, Macs)> {
        let levels = [tokens[3], tokens[2], tokens[1]];
        vec![
            ("pixel decoder", self.pixel_decoder.macs(tokens)),
            ("transformer decoder", self.predictor.macs(&levels, tokens[0])),
        ]
    }
}
