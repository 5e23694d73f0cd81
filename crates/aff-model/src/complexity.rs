//! Multiply-adds of a configuration, walked without building the network.
//!
//! Published figures come from a counter that sees library calls and not hand-written kernels: convolutions, linear
//! layers, dense attention products, the classes summed over queries, layer norms (5 for each value), and the linear
//! layer that each attention block of the published code runs over its **table** of relative positions: every offset
//! between two places of the canvas in the classifier, every offset up to 511 in the segmenter. It does not see cluster
//! attention's products, merging, or deformable sampling. [`Macs::published`] counts that way and explains the published
//! rows (see the tests); [`Macs::executed`] counts the products that this implementation performs.

use aff_geometry::clusters_per_neighborhood;

use crate::config::{BackboneConfig, Mask2FormerConfig, ModelConfig, SegmentationTask};
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
    match (&config.decoder_config, config.num_queries) {
        (Some(decoder), Some(queries)) => {
            let head = Head { config, decoder, queries: queries as u64, tokens: tokens.map(|n| n as u64) };
            parts.push(("pixel decoder".to_owned(), head.pixel_decoder()));
            parts.push(("transformer decoder".to_owned(), head.transformer_decoder()));
            parts.push(("class sums".to_owned(), head.class_sums()));
        }
        _ => {
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
        let kept = (tokens[stage - 1] as f64 * backbone.downsample_rate) as usize;
        tokens[stage] = kept.max(reserved);
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
    decoder: &'a Mask2FormerConfig,
    queries: u64,
    tokens: [u64; 4],
}

impl Head<'_> {
    fn pixel_decoder(&self) -> Macs {
        let (decoder, dims) = (self.decoder, self.config.backbone_config.embed_dims);
        let hidden = decoder.hidden_dim as u64;
        let mut macs = Macs::default();
        for stage in 0..4 {
            macs.norm(self.tokens[stage], dims[stage] as u64 + hidden);
            macs.linear(self.tokens[stage], dims[stage] as u64, hidden);
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

    fn transformer_decoder(&self) -> Macs {
        let decoder = self.decoder;
        let (hidden, queries) = (decoder.hidden_dim as u64, self.queries);
        let (masks, classes) = (decoder.mask_feature_size as u64, self.config.num_classes() as u64 + 1);
        let mut macs = Macs::default();
        for layer in 0..decoder.decoder_layers {
            let keys = self.tokens[LEVELS - layer % LEVELS];
            macs.linear(2 * queries + 2 * keys, hidden, hidden);
            macs.both(2 * queries * keys * hidden);
            macs.linear(4 * queries, hidden, hidden);
            macs.both(2 * queries * queries * hidden);
            macs.linear(queries, hidden, 2 * decoder.decoder_feedforward_dim as u64);
            macs.norm(3 * queries, hidden);
        }
        for _ in 0..=decoder.decoder_layers {
            macs.norm(queries, hidden);
            macs.linear(queries, hidden, classes + 2 * hidden + masks);
            macs.both(queries * masks * self.tokens[0]);
        }
        macs
    }

    /// Semantic inference: the sum over queries of class times mask, at the size of the input.
    fn class_sums(&self) -> Macs {
        let mut macs = Macs::default();
        let semantic = |s: &crate::config::SegmentationConfig| s.task == SegmentationTask::Semantic;
        if self.config.segmentation_config.as_ref().is_some_and(semantic) {
            macs.both(self.queries * self.config.num_classes() as u64 * 16 * self.tokens[0]);
        }
        macs
    }
}
