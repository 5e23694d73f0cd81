//! The published models by name (section 6 of the method). Stochastic depth is a matter of the training recipe: presets
//! have none.

use crate::config::BackboneConfig;

/// A published backbone with what its classifier was trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierPreset {
    /// Name, such as `aff-tiny`.
    pub name: &'static str,
    /// The backbone.
    pub backbone: BackboneConfig,
    /// Classes of the classifier.
    pub num_classes: usize,
    /// Height and width of its input in pixels.
    pub image_size: usize,
}

/// Sizes of the four published backbones.
struct Shape {
    embed_dims: [usize; 4],
    depths: [usize; 4],
    num_heads: [usize; 4],
    mlp_ratio: f64,
    layer_scale_init: Option<f64>,
}

const MINI: Shape = Shape {
    embed_dims: [32, 128, 256, 384],
    depths: [2, 2, 6, 2],
    num_heads: [2, 4, 8, 16],
    mlp_ratio: 2.0,
    layer_scale_init: None,
};
const TINY: Shape = Shape {
    embed_dims: [64, 128, 256, 512],
    depths: [3, 4, 18, 5],
    num_heads: [2, 4, 8, 16],
    mlp_ratio: 3.0,
    layer_scale_init: None,
};
const SMALL: Shape = Shape {
    embed_dims: [96, 192, 384, 768],
    depths: [3, 4, 18, 2],
    num_heads: [3, 6, 12, 24],
    mlp_ratio: 3.0,
    layer_scale_init: Some(1e-5),
};
const BASE: Shape = Shape {
    embed_dims: [128, 256, 512, 1024],
    depths: [3, 4, 18, 2],
    num_heads: [4, 8, 16, 32],
    mlp_ratio: 3.0,
    layer_scale_init: Some(1e-5),
};

/// Neighbourhoods of all published classifiers but base-384.
const CLASSIFIER_NEIGHBORHOODS: [usize; 4] = [48, 48, 48, 49];
/// Importance weight of all published classifiers.
const ALPHA: f64 = 4.0;

/// A name, the shape, the rate, the clustering (size, neighbourhoods), the classes and the input.
type Row = (&'static str, &'static Shape, f64, (usize, [usize; 4]), usize, usize);

const ROWS: [Row; 8] = [
    ("aff-mini", &MINI, 0.25, (8, CLASSIFIER_NEIGHBORHOODS), 1000, 224),
    ("aff-mini-1-5", &MINI, 0.2, (8, CLASSIFIER_NEIGHBORHOODS), 1000, 224),
    ("aff-tiny", &TINY, 0.25, (8, CLASSIFIER_NEIGHBORHOODS), 1000, 224),
    ("aff-tiny-1-5", &TINY, 0.2, (8, CLASSIFIER_NEIGHBORHOODS), 1000, 224),
    ("aff-small", &SMALL, 0.25, (8, CLASSIFIER_NEIGHBORHOODS), 1000, 224),
    ("aff-small-1-5", &SMALL, 0.2, (8, CLASSIFIER_NEIGHBORHOODS), 1000, 224),
    ("aff-base-22k", &BASE, 0.25, (8, CLASSIFIER_NEIGHBORHOODS), 21_841, 224),
    ("aff-base-384", &BASE, 0.25, (24, [144; 4]), 1000, 384),
];

/// Every published classifier.
///
/// ```
/// let names: Vec<_> = aff_model::presets::classifiers().iter().map(|preset| preset.name).collect();
/// assert_eq!(names[..2], ["aff-mini", "aff-mini-1-5"]);
/// ```
pub fn classifiers() -> Vec<ClassifierPreset> {
    ROWS.iter().map(preset).collect()
}

/// The published classifier of a name; `None` if there is no such.
///
/// ```
/// let tiny = aff_model::presets::classifier("aff-tiny").unwrap();
/// assert_eq!(tiny.backbone.depths, [3, 4, 18, 5]);
/// ```
pub fn classifier(name: &str) -> Option<ClassifierPreset> {
    ROWS.iter().find(|row| row.0 == name).map(preset)
}

fn preset(&(name, shape, downsample_rate, clustering, num_classes, image_size): &Row) -> ClassifierPreset {
    let (cluster_size, neighborhood_sizes) = clustering;
    let backbone = BackboneConfig {
        embed_dims: shape.embed_dims,
        depths: shape.depths,
        num_heads: shape.num_heads,
        mlp_ratio: shape.mlp_ratio,
        cluster_size,
        neighborhood_sizes,
        downsample_rate,
        alpha: ALPHA,
        layer_scale_init: shape.layer_scale_init,
        drop_path_rate: 0.0,
    };
    ClassifierPreset { name, backbone, num_classes, image_size }
}
