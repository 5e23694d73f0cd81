//! Multiply-adds of a network, from what its layers say that they cost.

use candle_core::Result;

use crate::config::{Architecture, ModelConfig, SegmentationConfig, SegmentationTask};
use crate::network::Network;

pub use crate::macs::Macs;

/// Largest offset in the position table of the published segmenter.
const SEGMENTER_TABLE: usize = 511;
/// Pixels of the image for a token of the canvas.
const PIXELS_PER_TOKEN: usize = 16;

/// Multiply-adds of a network, part by part.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Complexity {
    /// Name and multiply-adds of each part, in the order of the forward pass.
    pub parts: Vec<(String, Macs)>,
    /// Tokens at the start of each stage.
    pub tokens: [usize; 4],
}

impl Complexity {
    /// Sum of all parts.
    pub fn total(&self) -> Macs {
        self.parts.iter().map(|(_, part)| *part).sum()
    }
}

/// Height and width of an image in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Network {
    /// Counts the multiply-adds of one image of the given size, without computing anything.
    pub fn complexity(&self, size: InputSize) -> Complexity {
        let config = self.config();
        let (height, width) = (size.height.div_ceil(4), size.width.div_ceil(4));
        let tokens = self.backbone.token_counts(height, width);
        let largest_offset = match config.architecture() {
            Architecture::ImageClassification => height.max(width) - 1,
            Architecture::UniversalSegmentation | Architecture::ObjectDetection => SEGMENTER_TABLE,
        };
        let mut parts = self.backbone.macs(tokens, (2 * largest_offset + 1).pow(2));
        parts.extend(self.head.macs(tokens).into_iter().map(|(name, macs)| (name.to_owned(), macs)));
        if let Some(class_sums) = class_sums(config, tokens[0]) {
            parts.push(("class sums".to_owned(), class_sums));
        }
        Complexity { parts, tokens }
    }
}

/// Semantic inference: the sum over queries of class times mask, at the size of the input.
fn class_sums(config: &ModelConfig, tokens: usize) -> Option<Macs> {
    let semantic = |s: &SegmentationConfig| s.task == SegmentationTask::Semantic;
    let queries = config.num_queries?;
    config.segmentation_config.as_ref().filter(|segmentation| semantic(segmentation))?;
    Some(Macs::products(queries * config.num_classes() * PIXELS_PER_TOKEN * tokens))
}

/// Counts the multiply-adds that the network of a configuration needs for one image of the given size.
///
/// ```
/// use aff_model::complexity::{InputSize, complexity};
/// use aff_model::config::ModelConfig;
/// use aff_model::presets;
///
/// let preset = presets::classifier("aff-mini").unwrap();
/// let config = ModelConfig::classifier(preset.backbone, (0..1000).map(|i| i.to_string()));
/// let total = complexity(&config, InputSize { height: 224, width: 224 })?.total();
/// assert_eq!(total.published / 10_000_000, 108); // 1.08 G, as published
/// # candle_core::Result::Ok(())
/// ```
///
/// # Errors
/// If the configuration is not valid.
pub fn complexity(config: &ModelConfig, size: InputSize) -> Result<Complexity> {
    Ok(Network::of_zeros(config)?.complexity(size))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use candle_nn::{VarBuilder, VarMap};

    use super::*;
    use crate::Phase;
    use crate::config::{
        BackboneConfig, DecoderConfig, DeformableDetrConfig, Downsampling, HcFormerConfig, Mask2FormerConfig,
    };
    use crate::macs::measured;

    fn backbone() -> BackboneConfig {
        BackboneConfig::new([8, 12, 16, 20], [1, 2, 2, 1], [2, 2, 4, 4])
    }

    fn mask2former() -> DecoderConfig {
        Mask2FormerConfig {
            hidden_dim: 16,
            mask_feature_size: 12,
            num_attention_heads: 4,
            encoder_layers: 2,
            encoder_feedforward_dim: 24,
            num_sampling_points: 3,
            decoder_layers: 4,
            decoder_feedforward_dim: 20,
            ..Mask2FormerConfig::default()
        }
        .into()
    }

    fn hcformer(encoder_layers: usize) -> DecoderConfig {
        HcFormerConfig {
            hidden_dim: 16,
            mask_feature_size: 12,
            num_attention_heads: 4,
            encoder_layers,
            encoder_feedforward_dim: 24,
            decoder_layers: 3,
            decoder_feedforward_dim: 20,
            assignment_dim: 10,
            assignment_neighbors: 9,
        }
        .into()
    }

    fn segmenter(backbone: BackboneConfig, decoder: DecoderConfig) -> ModelConfig {
        let segmentation = SegmentationConfig::new(SegmentationTask::Instance);
        ModelConfig::segmenter(backbone, decoder, 7, segmentation, ["a", "b", "c"].map(str::to_owned))
    }

    fn detector(with_box_refine: bool, two_stage: bool) -> ModelConfig {
        let decoder = DeformableDetrConfig {
            hidden_dim: 16,
            num_attention_heads: 4,
            encoder_layers: 2,
            encoder_feedforward_dim: 24,
            num_sampling_points: 3,
            decoder_layers: 3,
            decoder_feedforward_dim: 20,
            with_box_refine,
            two_stage,
            ..DeformableDetrConfig::default()
        };
        ModelConfig::detector(backbone(), decoder, 7, ["a", "b", "c"].map(str::to_owned))
    }

    /// What layers say that they cost is what a forward pass performs, product by product.
    #[test]
    fn executed_products_are_those_that_a_forward_pass_performs() {
        let mut grid = backbone();
        grid.downsampling = Downsampling::Grid;
        let mut rate = backbone();
        rate.downsample_rate = 0.2;
        let configs = [
            ("classifier", ModelConfig::classifier(backbone(), ["a", "b"].map(str::to_owned))),
            ("classifier at 1/5", ModelConfig::classifier(rate, ["a", "b"].map(str::to_owned))),
            ("Mask2Former", segmenter(backbone(), mask2former())),
            ("Mask2Former on a grid", segmenter(grid, mask2former())),
            ("HCFormer", segmenter(backbone(), hcformer(0))),
            ("HCFormer+", segmenter(backbone(), hcformer(2))),
            ("Deformable DETR", detector(true, false)),
            ("Deformable DETR without refinement", detector(false, false)),
            ("Deformable DETR in two stages", detector(true, true)),
        ];
        for (name, config) in configs {
            let variables = VarMap::new();
            let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
            let network = Network::new(&config, &vb).unwrap();
            for (height, width) in [(96, 128), (101, 75), (67, 230)] {
                let image = Tensor::randn(0f32, 1.0, (1, 3, height, width), &Device::Cpu).unwrap();
                let (products, output) = measured::during(|| network.forward(&image, Phase::Inference));
                output.unwrap();
                let counted = complexity(&config, InputSize { height, width }).unwrap().total();
                assert_eq!(counted.executed, products, "{name} at {height} x {width}");
            }
        }
    }

    #[test]
    fn tokens_are_counted_as_they_come() {
        let config = ModelConfig::classifier(backbone(), ["a".to_owned()]);
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let network = Network::new(&config, &vb).unwrap();
        for (height, width) in [(1, 1), (5, 130), (64, 64), (93, 55)] {
            let image = Tensor::randn(0f32, 1.0, (1, 3, height, width), &Device::Cpu).unwrap();
            let stages = network.features(&image, Phase::Inference).unwrap().stages;
            let found = stages.map(|stage| stage.tokens.count());
            assert_eq!(network.complexity(InputSize { height, width }).tokens, found, "{height} x {width}");
        }
    }
}
