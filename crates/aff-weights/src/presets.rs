//! The published models without their weights: what a model folder of each says.

use aff_model::config::ModelConfig;
use aff_model::presets::{self, ClassifierPreset, DetectorPreset, SegmenterPreset};
use aff_vision::PreprocessorConfig;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};

use crate::convert;

/// A published model: its configuration and what images need.
#[derive(Debug, Clone)]
pub struct Preset {
    /// Name, such as `aff-mini` or `aff-mini-ade20k-semantic`.
    pub name: String,
    /// What `config.json` says.
    pub config: ModelConfig,
    /// What `preprocessor_config.json` says.
    pub preprocessor: PreprocessorConfig,
}

impl From<ClassifierPreset> for Preset {
    fn from(preset: ClassifierPreset) -> Self {
        let labels = (0..preset.num_classes).map(|class| format!("LABEL_{class}"));
        Self {
            name: preset.name.to_owned(),
            config: ModelConfig::classifier(preset.backbone, labels),
            preprocessor: convert::classifier_preprocessor(preset.image_size),
        }
    }
}

impl From<SegmenterPreset> for Preset {
    fn from(preset: SegmenterPreset) -> Self {
        let (shortest, longest) = preset.edges;
        Self {
            config: preset.config(),
            name: preset.name,
            preprocessor: convert::segmenter_preprocessor(shortest, longest),
        }
    }
}

impl From<DetectorPreset> for Preset {
    fn from(preset: DetectorPreset) -> Self {
        let (shortest, longest) = preset.edges;
        Self {
            config: preset.config(),
            name: preset.name,
            preprocessor: convert::segmenter_preprocessor(shortest, longest),
        }
    }
}

/// All models by name: the published ones, and detectors on their backbones, which nobody has published.
///
/// ```
/// let names: Vec<_> = aff_weights::presets().into_iter().map(|preset| preset.name).collect();
/// assert!(names.contains(&"aff-tiny-coco-instance".to_owned()));
/// assert!(names.contains(&"aff-tiny-coco-detection".to_owned()));
/// ```
pub fn presets() -> Vec<Preset> {
    let detectors = presets::detectors().into_iter().map(Preset::from);
    published_models().into_iter().chain(detectors).collect()
}

/// All published models, classifiers first.
///
/// ```
/// let names: Vec<_> = aff_weights::published_models().into_iter().map(|preset| preset.name).collect();
/// assert!(names.contains(&"aff-base-384".to_owned()));
/// assert!(names.contains(&"aff-tiny-coco-instance".to_owned()));
/// ```
pub fn published_models() -> Vec<Preset> {
    let classifiers = presets::classifiers().into_iter().map(Preset::from);
    classifiers.chain(presets::segmenters().into_iter().map(Preset::from)).collect()
}

/// Random weights of a network, initialised as for training but without being variables: nothing records what is computed from
/// them. For tests and measurements.
///
/// # Errors
/// What building the network returns.
pub fn random_weights<M>(
    dtype: DType,
    device: &Device,
    build: impl FnOnce(VarBuilder<'_>) -> Result<M>,
) -> Result<VarBuilder<'static>> {
    let variables = VarMap::new();
    build(VarBuilder::from_varmap(&variables, dtype, device))?;
    let all = variables.data().lock().map_err(|_| candle_core::Error::msg("the variables are poisoned"))?;
    let tensors: std::collections::HashMap<String, Tensor> =
        all.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    Ok(VarBuilder::from_tensors(tensors, dtype, device))
}
