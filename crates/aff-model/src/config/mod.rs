//! What a model is made of, as `config.json` says it.
//!
//! One file describes a classifier or a segmenter in the manner of Hugging Face: `model_type`, `architectures`,
//! nested `*_config` objects and `id2label` with string keys. Unknown fields are refused, and [`ModelConfig::from_json`]
//! validates everything once, so that the modules built from it need no checks of their own. A configuration may ask for no more than
//! a network can have (`limits.rs`).

mod backbone;
mod heads;
mod limits;
mod segmentation;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use backbone::{BackboneConfig, Downsampling, PaddingSlots};
pub use heads::{DecoderConfig, DeformableDetrConfig, HcFormerConfig, Mask2FormerConfig};
pub use segmentation::{SegmentationConfig, SegmentationTask, SemanticOrder};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not JSON, a field is missing, unknown or of the wrong type.
    #[error("config.json: {0}")]
    Json(#[from] serde_json::Error),
    /// A field has a value that no model can have.
    #[error("config.json: `{field}` is {found}; expected {expected}")]
    Value {
        /// Path of the field, such as `backbone_config.num_heads[1]`.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// The value that was found.
        found: String,
    },
}

impl ConfigError {
    fn value(field: impl Into<String>, expected: impl Into<String>, found: impl std::fmt::Display) -> Self {
        Self::Value { field: field.into(), expected: expected.into(), found: found.to_string() }
    }
}

/// The `model_type` of every model of this project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ModelType {
    /// The only one there is.
    #[serde(rename = "autofocusformer")]
    AutoFocusFormer,
}

/// What the network computes, as listed in `architectures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Architecture {
    /// Backbone, mean over tokens, linear classifier.
    #[serde(rename = "AutoFocusFormerForImageClassification")]
    ImageClassification,
    /// Backbone, pixel decoder and a mask classification head.
    #[serde(rename = "AutoFocusFormerForUniversalSegmentation")]
    UniversalSegmentation,
    /// Backbone, deformable encoder and decoder with boxes.
    #[serde(rename = "AutoFocusFormerForObjectDetection")]
    ObjectDetection,
}

impl Architecture {
    /// What a model of it is called in messages.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ImageClassification => "classifier",
            Self::UniversalSegmentation => "segmenter",
            Self::ObjectDetection => "detector",
        }
    }

    /// What model cards call the task on the hub (`pipeline_tag`).
    pub fn pipeline_tag(self) -> &'static str {
        match self {
            Self::ImageClassification => "image-classification",
            Self::UniversalSegmentation => "image-segmentation",
            Self::ObjectDetection => "object-detection",
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ImageClassification => "image classification",
            Self::UniversalSegmentation => "segmentation",
            Self::ObjectDetection => "object detection",
        })
    }
}

/// A whole model: `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Always [`ModelType::AutoFocusFormer`].
    pub model_type: ModelType,
    /// Exactly one architecture.
    pub architectures: Vec<Architecture>,
    /// The four stages.
    pub backbone_config: BackboneConfig,
    /// The head; absent for a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_config: Option<DecoderConfig>,
    /// Number of object queries of the head; absent for a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_queries: Option<usize>,
    /// How predictions become segments; only a segmenter has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation_config: Option<SegmentationConfig>,
    /// Name of every class, keyed by its index; indices run from 0 without holes.
    pub id2label: BTreeMap<usize, String>,
    /// The inverse of `id2label`. Where two classes share a name it keeps one of them.
    pub label2id: BTreeMap<String, usize>,
}

impl ModelConfig {
    /// Reads and validates a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError::Json`] for text that is not such a file, [`ConfigError::Value`] for values that no model can have.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(text)?;
        config.validate()?;
        Ok(config)
    }

    /// The text of a `config.json`, ending in a line break.
    ///
    /// # Errors
    /// [`ConfigError::Json`] if a number has no JSON form.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A classifier over a backbone.
    pub fn classifier(backbone_config: BackboneConfig, labels: impl IntoIterator<Item = String>) -> Self {
        let (id2label, label2id) = label_maps(labels);
        Self {
            model_type: ModelType::AutoFocusFormer,
            architectures: vec![Architecture::ImageClassification],
            backbone_config,
            decoder_config: None,
            num_queries: None,
            segmentation_config: None,
            id2label,
            label2id,
        }
    }

    /// A segmenter over a backbone.
    pub fn segmenter(
        backbone_config: BackboneConfig,
        decoder_config: impl Into<DecoderConfig>,
        num_queries: usize,
        segmentation_config: SegmentationConfig,
        labels: impl IntoIterator<Item = String>,
    ) -> Self {
        let (id2label, label2id) = label_maps(labels);
        Self {
            model_type: ModelType::AutoFocusFormer,
            architectures: vec![Architecture::UniversalSegmentation],
            backbone_config,
            decoder_config: Some(decoder_config.into()),
            num_queries: Some(num_queries),
            segmentation_config: Some(segmentation_config),
            id2label,
            label2id,
        }
    }

    /// A detector over a backbone.
    pub fn detector(
        backbone_config: BackboneConfig,
        decoder_config: DeformableDetrConfig,
        num_queries: usize,
        labels: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            architectures: vec![Architecture::ObjectDetection],
            decoder_config: Some(decoder_config.into()),
            num_queries: Some(num_queries),
            ..Self::classifier(backbone_config, labels)
        }
    }

    /// Number of classes, without the segmenter's "no object".
    pub fn num_classes(&self) -> usize {
        self.id2label.len()
    }

    /// The architecture; [`Self::validate`] makes sure that there is one.
    pub fn architecture(&self) -> Architecture {
        self.architectures.first().copied().unwrap_or(Architecture::ImageClassification)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the first field that no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.architectures.len() != 1 {
            return Err(ConfigError::value(
                "architectures",
                "a list of one",
                format!("a list of {}", self.architectures.len()),
            ));
        }
        self.backbone_config.validate()?;
        self.validate_labels()?;
        match self.architecture() {
            Architecture::ImageClassification => self.validate_classifier(),
            Architecture::UniversalSegmentation => self.validate_segmenter(),
            Architecture::ObjectDetection => self.validate_detector(),
        }
    }

    fn validate_labels(&self) -> Result<(), ConfigError> {
        if !(1..=limits::CLASSES).contains(&self.id2label.len()) {
            let found = format!("{} of them", self.id2label.len());
            return Err(ConfigError::value("id2label", format!("1 to {} classes", limits::CLASSES), found));
        }
        for (expected, &id) in self.id2label.keys().enumerate() {
            if id != expected {
                return Err(ConfigError::value(
                    "id2label",
                    format!("indices from 0, so {expected} next"),
                    id,
                ));
            }
        }
        for (label, id) in &self.label2id {
            if self.id2label.get(id) != Some(label) {
                let found = format!("{id}, which id2label calls {:?}", self.id2label.get(id));
                return Err(ConfigError::value(
                    format!("label2id[{label:?}]"),
                    "the inverse of id2label",
                    found,
                ));
            }
        }
        Ok(())
    }

    fn validate_classifier(&self) -> Result<(), ConfigError> {
        let extra = [
            ("decoder_config", self.decoder_config.is_some()),
            ("num_queries", self.num_queries.is_some()),
            ("segmentation_config", self.segmentation_config.is_some()),
        ];
        match extra.iter().find(|(_, present)| *present) {
            Some((field, _)) => Err(ConfigError::value(*field, "no such field in a classifier", "present")),
            None => Ok(()),
        }
    }

    /// The head's configuration, checked like the number of its queries.
    fn validate_head(&self) -> Result<&DecoderConfig, ConfigError> {
        let missing = |field| {
            ConfigError::value(
                field,
                format!("a value: the architecture is {}", self.architecture()),
                "missing",
            )
        };
        let decoder = self.decoder_config.as_ref().ok_or_else(|| missing("decoder_config"))?;
        decoder.validate()?;
        let queries = self.num_queries.ok_or_else(|| missing("num_queries"))?;
        limits::count("num_queries", queries, limits::QUERIES)?;
        Ok(decoder)
    }

    fn validate_detector(&self) -> Result<(), ConfigError> {
        if !matches!(self.validate_head()?, DecoderConfig::DeformableDetr(_)) {
            let expected = "deformable_detr: the architecture is object detection";
            return Err(ConfigError::value("decoder_config.type", expected, "another head"));
        }
        match self.segmentation_config {
            Some(_) => {
                Err(ConfigError::value("segmentation_config", "no such field in a detector", "present"))
            }
            None => Ok(()),
        }
    }

    fn validate_segmenter(&self) -> Result<(), ConfigError> {
        let missing =
            |field| ConfigError::value(field, "a value: the architecture is a segmenter", "missing");
        if matches!(self.validate_head()?, DecoderConfig::DeformableDetr(_)) {
            let expected = "mask2former or hcformer: the architecture is segmentation";
            return Err(ConfigError::value("decoder_config.type", expected, "deformable_detr"));
        }
        let segmentation = self.segmentation_config.as_ref().ok_or_else(|| missing("segmentation_config"))?;
        segmentation.validate(self.num_classes())
    }
}

fn label_maps(
    labels: impl IntoIterator<Item = String>,
) -> (BTreeMap<usize, String>, BTreeMap<String, usize>) {
    let id2label: BTreeMap<_, _> = labels.into_iter().enumerate().collect();
    let label2id = id2label.iter().rev().map(|(&id, label)| (label.clone(), id)).collect();
    (id2label, label2id)
}
