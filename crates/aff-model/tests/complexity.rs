//! Multiply-adds against the published figures.
#![allow(clippy::unwrap_used)]

use aff_model::complexity::{InputSize, complexity};
use aff_model::config::{Mask2FormerConfig, ModelConfig, SegmentationConfig, SegmentationTask};
use aff_model::presets;

fn labels(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("LABEL_{i}"))
}

fn published(config: &ModelConfig, side: usize) -> f64 {
    complexity(config, InputSize { height: side, width: side }).unwrap().total().published as f64 / 1e9
}

/// Figures in G from the paper (section 6); the classifiers' own input sizes.
#[test]
fn classifiers_within_three_percent() {
    let rows = [
        ("aff-mini", 1.08),
        ("aff-mini-1-5", 0.72),
        ("aff-tiny", 4.0),
        ("aff-tiny-1-5", 2.74),
        ("aff-small", 8.16),
        ("aff-small-1-5", 5.69),
        ("aff-base-384", 42.54),
    ];
    for (name, figure) in rows {
        let preset = presets::classifier(name).unwrap();
        let config = ModelConfig::classifier(preset.backbone, labels(preset.num_classes));
        let found = published(&config, preset.image_size);
        assert!((found / figure - 1.0).abs() < 0.03, "{name}: {found} G, published {figure} G");
    }
}

/// Figures in G from the paper (section 10), ADE20K at 512 x 512.
#[test]
fn ade20k_segmenters_within_five_percent() {
    let rows = [
        ("aff-mini", 48.3),
        ("aff-mini-1-5", 39.9),
        ("aff-tiny", 64.6),
        ("aff-tiny-1-5", 51.1),
        ("aff-small", 87.0),
        ("aff-small-1-5", 67.2),
    ];
    for (name, figure) in rows {
        let mut backbone = presets::classifier(name).unwrap().backbone;
        backbone.neighborhood_sizes = [48; 4];
        let decoder = Mask2FormerConfig::default();
        let segmentation = SegmentationConfig::new(SegmentationTask::Semantic);
        let config = ModelConfig::segmenter(backbone, decoder, 100, segmentation, labels(150));
        let found = published(&config, 512);
        assert!((found / figure - 1.0).abs() < 0.05, "{name}: {found} G, published {figure} G");
    }
}
