//! Models by name: the published ones (sections 6 and 10 of the method), and detectors on their backbones (section 13).

use crate::config::{
    BackboneConfig, DeformableDetrConfig, Mask2FormerConfig, ModelConfig, PaddingSlots, SegmentationConfig,
    SegmentationTask,
};
use crate::data_sets::DataSet;

/// A published backbone with what its classifier was trained on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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

/// The four published backbones.
struct Shape {
    embed_dims: [usize; 4],
    depths: [usize; 4],
    num_heads: [usize; 4],
    mlp_ratio: f64,
    layer_scale_init: Option<f64>,
    /// Stochastic depth in the training of the classifier.
    classifier_drop_path: f64,
    /// Stochastic depth in the training of segmenters.
    segmenter_drop_path: f64,
}

static MINI: Shape = Shape {
    embed_dims: [32, 128, 256, 384],
    depths: [2, 2, 6, 2],
    num_heads: [2, 4, 8, 16],
    mlp_ratio: 2.0,
    layer_scale_init: None,
    classifier_drop_path: 0.0,
    segmenter_drop_path: 0.0,
};
static TINY: Shape = Shape {
    embed_dims: [64, 128, 256, 512],
    depths: [3, 4, 18, 5],
    num_heads: [2, 4, 8, 16],
    mlp_ratio: 3.0,
    layer_scale_init: None,
    classifier_drop_path: 0.2,
    segmenter_drop_path: 0.3,
};
static SMALL: Shape = Shape {
    embed_dims: [96, 192, 384, 768],
    depths: [3, 4, 18, 2],
    num_heads: [3, 6, 12, 24],
    mlp_ratio: 3.0,
    layer_scale_init: Some(1e-5),
    classifier_drop_path: 0.3,
    segmenter_drop_path: 0.3,
};
static BASE: Shape = Shape {
    embed_dims: [128, 256, 512, 1024],
    depths: [3, 4, 18, 2],
    num_heads: [4, 8, 16, 32],
    mlp_ratio: 3.0,
    layer_scale_init: Some(1e-5),
    classifier_drop_path: 0.2,
    segmenter_drop_path: 0.3,
};

/// Importance weight of all published classifiers.
const ALPHA: f64 = 4.0;

/// A row of the table of published classifiers.
struct Row {
    name: &'static str,
    shape: &'static Shape,
    downsample_rate: f64,
    cluster_size: usize,
    neighborhood_sizes: [usize; 4],
    num_classes: usize,
    image_size: usize,
}

impl Row {
    /// Trained on the 1000 classes of ImageNet at 224 x 224.
    const fn new(name: &'static str, shape: &'static Shape, downsample_rate: f64) -> Self {
        Self {
            name,
            shape,
            downsample_rate,
            cluster_size: 8,
            neighborhood_sizes: [48, 48, 48, 49],
            num_classes: 1000,
            image_size: 224,
        }
    }
}

static AFF_MINI: Row = Row::new("aff-mini", &MINI, 0.25);
static AFF_MINI_1_5: Row = Row::new("aff-mini-1-5", &MINI, 0.2);
static AFF_TINY: Row = Row::new("aff-tiny", &TINY, 0.25);
static AFF_TINY_1_5: Row = Row::new("aff-tiny-1-5", &TINY, 0.2);
static AFF_SMALL: Row = Row::new("aff-small", &SMALL, 0.25);
static AFF_SMALL_1_5: Row = Row::new("aff-small-1-5", &SMALL, 0.2);
static AFF_BASE_22K: Row = Row { num_classes: 21_841, ..Row::new("aff-base-22k", &BASE, 0.25) };
static AFF_BASE_384: Row = Row {
    cluster_size: 24,
    neighborhood_sizes: [144; 4],
    image_size: 384,
    ..Row::new("aff-base-384", &BASE, 0.25)
};

static ROWS: [&Row; 8] = [
    &AFF_MINI,
    &AFF_MINI_1_5,
    &AFF_TINY,
    &AFF_TINY_1_5,
    &AFF_SMALL,
    &AFF_SMALL_1_5,
    &AFF_BASE_22K,
    &AFF_BASE_384,
];

/// Every published classifier.
///
/// ```
/// let names: Vec<_> = aff_model::presets::classifiers().iter().map(|preset| preset.name).collect();
/// assert_eq!(names[..2], ["aff-mini", "aff-mini-1-5"]);
/// ```
pub fn classifiers() -> Vec<ClassifierPreset> {
    ROWS.into_iter().map(preset).collect()
}

/// The published classifier of a name; `None` if there is no such.
///
/// ```
/// let tiny = aff_model::presets::classifier("aff-tiny").unwrap();
/// assert_eq!(tiny.backbone.depths, [3, 4, 18, 5]);
/// ```
pub fn classifier(name: &str) -> Option<ClassifierPreset> {
    ROWS.into_iter().find(|row| row.name == name).map(preset)
}

fn preset(row: &Row) -> ClassifierPreset {
    let shape = row.shape;
    let backbone = BackboneConfig {
        mlp_ratio: shape.mlp_ratio,
        cluster_size: row.cluster_size,
        neighborhood_sizes: row.neighborhood_sizes,
        padding_slots: PaddingSlots::FirstToken,
        downsample_rate: row.downsample_rate,
        alpha: ALPHA,
        layer_scale_init: shape.layer_scale_init,
        drop_path_rate: shape.classifier_drop_path,
        ..BackboneConfig::new(shape.embed_dims, shape.depths, shape.num_heads)
    };
    let Row { name, num_classes, image_size, .. } = *row;
    ClassifierPreset { name, backbone, num_classes, image_size }
}

/// A published segmenter.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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

/// Power of the squared distance in the deformable attention of published segmenters.
enum ShepardPower {
    /// Learnt, from 3.
    Learnt,
    /// 2, which their configurations write as 4, the power of the distance.
    Constant,
}

/// What the segmenters of a data set and task have in common.
struct Recipe {
    suffix: &'static str,
    backbones: &'static [(&'static str, &'static Row)],
    data_set: DataSet,
    task: SegmentationTask,
    alpha: f64,
    shepard_power: ShepardPower,
    edges: (u32, u32),
}

/// The published backbones by the name that their segmenters have.
static FOUR: &[(&str, &Row)] = &[
    ("aff-mini", &AFF_MINI),
    ("aff-tiny", &AFF_TINY),
    ("aff-small", &AFF_SMALL),
    ("aff-base", &AFF_BASE_384),
];
static SIX: &[(&str, &Row)] = &[
    ("aff-mini", &AFF_MINI),
    ("aff-mini-1-5", &AFF_MINI_1_5),
    ("aff-tiny", &AFF_TINY),
    ("aff-tiny-1-5", &AFF_TINY_1_5),
    ("aff-small", &AFF_SMALL),
    ("aff-small-1-5", &AFF_SMALL_1_5),
];

static RECIPES: [Recipe; 4] = [
    Recipe {
        suffix: "ade20k-semantic",
        backbones: SIX,
        data_set: DataSet::Ade20k,
        task: SegmentationTask::Semantic,
        alpha: 4.0,
        shepard_power: ShepardPower::Learnt,
        edges: (512, 2048),
    },
    Recipe {
        suffix: "cityscapes-instance",
        backbones: FOUR,
        data_set: DataSet::CityscapesInstances,
        task: SegmentationTask::Instance,
        alpha: 8.0,
        shepard_power: ShepardPower::Learnt,
        edges: (1024, 2048),
    },
    Recipe {
        suffix: "cityscapes-panoptic",
        backbones: FOUR,
        data_set: DataSet::Cityscapes,
        task: SegmentationTask::Panoptic,
        alpha: 8.0,
        shepard_power: ShepardPower::Learnt,
        edges: (1024, 2048),
    },
    Recipe {
        suffix: "coco-instance",
        backbones: SIX,
        data_set: DataSet::CocoInstances,
        task: SegmentationTask::Instance,
        alpha: 4.0,
        shepard_power: ShepardPower::Constant,
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
    config.drop_path_rate = row.shape.segmenter_drop_path;
    (config.cluster_size, config.neighborhood_sizes) = if base { (24, [144; 4]) } else { (8, [48; 4]) };
    let queries = if base { 250 } else { 100 };
    SegmenterPreset {
        name: format!("{backbone}-{}", recipe.suffix),
        backbone: config,
        decoder: match recipe.shepard_power {
            ShepardPower::Learnt => Mask2FormerConfig::default(),
            ShepardPower::Constant => Mask2FormerConfig {
                shepard_power_init: 2.0,
                shepard_power_learnable: false,
                ..Mask2FormerConfig::default()
            },
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

/// A detector on a published backbone. Nobody has published its weights: it is a configuration to train.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DetectorPreset {
    /// Name, such as `aff-mini-coco-detection`.
    pub name: String,
    /// The backbone.
    pub backbone: BackboneConfig,
    /// The head.
    pub decoder: DeformableDetrConfig,
    /// Object queries of the head.
    pub num_queries: usize,
    /// What it is to be trained on.
    pub data_set: DataSet,
    /// Edges that images are resized to: the shortest, and the most that the longest gets.
    pub edges: (u32, u32),
}

impl DetectorPreset {
    /// The whole configuration.
    pub fn config(&self) -> ModelConfig {
        let Self { backbone, decoder, num_queries, data_set, .. } = self;
        ModelConfig::detector(backbone.clone(), decoder.clone(), *num_queries, data_set.labels())
    }
}

/// Detectors with the settings of section 13 of the method; the backbones are those of COCO's published segmenters, without their
/// padding slots.
///
/// ```
/// let names: Vec<_> = aff_model::presets::detectors().into_iter().map(|preset| preset.name).collect();
/// assert_eq!(names, ["aff-mini-coco-detection", "aff-tiny-coco-detection", "aff-small-coco-detection"]);
/// ```
pub fn detectors() -> Vec<DetectorPreset> {
    let detector = |row: &Row| {
        let mut backbone = preset(row).backbone;
        backbone.neighborhood_sizes = [48; 4];
        backbone.padding_slots = PaddingSlots::LeftOut;
        backbone.drop_path_rate = row.shape.segmenter_drop_path;
        DetectorPreset {
            name: format!("{}-coco-detection", row.name),
            backbone,
            decoder: DeformableDetrConfig::default(),
            num_queries: 300,
            data_set: DataSet::CocoInstances,
            edges: (800, 1333),
        }
    };
    [&AFF_MINI, &AFF_TINY, &AFF_SMALL].map(detector).into()
}
