//! Multiply-adds of a configuration, walked without building the network.
//!
//! Published figures come from a counter that sees library calls and not hand-written kernels: convolutions, linear
//! layers, dense attention products, the classes summed over queries, layer norms (5 for each value), and the linear
//! layer that each attention block of the published code runs over its **table** of relative positions: every offset
//! between two places of the canvas in the classifier, every offset up to 511 in the segmenter. It does not see cluster
//! attention's products, merging, or deformable sampling. [`Macs::published`] counts that way and explains the published
//! rows (see the tests); [`Macs::executed`] counts the products that this implementation performs.

use aff_geometry::clusters_per_neighborhood;

use crate::config::{
    BackboneConfig, DecoderConfig, Downsampling, HcFormerConfig, Mask2FormerConfig, ModelConfig,
    SegmentationConfig, SegmentationTask,
};
use crate::pixel_decoder::{FINE_NEIGHBORS, LEVELS, SHEPARD_NEIGHBORS};

/// Operations that the published counter takes for one value of a layer norm.
const NORM_OPERATIONS: u64 = 5;
/// Largest offset in the position table of the published segmenter.
const SEGMENTER_TABLE: u64 = 511;
/// Features of a relative position.
const PHI: u64 = 5;
/// Weight channels of a merge.
const WEIGHT_CHANNELS: u64 = 4;

/// Multiply-adds of a part of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Macs {
    /// As the published figures count.
    pub published: u64,
    /// Products that are performed here.
    pub executed: u64,
}

/// Multiply-adds of a network, part by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complexity {
    /// Name and multiply-adds of each part, in the order of the forward pass.
    pub parts: Vec<(String, Macs)>,
    /// Tokens at the start of each stage.
    pub tokens: [usize; 4],
}

impl Complexity {
    /// Sum of all parts.
    pub fn total(&self) -> Macs {
        let mut total = Macs::default();
        for (_, part) in &self.parts {
            total.published += part.published;
            total.executed += part.executed;
        }
        total
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

/// Counts the multiply-adds of one image of the given size.
///
/// ```
/// use aff_model::complexity::{InputSize, complexity};
/// use aff_model::config::ModelConfig;
/// use aff_model::presets;
///
/// let preset = presets::classifier("aff-mini").unwrap();
/// let config = ModelConfig::classifier(preset.backbone, (0..1000).map(|i| i.to_string()));
/// let total = complexity(&config, InputSize { height: 224, width: 224 }).total();
/// assert_eq!(total.published / 10_000_000, 108); // 1.08 G, as published
/// ```
pub fn complexity(config: &ModelConfig, size: InputSize) -> Complexity {
    let backbone = &config.backbone_config;
    let (height, width) = (size.height.div_ceil(4), size.width.div_ceil(4));
    let tokens = stage_tokens(backbone, height, width);
    let table = if config.decoder_config.is_some() {
        (2 * SEGMENTER_TABLE + 1).pow(2)
    } else {
        (2 * height.max(width) as u64 - 1).pow(2)
    };
    let mut parts = vec![("patch embedding".to_owned(), patch_embedding(backbone, tokens[0]))];
    for stage in 0..4 {
        parts.push((format!("stage {}", stage + 1), stage_macs(backbone, stage, &tokens, table)));
    }
    match &config.decoder_config {
        Some(decoder) => {
            let queries = config.num_queries.unwrap_or(0) as u64;
            let head = Head { config, queries, tokens: tokens.map(|n| n as u64) };
            parts.extend(head.parts(decoder));
        }
        None => {
            let mut head = Macs::default();
            head.norm(tokens[3] as u64, backbone.embed_dims[3] as u64);
            head.linear(1, backbone.embed_dims[3] as u64, config.num_classes() as u64);
            parts.push(("head".to_owned(), head));
        }
    }
    Complexity { parts, tokens }
}

/// Tokens at the start of each stage: `floor(N * rate)`, but never fewer than are reserved.
fn stage_tokens(backbone: &BackboneConfig, height: usize, width: usize) -> [usize; 4] {
    let mut tokens = [height * width; 4];
    for stage in 1..4 {
        let stride = 2 << stage;
        let reserved = height.div_ceil(stride) * width.div_ceil(stride);
        tokens[stage] = match backbone.downsampling {
            Downsampling::Adaptive => {
                let kept = (tokens[stage - 1] as f64 * backbone.downsample_rate) as usize;
                kept.max(reserved)
            }
            Downsampling::Grid => height.div_ceil(stride / 2) * width.div_ceil(stride / 2),
        };
    }
    tokens
}

impl Macs {
    fn both(&mut self, products: u64) {
        self.published += products;
        self.executed += products;
    }

    fn linear(&mut self, rows: u64, input: u64, output: u64) {
        self.both(rows * input * output);
    }

    fn norm(&mut self, rows: u64, channels: u64) {
        self.published += NORM_OPERATIONS * rows * channels;
    }
}

fn patch_embedding(backbone: &BackboneConfig, tokens: usize) -> Macs {
    let (tokens, channels) = (tokens as u64, backbone.embed_dims[0] as u64);
    let mut macs = Macs::default();
    macs.both(4 * tokens * (3 * 9) * (channels / 2));
    macs.both(tokens * (channels / 2 * 9) * channels);
    macs.norm(tokens, channels);
    macs
}

fn stage_macs(backbone: &BackboneConfig, stage: usize, tokens: &[usize; 4], table: u64) -> Macs {
    let (n, channels) = (tokens[stage] as u64, backbone.embed_dims[stage] as u64);
    let (heads, hidden) = (backbone.num_heads[stage] as u64, backbone.mlp_hidden(stage) as u64);
    let slots = neighborhood_slots(backbone, stage, tokens[stage]) as u64;
    let mut macs = Macs::default();
    for _ in 0..backbone.depths[stage] {
        macs.norm(2 * n, channels);
        macs.linear(n, channels, 4 * channels);
        macs.linear(n, channels, 2 * hidden);
        macs.published += table * PHI * heads;
        macs.executed += n * slots * PHI * heads + 2 * n * (slots + 1) * channels;
    }
    if stage < 3 {
        let (kept, next) = (tokens[stage + 1] as u64, backbone.embed_dims[stage + 1] as u64);
        macs.linear(n, channels, 1);
        macs.linear(kept * slots, PHI, WEIGHT_CHANNELS);
        macs.norm(kept * slots, WEIGHT_CHANNELS);
        macs.executed += kept * slots * WEIGHT_CHANNELS * channels;
        macs.norm(kept, WEIGHT_CHANNELS * channels);
        macs.linear(kept, WEIGHT_CHANNELS * channels, next);
    }
    macs
}

fn neighborhood_slots(backbone: &BackboneConfig, stage: usize, tokens: usize) -> usize {
    let nbhd = backbone.neighborhood_sizes[stage];
    if nbhd >= tokens {
        return tokens;
    }
    let clusters = tokens.div_ceil(backbone.cluster_size);
    clusters_per_neighborhood(nbhd, backbone.cluster_size, clusters) * backbone.cluster_size
}

/// The segmentation head of one image.
struct Head<'a> {
    config: &'a ModelConfig,
    queries: u64,
    tokens: [u64; 4],
}

/// Sizes that the transformer decoders of both heads have.
struct Decoder {
    hidden: u64,
    mask_features: u64,
    feedforward: u64,
    layers: usize,
    /// Keys of each level, in the order in which layers take turns.
    levels: Vec<u64>,
    /// Tokens that masks are predicted on.
    mask_tokens: u64,
}

impl Head<'_> {
    fn parts(&self, decoder: &DecoderConfig) -> Vec<(String, Macs)> {
        let named = |name: &str, macs| (name.to_owned(), macs);
        match decoder {
            DecoderConfig::Mask2Former(config) => {
                let decoder = Decoder {
                    hidden: config.hidden_dim as u64,
                    mask_features: config.mask_feature_size as u64,
                    feedforward: config.decoder_feedforward_dim as u64,
                    layers: config.decoder_layers,
                    levels: vec![self.tokens[3], self.tokens[2], self.tokens[1]],
                    mask_tokens: self.tokens[0],
                };
                vec![
                    named("pixel decoder", self.pixel_decoder(config)),
                    named("transformer decoder", self.transformer_decoder(&decoder)),
                    named("class sums", self.class_sums()),
                ]
            }
            DecoderConfig::HcFormer(config) => {
                let decoder = Decoder {
                    hidden: config.hidden_dim as u64,
                    mask_features: config.mask_feature_size as u64,
                    feedforward: config.decoder_feedforward_dim as u64,
                    layers: config.decoder_layers,
                    levels: vec![self.tokens[3]],
                    mask_tokens: self.tokens[3],
                };
                vec![
                    named("encoder", self.plain_encoder(config)),
                    named("transformer decoder", self.transformer_decoder(&decoder)),
                    named("assignments", self.assignments(config)),
                    named("class sums", self.class_sums()),
                ]
            }
        }
    }

    fn pixel_decoder(&self, decoder: &Mask2FormerConfig) -> Macs {
        let dims = self.config.backbone_config.embed_dims;
        let hidden = decoder.hidden_dim as u64;
        let mut macs = Macs::default();
        for (&tokens, &dim) in self.tokens.iter().zip(&dims) {
            macs.norm(tokens, dim as u64 + hidden);
            macs.linear(tokens, dim as u64, hidden);
        }
        let attended: u64 = self.tokens[1..].iter().sum();
        let locations = (decoder.num_attention_heads * LEVELS * decoder.num_sampling_points) as u64;
        for _ in 0..decoder.encoder_layers {
            macs.linear(attended, hidden, 2 * hidden + 3 * locations);
            macs.linear(attended, hidden, 2 * decoder.encoder_feedforward_dim as u64);
            macs.norm(2 * attended, hidden);
            let width = hidden / decoder.num_attention_heads as u64;
            macs.executed += attended * locations * SHEPARD_NEIGHBORS as u64 * width;
        }
        let (fine, neighbors) = (self.tokens[0], FINE_NEIGHBORS as u64);
        macs.executed += fine * SHEPARD_NEIGHBORS as u64 * hidden;
        macs.linear(fine * neighbors, PHI, WEIGHT_CHANNELS);
        macs.norm(fine * neighbors, WEIGHT_CHANNELS);
        macs.executed += fine * neighbors * WEIGHT_CHANNELS * hidden;
        macs.norm(fine, (WEIGHT_CHANNELS + 1) * hidden);
        macs.linear(fine, WEIGHT_CHANNELS * hidden, hidden);
        macs.linear(fine, hidden, decoder.mask_feature_size as u64);
        macs
    }

    fn plain_encoder(&self, config: &HcFormerConfig) -> Macs {
        let (tokens, hidden) = (self.tokens[3], config.hidden_dim as u64);
        let channels = self.config.backbone_config.embed_dims[3] as u64;
        let mut macs = Macs::default();
        macs.norm(tokens, channels + hidden);
        macs.linear(tokens, channels, hidden);
        for _ in 0..config.encoder_layers {
            macs.linear(4 * tokens, hidden, hidden);
            macs.both(2 * tokens * tokens * hidden);
            macs.linear(tokens, hidden, 2 * config.encoder_feedforward_dim as u64);
            macs.norm(2 * tokens, hidden);
        }
        macs.linear(tokens, hidden, config.mask_feature_size as u64);
        macs
    }

    fn transformer_decoder(&self, decoder: &Decoder) -> Macs {
        let &Decoder { hidden, mask_features, .. } = decoder;
        let (queries, classes) = (self.queries, self.config.num_classes() as u64 + 1);
        let mut macs = Macs::default();
        for layer in 0..decoder.layers {
            let keys = decoder.levels[layer % decoder.levels.len()];
            macs.linear(2 * queries + 2 * keys, hidden, hidden);
            macs.both(2 * queries * keys * hidden);
            macs.linear(4 * queries, hidden, hidden);
            macs.both(2 * queries * queries * hidden);
            macs.linear(queries, hidden, 2 * decoder.feedforward);
            macs.norm(3 * queries, hidden);
        }
        for _ in 0..=decoder.layers {
            macs.norm(queries, hidden);
            macs.linear(queries, hidden, classes + 2 * hidden + mask_features);
            macs.both(queries * mask_features * decoder.mask_tokens);
        }
        macs
    }

    fn assignments(&self, config: &HcFormerConfig) -> Macs {
        let dims = self.config.backbone_config.embed_dims;
        let mut macs = Macs::default();
        for stage in 0..3 {
            let (fine, coarse) = (self.tokens[stage], self.tokens[stage + 1]);
            let neighbors = (config.assignment_neighbors as u64).min(coarse);
            macs.norm(fine, dims[stage] as u64);
            macs.norm(coarse, dims[stage + 1] as u64);
            macs.linear(fine, dims[stage] as u64, config.assignment_dim as u64);
            macs.linear(coarse, dims[stage + 1] as u64, config.assignment_dim as u64);
            macs.executed += fine * neighbors * (config.assignment_dim as u64 + PHI + self.queries);
        }
        macs
    }

    /// Semantic inference: the sum over queries of class times mask, at the size of the input.
    fn class_sums(&self) -> Macs {
        let mut macs = Macs::default();
        let semantic = |s: &SegmentationConfig| s.task == SegmentationTask::Semantic;
        if self.config.segmentation_config.as_ref().is_some_and(semantic) {
            macs.both(self.queries * self.config.num_classes() as u64 * 16 * self.tokens[0]);
        }
        macs
    }
}
