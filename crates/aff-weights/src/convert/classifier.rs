//! Configuration of a classifier.

use std::path::Path;

use aff_model::config::{Architecture, ModelConfig};
use aff_model::presets;
use aff_vision::{CropSize, PreprocessorConfig, Resample, ResizeTarget};
use serde_json::Value;

use super::shapes::{Clustering, Shapes};
use super::yaml::Settings;
use super::{ConfigSource, Configured};
use crate::error::brief;
use crate::{TensorShapes, WeightsError};

/// What the published code takes where a configuration is silent.
pub(super) const DEFAULT_CLUSTER_SIZE: usize = 8;
pub(super) const DEFAULT_RATE: f64 = 0.25;
pub(super) const DEFAULT_ALPHA: f64 = 4.0;
const DEFAULT_NEIGHBORHOODS: [usize; 4] = [48, 48, 48, 49];
const DEFAULT_IMAGE_SIZE: usize = 224;

pub(super) fn configure(
    shapes: &TensorShapes,
    source: &ConfigSource,
    config: Option<Value>,
    path: &Path,
) -> Result<Configured, WeightsError> {
    let shapes = Shapes::new(shapes, path);
    let classes = shapes.dim("head.weight", 0)?;
    let (clustering, image_size) = match source {
        ConfigSource::Checkpoint => {
            let Some(config) = config else {
                return Err(WeightsError::NoConfiguration {
                    path: path.to_path_buf(),
                    architecture: Architecture::ImageClassification,
                    presets: presets::classifiers().iter().map(|preset| preset.name.to_owned()).collect(),
                });
            };
            from_settings(&Settings::from_checkpoint(config, path), &shapes, classes)?
        }
        ConfigSource::Yaml(yaml) => from_settings(&Settings::from_yaml(yaml)?, &shapes, classes)?,
        ConfigSource::Preset(name) => from_preset(name, &shapes, classes)?,
    };
    let backbone = shapes.backbone("", &clustering)?;
    let labels = (0..classes).map(|class| format!("LABEL_{class}"));
    Ok(Configured {
        model: ModelConfig::classifier(backbone, labels),
        preprocessor: preprocessor(image_size),
    })
}

fn from_settings(
    settings: &Settings<'_>,
    shapes: &Shapes<'_>,
    classes: usize,
) -> Result<(Clustering, usize), WeightsError> {
    let clustering = clustering(settings, DEFAULT_NEIGHBORHOODS)?;
    check_backbone(settings, shapes, "", &clustering)?;
    shapes.agree("classes", settings.size("MODEL.NUM_CLASSES")?, &classes)?;
    Ok((clustering, settings.size("DATA.IMG_SIZE")?.unwrap_or(DEFAULT_IMAGE_SIZE)))
}

/// The settings that shapes do not show.
pub(super) fn clustering(
    settings: &Settings<'_>,
    neighborhoods: [usize; 4],
) -> Result<Clustering, WeightsError> {
    settings.require(
        "MODEL.AFF.RESERVE",
        true,
        "a downsampling here always keeps the tokens on the coarsest grid",
    )?;
    Ok(Clustering {
        cluster_size: settings.size("MODEL.AFF.CLUSTER_SIZE")?.unwrap_or(DEFAULT_CLUSTER_SIZE),
        neighborhood_sizes: settings.sizes4("MODEL.AFF.NBHD_SIZE")?.unwrap_or(neighborhoods),
        downsample_rate: settings.number("MODEL.AFF.DS_RATE")?.unwrap_or(DEFAULT_RATE),
        alpha: settings.number("MODEL.AFF.ALPHA")?.unwrap_or(DEFAULT_ALPHA),
    })
}

/// Compares the settings that shapes do show.
pub(super) fn check_backbone(
    settings: &Settings<'_>,
    shapes: &Shapes<'_>,
    prefix: &str,
    clustering: &Clustering,
) -> Result<(), WeightsError> {
    let backbone = shapes.backbone(prefix, clustering)?;
    shapes.agree("widths (EMBED_DIM)", settings.sizes4("MODEL.AFF.EMBED_DIM")?, &backbone.embed_dims)?;
    shapes.agree("depths (DEPTHS)", settings.sizes4("MODEL.AFF.DEPTHS")?, &backbone.depths)?;
    shapes.agree("heads (NUM_HEADS)", settings.sizes4("MODEL.AFF.NUM_HEADS")?, &backbone.num_heads)?;
    shapes.agree(
        "an MLP ratio (MLP_RATIO) of",
        settings.number("MODEL.AFF.MLP_RATIO")?,
        &backbone.mlp_ratio,
    )?;
    let scaled = settings.number("MODEL.AFF.LAYER_SCALE")?.map(|init| init > 0.0);
    shapes.agree("layer scale (LAYER_SCALE > 0):", scaled, &backbone.layer_scale_init.is_some())
}

fn from_preset(name: &str, shapes: &Shapes<'_>, classes: usize) -> Result<(Clustering, usize), WeightsError> {
    let Some(preset) = presets::classifier(name) else {
        let names: Vec<_> = presets::classifiers().iter().map(|preset| preset.name).collect();
        let problem =
            format!("there is no classifier preset {:?}; expected one of {}", brief(name), names.join(", "));
        return Err(shapes.problem(problem));
    };
    let clustering = Clustering {
        cluster_size: preset.backbone.cluster_size,
        neighborhood_sizes: preset.backbone.neighborhood_sizes,
        downsample_rate: preset.backbone.downsample_rate,
        alpha: preset.backbone.alpha,
    };
    let backbone = shapes.backbone("", &clustering)?;
    shapes.agree("widths", Some(preset.backbone.embed_dims), &backbone.embed_dims)?;
    shapes.agree("depths", Some(preset.backbone.depths), &backbone.depths)?;
    shapes.agree("heads", Some(preset.backbone.num_heads), &backbone.num_heads)?;
    shapes.agree("an MLP ratio of", Some(preset.backbone.mlp_ratio), &backbone.mlp_ratio)?;
    shapes.agree("classes", Some(preset.num_classes), &classes)?;
    Ok((clustering, preset.image_size))
}

/// Evaluation of the published classifiers: the shorter edge to 256/224 of the input size, bicubic, then the centre.
pub(crate) fn preprocessor(image_size: usize) -> PreprocessorConfig {
    let size = u32::try_from(image_size).unwrap_or(u32::MAX / 2);
    let shortest_edge = (f64::from(size) * 256.0 / 224.0) as u32;
    PreprocessorConfig {
        resample: Resample::Bicubic,
        do_center_crop: true,
        crop_size: Some(CropSize { height: size, width: size }),
        do_pad: false,
        size_divisor: 1,
        ..PreprocessorConfig::imagenet(ResizeTarget { shortest_edge, longest_edge: None })
    }
}
