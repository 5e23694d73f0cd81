//! Configuration of a segmenter with a Mask2Former head.

use std::path::Path;

use aff_model::config::{
    Architecture, Mask2FormerConfig, ModelConfig, SegmentationConfig, SegmentationTask, SemanticOrder,
};
use aff_model::data_sets::DataSet;
use aff_model::presets::{self, SegmenterPreset};
use aff_vision::{IMAGENET_MEAN, IMAGENET_STD, PreprocessorConfig, ResizeTarget};

use super::classifier::{check_backbone, clustering};
use super::data_set::of_detectron2;
use super::shapes::{Clustering, Shapes};
use super::yaml::Settings;
use super::{ConfigSource, Configured};
use crate::error::brief;
use crate::{TensorShapes, WeightsError};

const PIXEL_DECODER: &str = "sem_seg_head.pixel_decoder";
const PREDICTOR: &str = "sem_seg_head.predictor";
/// What the published code takes where a configuration is silent.
const DEFAULT_NEIGHBORHOODS: [usize; 4] = [48; 4];
const DEFAULT_HEADS: usize = 8;
const DEFAULT_SHEPARD_POWER: f64 = 3.0;
const DEFAULT_THRESHOLD: f64 = 0.8;
const DEFAULT_INSTANCES: usize = 100;
const LEVELS: usize = 3;

/// What comes from a preset or a YAML file.
struct Given {
    clustering: Clustering,
    heads: usize,
    shepard_power_init: f64,
    segmentation: SegmentationConfig,
    labels: Vec<String>,
    preprocessor: PreprocessorConfig,
}

pub(super) fn configure(
    shapes: &TensorShapes,
    source: &ConfigSource,
    path: &Path,
) -> Result<Configured, WeightsError> {
    let shapes = Shapes::new(shapes, path);
    let classes = shapes.dim(&format!("{PREDICTOR}.class_embed.weight"), 0)?.saturating_sub(1);
    let given = match source {
        ConfigSource::Yaml(yaml) => from_yaml(&Settings::from_yaml(yaml)?, &shapes, classes)?,
        ConfigSource::Preset(name) => from_preset(name, &shapes, classes)?,
        ConfigSource::Checkpoint => {
            return Err(WeightsError::NoConfiguration {
                path: path.to_path_buf(),
                architecture: Architecture::UniversalSegmentation,
                presets: presets::segmenters().into_iter().map(|preset| preset.name).collect(),
            });
        }
    };
    let backbone = shapes.backbone("backbone.", &given.clustering)?;
    let decoder = decoder(&shapes, given.heads, given.shepard_power_init)?;
    let queries = shapes.dim(&format!("{PREDICTOR}.query_feat.weight"), 0)?;
    let model = ModelConfig::segmenter(backbone, decoder, queries, given.segmentation, given.labels);
    Ok(Configured { model, preprocessor: given.preprocessor })
}

/// The head, from its shapes and what they do not show.
fn decoder(
    shapes: &Shapes<'_>,
    heads: usize,
    shepard_power_init: f64,
) -> Result<Mask2FormerConfig, WeightsError> {
    let layers = format!("{PIXEL_DECODER}.transformer.encoder.layers");
    let locations = shapes.dim(&format!("{layers}.0.self_attn.attention_weights.weight"), 0)?;
    if heads == 0 || !locations.is_multiple_of(heads * LEVELS) {
        let problem =
            format!("has {locations} sampled locations, which {heads} heads on {LEVELS} levels cannot share");
        return Err(shapes.problem(problem));
    }
    let mut decoder = Mask2FormerConfig::default();
    decoder.hidden_dim = shapes.dim(&format!("{PIXEL_DECODER}.mask_features.weight"), 1)?;
    decoder.mask_feature_size = shapes.dim(&format!("{PIXEL_DECODER}.mask_features.weight"), 0)?;
    decoder.num_attention_heads = heads;
    decoder.encoder_layers = shapes.count(&layers);
    decoder.encoder_feedforward_dim = shapes.dim(&format!("{layers}.0.linear1.weight"), 0)?;
    decoder.num_sampling_points = locations / (heads * LEVELS);
    decoder.shepard_power_init = shepard_power_init;
    decoder.shepard_power_learnable = shapes.contains(&format!("{layers}.0.self_attn.shepard_power"));
    decoder.decoder_layers = shapes.count(&format!("{PREDICTOR}.transformer_ffn_layers"));
    decoder.decoder_feedforward_dim =
        shapes.dim(&format!("{PREDICTOR}.transformer_ffn_layers.0.linear1.weight"), 0)?;
    Ok(decoder)
}

fn from_yaml(settings: &Settings<'_>, shapes: &Shapes<'_>, classes: usize) -> Result<Given, WeightsError> {
    let clustering = clustering(settings, DEFAULT_NEIGHBORHOODS)?;
    check_backbone(settings, shapes, "backbone.", &clustering)?;
    let heads = settings.size("MODEL.MASK_FORMER.NHEADS")?.unwrap_or(DEFAULT_HEADS);
    // The published setting applies to distances, ours to their squares.
    let shepard_power = settings.number("MODEL.AFF.SHEPARD_POWER")?;
    let shepard_power_init = shepard_power.map_or(DEFAULT_SHEPARD_POWER, |power| power / 2.0);
    check_head(settings, shapes, &decoder(shapes, heads, shepard_power_init)?, classes)?;
    let data_set = data_set(settings, classes)?;
    Ok(Given {
        clustering,
        heads,
        shepard_power_init,
        segmentation: segmentation(settings, data_set, classes)?,
        labels: data_set
            .map_or_else(|| (0..classes).map(|class| format!("LABEL_{class}")).collect(), DataSet::labels),
        preprocessor: yaml_preprocessor(settings)?,
    })
}

/// Compares the settings that shapes show, and refuses those that there are none of here.
fn check_head(
    settings: &Settings<'_>,
    shapes: &Shapes<'_>,
    found: &Mask2FormerConfig,
    classes: usize,
) -> Result<(), WeightsError> {
    settings.require("MODEL.MASK_FORMER.PRE_NORM", false, "layers here normalise after their sums")?;
    if let Some(order) = settings.text("INPUT.FORMAT")?.filter(|order| order != "RGB") {
        let problem =
            format!("`INPUT.FORMAT` is {:?}; expected \"RGB\", the order of channels here", brief(&order));
        return Err(settings.problem(problem));
    }
    let queries = shapes.dim(&format!("{PREDICTOR}.query_feat.weight"), 0)?;
    // The published code counts the prediction before the first layer as one.
    let decoder_layers =
        settings.size("MODEL.MASK_FORMER.DEC_LAYERS")?.map(|layers| layers.saturating_sub(1));
    let encoder_layers = settings.size("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS")?;
    let feedforward = settings.size("MODEL.MASK_FORMER.DIM_FEEDFORWARD")?;
    for (what, said, shape) in [
        ("classes (NUM_CLASSES)", settings.size("MODEL.SEM_SEG_HEAD.NUM_CLASSES")?, classes),
        ("width (CONVS_DIM)", settings.size("MODEL.SEM_SEG_HEAD.CONVS_DIM")?, found.hidden_dim),
        ("width (HIDDEN_DIM)", settings.size("MODEL.MASK_FORMER.HIDDEN_DIM")?, found.hidden_dim),
        ("mask width (MASK_DIM)", settings.size("MODEL.SEM_SEG_HEAD.MASK_DIM")?, found.mask_feature_size),
        ("encoder layers (TRANSFORMER_ENC_LAYERS)", encoder_layers, found.encoder_layers),
        ("decoder layers (DEC_LAYERS - 1)", decoder_layers, found.decoder_layers),
        ("feed-forward width (DIM_FEEDFORWARD)", feedforward, found.decoder_feedforward_dim),
        ("queries (NUM_OBJECT_QUERIES)", settings.size("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES")?, queries),
    ] {
        shapes.agree(what, said, &shape)?;
    }
    let learnable = settings.switch("MODEL.AFF.SHEPARD_POWER_LEARNABLE")?;
    shapes.agree("a learnt power (SHEPARD_POWER_LEARNABLE):", learnable, &found.shepard_power_learnable)
}

/// The data set that a configuration names, if its classes are known and as many as the network's.
fn data_set(settings: &Settings<'_>, classes: usize) -> Result<Option<DataSet>, WeightsError> {
    let name = match settings.text("DATASETS.TEST")? {
        Some(name) => Some(name),
        None => settings.text("DATASETS.TRAIN")?,
    };
    let known = name.as_deref().and_then(of_detectron2).filter(|data_set| data_set.labels().len() == classes);
    if known.is_none() {
        let name = name.map_or_else(|| "none".to_owned(), |name| brief(&name).into_owned());
        tracing::warn!(
            "the configuration's data set ({name}) has no known list of {classes} classes: labels are numbers"
        );
    }
    Ok(known)
}

fn segmentation(
    settings: &Settings<'_>,
    data_set: Option<DataSet>,
    classes: usize,
) -> Result<SegmentationConfig, WeightsError> {
    let test = |key: &str| format!("MODEL.MASK_FORMER.TEST.{key}");
    let on = |key: &str| Ok::<_, WeightsError>(settings.switch(&test(key))?.unwrap_or(false));
    let task = if on("PANOPTIC_ON")? {
        SegmentationTask::Panoptic
    } else if on("INSTANCE_ON")? {
        SegmentationTask::Instance
    } else {
        SegmentationTask::Semantic
    };
    let resize_first = on("SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE")?;
    let mut segmentation = SegmentationConfig::new(task);
    segmentation.thing_ids = match (data_set, task) {
        (Some(data_set), _) => data_set.thing_ids(),
        // Instances are things, whatever they are called.
        (None, SegmentationTask::Instance) => (0..classes).collect(),
        (None, _) => Vec::new(),
    };
    segmentation.threshold = settings.number(&test("OBJECT_MASK_THRESHOLD"))?.unwrap_or(DEFAULT_THRESHOLD);
    segmentation.overlap_threshold =
        settings.number(&test("OVERLAP_THRESHOLD"))?.unwrap_or(DEFAULT_THRESHOLD);
    segmentation.max_instances = settings.size("TEST.DETECTIONS_PER_IMAGE")?.unwrap_or(DEFAULT_INSTANCES);
    segmentation.semantic_order =
        if resize_first { SemanticOrder::ResizeThenSum } else { SemanticOrder::SumThenResize };
    Ok(segmentation)
}

fn yaml_preprocessor(settings: &Settings<'_>) -> Result<PreprocessorConfig, WeightsError> {
    let edge = |key: &str, default: u32| -> Result<u32, WeightsError> {
        Ok(settings.size(key)?.and_then(|edge| u32::try_from(edge).ok()).unwrap_or(default))
    };
    let scaled = |key: &str, default: [f32; 3]| -> Result<[f32; 3], WeightsError> {
        Ok(settings.numbers3(key)?.map_or(default, |values| values.map(|value| (value / 255.0) as f32)))
    };
    Ok(PreprocessorConfig {
        size_divisor: edge("MODEL.MASK_FORMER.SIZE_DIVISIBILITY", 32)?.max(1),
        image_mean: scaled("MODEL.PIXEL_MEAN", IMAGENET_MEAN)?,
        image_std: scaled("MODEL.PIXEL_STD", IMAGENET_STD)?,
        ..preprocessor(edge("INPUT.MIN_SIZE_TEST", 800)?, edge("INPUT.MAX_SIZE_TEST", 1333)?)
    })
}

fn from_preset(name: &str, shapes: &Shapes<'_>, classes: usize) -> Result<Given, WeightsError> {
    let presets = presets::segmenters();
    let Some(preset) = presets.iter().find(|preset| preset.name == name) else {
        let names: Vec<_> = presets.iter().map(|preset| preset.name.as_str()).collect();
        let problem =
            format!("there is no segmenter preset {:?}; expected one of {}", brief(name), names.join(", "));
        return Err(shapes.problem(problem));
    };
    let SegmenterPreset { backbone, decoder: head, .. } = preset;
    let clustering = Clustering {
        cluster_size: backbone.cluster_size,
        neighborhood_sizes: backbone.neighborhood_sizes,
        downsample_rate: backbone.downsample_rate,
        alpha: backbone.alpha,
    };
    let found = shapes.backbone("backbone.", &clustering)?;
    shapes.agree("widths", Some(backbone.embed_dims), &found.embed_dims)?;
    shapes.agree("depths", Some(backbone.depths), &found.depths)?;
    shapes.agree("heads", Some(backbone.num_heads), &found.num_heads)?;
    shapes.agree("an MLP ratio of", Some(backbone.mlp_ratio), &found.mlp_ratio)?;
    shapes.agree("classes", Some(preset.data_set.labels().len()), &classes)?;
    let tensors = decoder(shapes, head.num_attention_heads, head.shepard_power_init)?;
    shapes.agree(
        "a learnt Shepard power:",
        Some(head.shepard_power_learnable),
        &tensors.shepard_power_learnable,
    )?;
    let queries = shapes.dim(&format!("{PREDICTOR}.query_feat.weight"), 0)?;
    let mut segmentation = preset.segmentation.clone();
    segmentation.max_instances = queries;
    let (shortest, longest) = preset.edges;
    Ok(Given {
        clustering,
        heads: head.num_attention_heads,
        shepard_power_init: head.shepard_power_init,
        segmentation,
        labels: preset.data_set.labels(),
        preprocessor: preprocessor(shortest, longest),
    })
}

/// Evaluation of the published segmenters.
pub(crate) fn preprocessor(shortest_edge: u32, longest_edge: u32) -> PreprocessorConfig {
    PreprocessorConfig::imagenet(ResizeTarget { shortest_edge, longest_edge: Some(longest_edge) })
}
