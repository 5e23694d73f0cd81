//! The published models by name (section 6 of the method). Stochastic depth is a matter of the training recipe: presets
//! have none.

use crate::config::{
    BackboneConfig, Downsampling, Mask2FormerConfig, ModelConfig, SegmentationConfig, SegmentationTask,
};
use crate::data_sets::DataSet;

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

static MINI: Shape = Shape {
    embed_dims: [32, 128, 256, 384],
    depths: [2, 2, 6, 2],
    num_heads: [2, 4, 8, 16],
    mlp_ratio: 2.0,
    layer_scale_init: None,
};
static TINY: Shape = Shape {
    embed_dims: [64, 128, 256, 512],
    depths: [3, 4, 18, 5],
    num_heads: [2, 4, 8, 16],
    mlp_ratio: 3.0,
    layer_scale_init: None,
};
static SMALL: Shape = Shape {
    embed_dims: [96, 192, 384, 768],
    depths: [3, 4, 18, 2],
    num_heads: [3, 6, 12, 24],
    mlp_ratio: 3.0,
    layer_scale_init: Some(1e-5),
};
static BASE: Shape = Shape {
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

static ROWS: [Row; 8] = [
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
        downsampling: Downsampling::Adaptive,
    };
    ClassifierPreset { name, backbone, num_classes, image_size }
}

/// A published segmenter.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmenterPreset {
    /// Name, such as `aff-mini-ade20k-semantic`.
    pub name: String,
    /// The backbone.
    pub backbone: BackboneConfig,
    /// The head.
    pub decoder: Mask2FormerConfig,
    /// Object queries of the head. Published checkpoints of Base differ; conversion takes theirs from the weights.
    pub num_queries: usize,
    /// What it was trained on.
    pub data_set: DataSet,
    /// How predictions become segments.
    pub segmentation: SegmentationConfig,
    /// Edges that images are resized to: the shortest, and the most that the longest gets.
    pub edges: (u32, u32),
}

impl SegmenterPreset {
    /// The whole configuration.
    pub fn config(&self) -> ModelConfig {
        ModelConfig::segmenter(
            self.backbone.clone(),
            self.decoder.clone(),
            self.num_queries,
            self.segmentation.clone(),
            self.data_set.labels(),
        )
    }
}

/// What the segmenters of a data set and task have in common.
struct Recipe {
    suffix: &'static str,
    backbones: &'static [(&'static str, &'static Row)],
    data_set: DataSet,
    task: SegmentationTask,
    alpha: f64,
    shepard_power_init: f64,
    edges: (u32, u32),
}

/// The published backbones by the name that their segmenters have.
static FOUR: &[(&str, &Row)] =
    &[("aff-mini", &ROWS[0]), ("aff-tiny", &ROWS[2]), ("aff-small", &ROWS[4]), ("aff-base", &ROWS[7])];
static SIX: &[(&str, &Row)] = &[
    ("aff-mini", &ROWS[0]),
    ("aff-mini-1-5", &ROWS[1]),
    ("aff-tiny", &ROWS[2]),
    ("aff-tiny-1-5", &ROWS[3]),
    ("aff-small", &ROWS[4]),
    ("aff-small-1-5", &ROWS[5]),
];

static RECIPES: [Recipe; 4] = [
    Recipe {
        suffix: "ade20k-semantic",
        backbones: SIX,
        data_set: DataSet::Ade20k,
        task: SegmentationTask::Semantic,
        alpha: 4.0,
        shepard_power_init: 3.0,
        edges: (512, 2048),
    },
    Recipe {
        suffix: "cityscapes-instance",
        backbones: FOUR,
        data_set: DataSet::CityscapesInstances,
        task: SegmentationTask::Instance,
        alpha: 8.0,
        shepard_power_init: 3.0,
        edges: (1024, 2048),
    },
    Recipe {
        suffix: "cityscapes-panoptic",
        backbones: FOUR,
        data_set: DataSet::Cityscapes,
        task: SegmentationTask::Panoptic,
        alpha: 8.0,
        shepard_power_init: 3.0,
        edges: (1024, 2048),
    },
    Recipe {
        suffix: "coco-instance",
        backbones: SIX,
        data_set: DataSet::CocoInstances,
        task: SegmentationTask::Instance,
        alpha: 4.0,
        shepard_power_init: 2.0,
        edges: (800, 1333),
    },
];

/// Every published segmenter.
///
/// ```
/// let presets = aff_model::presets::segmenters();
/// assert_eq!(presets.len(), 20);
/// assert_eq!(presets[0].name, "aff-mini-ade20k-semantic");
/// ```
pub fn segmenters() -> Vec<SegmenterPreset> {
    RECIPES
        .iter()
        .flat_map(|recipe| recipe.backbones.iter().map(|(name, row)| segmenter(recipe, name, row)))
        .collect()
}

fn segmenter(recipe: &Recipe, backbone: &str, row: &Row) -> SegmenterPreset {
    let base = backbone == "aff-base";
    let mut config = preset(row).backbone;
    config.alpha = recipe.alpha;
    (config.cluster_size, config.neighborhood_sizes) = if base { (24, [144; 4]) } else { (8, [48; 4]) };
    let queries = if base { 250 } else { 100 };
    SegmenterPreset {
        name: format!("{backbone}-{}", recipe.suffix),
        backbone: config,
        decoder: Mask2FormerConfig {
            hidden_dim: 256,
            mask_feature_size: 256,
            num_attention_heads: 8,
            encoder_layers: 6,
            encoder_feedforward_dim: 1024,
            num_sampling_points: 4,
            shepard_power_init: recipe.shepard_power_init,
            decoder_layers: 9,
            decoder_feedforward_dim: 2048,
        },
        num_queries: queries,
        data_set: recipe.data_set,
        segmentation: SegmentationConfig {
            thing_ids: recipe.data_set.thing_ids(),
            max_instances: queries,
            ..SegmentationConfig::new(recipe.task)
        },
        edges: recipe.edges,
    }
}
