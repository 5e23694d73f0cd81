//! What a model is made of, as `config.json` says it.
//!
//! One file describes a classifier or a segmenter in the manner of Hugging Face: `model_type`, `architectures`,
//! nested `*_config` objects and `id2label` with string keys. Unknown fields are refused, and [`ModelConfig::from_json`]
//! validates everything once, so that the modules built from it need no checks of their own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
pub enum ModelType {
    /// The only one there is.
    #[serde(rename = "autofocusformer")]
    AutoFocusFormer,
}

/// What the network computes, as listed in `architectures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Backbone, mean over tokens, linear classifier.
    #[serde(rename = "AutoFocusFormerForImageClassification")]
    ImageClassification,
    /// Backbone, pixel decoder and a mask classification head.
    #[serde(rename = "AutoFocusFormerForUniversalSegmentation")]
    UniversalSegmentation,
}

/// A whole model: `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Always [`ModelType::AutoFocusFormer`].
    pub model_type: ModelType,
    /// Exactly one architecture.
    pub architectures: Vec<Architecture>,
    /// The four stages.
    pub backbone_config: BackboneConfig,
    /// The segmentation head; absent for a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_config: Option<DecoderConfig>,
    /// Number of object queries of the segmentation head; absent for a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_queries: Option<usize>,
    /// How predictions become segments; absent for a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation_config: Option<SegmentationConfig>,
    /// Name of every class, keyed by its index; indices run from 0 without holes.
    pub id2label: BTreeMap<usize, String>,
    /// The inverse of `id2label`. Where two classes share a name it keeps one of them.
    pub label2id: BTreeMap<String, usize>,
}

/// The backbone: sections 1 to 6 of the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneConfig {
    /// Channels C of the tokens of each stage.
    pub embed_dims: [usize; 4],
    /// Attention blocks of each stage.
    pub depths: [usize; 4],
    /// Attention heads H of each stage; divides `embed_dims`.
    pub num_heads: [usize; 4],
    /// Hidden width of a block's MLP in units of its channels.
    pub mlp_ratio: f64,
    /// Tokens m of a cluster.
    pub cluster_size: usize,
    /// Tokens of a neighbourhood, of which `round(nbhd / m)` clusters are made, for each stage.
    pub neighborhood_sizes: [usize; 4],
    /// Which tokens a downsampling keeps.
    #[serde(default, skip_serializing_if = "Downsampling::is_default")]
    pub downsampling: Downsampling,
    /// Share of the tokens that an adaptive downsampling keeps.
    pub downsample_rate: f64,
    /// Weight alpha of the learnt importance score beside the grid prior.
    pub alpha: f64,
    /// Initial value of the layer scale `gamma1`, `gamma2`; without it blocks have no layer scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale_init: Option<f64>,
    /// Probability with which the last block is skipped in training; grows linearly from 0 at the first.
    #[serde(default)]
    pub drop_path_rate: f64,
}

/// Which tokens a downsampling keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Downsampling {
    /// The important ones, as section 5 of the method has it.
    #[default]
    Adaptive,
    /// Those on the coarser grid, whatever is in the image: the plain network that the method is compared with. Its
    /// neighbours are merged by importance all the same.
    Grid,
}

impl Downsampling {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A segmentation head, told apart by its field `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum DecoderConfig {
    /// Deformable pixel decoder and masked attention on three levels.
    Mask2Former(Mask2FormerConfig),
    /// Masked attention on the coarsest level, its masks decoded by soft assignments.
    HcFormer(HcFormerConfig),
}

impl From<Mask2FormerConfig> for DecoderConfig {
    fn from(config: Mask2FormerConfig) -> Self {
        Self::Mask2Former(config)
    }
}

impl From<HcFormerConfig> for DecoderConfig {
    fn from(config: HcFormerConfig) -> Self {
        Self::HcFormer(config)
    }
}

/// The HCFormer head: section 11 of the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HcFormerConfig {
    /// Width of the decoder.
    pub hidden_dim: usize,
    /// Width of the mask features and of the mask embedding of a query.
    pub mask_feature_size: usize,
    /// Attention heads of encoder and decoder.
    pub num_attention_heads: usize,
    /// Layers of the plain transformer encoder on the coarsest level: 0 for HCFormer, more for HCFormer+.
    pub encoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub encoder_feedforward_dim: usize,
    /// Layers of the transformer decoder.
    pub decoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub decoder_feedforward_dim: usize,
    /// Width of the embeddings that fine and coarse tokens are compared in.
    pub assignment_dim: usize,
    /// Coarse tokens that a fine one is assigned to.
    pub assignment_neighbors: usize,
}

/// The pixel decoder and the Mask2Former decoder: sections 7 and 8 of the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask2FormerConfig {
    /// Width of both decoders.
    pub hidden_dim: usize,
    /// Width of the mask features and of the mask embedding of a query.
    pub mask_feature_size: usize,
    /// Attention heads of both decoders.
    pub num_attention_heads: usize,
    /// Deformable attention layers of the pixel decoder.
    pub encoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub encoder_feedforward_dim: usize,
    /// Sampled points of a head in a level.
    pub num_sampling_points: usize,
    /// Initial power of the inverse distance weights of the sampled points.
    pub shepard_power_init: f64,
    /// Layers of the transformer decoder.
    pub decoder_layers: usize,
    /// Hidden width of their feed-forward blocks.
    pub decoder_feedforward_dim: usize,
}

/// What a segmentation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentationTask {
    /// One class for every pixel.
    Semantic,
    /// One mask for every object.
    Instance,
    /// Both at once, without overlap.
    Panoptic,
}

/// How predictions become segments: section 9 of the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentationConfig {
    /// The task that the weights were trained for.
    pub task: SegmentationTask,
    /// Class indices of countable objects; all others are amorphous ("stuff").
    pub thing_ids: Vec<usize>,
    /// Least class score of a panoptic segment.
    pub threshold: f64,
    /// Mask probability from which a pixel belongs to a panoptic segment.
    pub mask_threshold: f64,
    /// Least share of its mask that a panoptic segment must win.
    pub overlap_threshold: f64,
    /// Most instances that an image gets.
    pub max_instances: usize,
    /// Whether semantic masks are brought to the source size before classes are summed, or after.
    pub semantic_order: SemanticOrder,
}

/// When masks are resized in semantic segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SemanticOrder {
    /// Sum over the queries at the size of the network's input, then resize the class maps.
    SumThenResize,
    /// Resize the masks to the source, then sum over the queries.
    ResizeThenSum,
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
        }
    }

    fn validate_labels(&self) -> Result<(), ConfigError> {
        if self.id2label.is_empty() {
            return Err(ConfigError::value("id2label", "at least one class", "empty"));
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

    fn validate_segmenter(&self) -> Result<(), ConfigError> {
        let missing =
            |field| ConfigError::value(field, "a value: the architecture is a segmenter", "missing");
        self.decoder_config.as_ref().ok_or_else(|| missing("decoder_config"))?.validate()?;
        positive("num_queries", self.num_queries.ok_or_else(|| missing("num_queries"))?)?;
        let segmentation = self.segmentation_config.as_ref().ok_or_else(|| missing("segmentation_config"))?;
        segmentation.validate(self.num_classes())
    }
}

impl BackboneConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for stage in 0..4 {
            let field = |name: &str| format!("backbone_config.{name}[{stage}]");
            positive(&field("embed_dims"), self.embed_dims[stage])?;
            positive(&field("depths"), self.depths[stage])?;
            positive(&field("num_heads"), self.num_heads[stage])?;
            positive(&field("neighborhood_sizes"), self.neighborhood_sizes[stage])?;
            if !self.embed_dims[stage].is_multiple_of(self.num_heads[stage]) {
                let expected = format!("a divisor of embed_dims[{stage}] = {}", self.embed_dims[stage]);
                return Err(ConfigError::value(field("num_heads"), expected, self.num_heads[stage]));
            }
        }
        if !self.embed_dims[0].is_multiple_of(2) {
            return Err(ConfigError::value(
                "backbone_config.embed_dims[0]",
                "an even number",
                self.embed_dims[0],
            ));
        }
        positive("backbone_config.cluster_size", self.cluster_size)?;
        in_range("backbone_config.mlp_ratio", self.mlp_ratio, f64::MIN_POSITIVE, 1024.0)?;
        in_range("backbone_config.downsample_rate", self.downsample_rate, f64::MIN_POSITIVE, 1.0)?;
        in_range("backbone_config.alpha", self.alpha, 0.0, f64::MAX)?;
        in_range("backbone_config.drop_path_rate", self.drop_path_rate, 0.0, 1.0)?;
        if let Some(init) = self.layer_scale_init {
            in_range("backbone_config.layer_scale_init", init, f64::MIN, f64::MAX)?;
        }
        Ok(())
    }

    /// Rate of stochastic depth of the block at a place among all blocks: linear from 0 to [`Self::drop_path_rate`].
    pub fn drop_path_rate_at(&self, place: usize) -> f64 {
        let blocks: usize = self.depths.iter().sum();
        self.drop_path_rate * place as f64 / blocks.saturating_sub(1).max(1) as f64
    }

    /// Hidden width of the MLP of a stage's blocks.
    pub fn mlp_hidden(&self, stage: usize) -> usize {
        (self.embed_dims[stage] as f64 * self.mlp_ratio) as usize
    }
}

impl DecoderConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Mask2Former(config) => config.validate(),
            Self::HcFormer(config) => config.validate(),
        }
    }
}

impl Mask2FormerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        validate_decoder(
            &[
                ("mask_feature_size", self.mask_feature_size),
                ("encoder_layers", self.encoder_layers),
                ("encoder_feedforward_dim", self.encoder_feedforward_dim),
                ("num_sampling_points", self.num_sampling_points),
                ("decoder_layers", self.decoder_layers),
                ("decoder_feedforward_dim", self.decoder_feedforward_dim),
            ],
            self.hidden_dim,
            self.num_attention_heads,
        )?;
        in_range("decoder_config.shepard_power_init", self.shepard_power_init, 0.0, 64.0)
    }
}

impl HcFormerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        validate_decoder(
            &[
                ("mask_feature_size", self.mask_feature_size),
                ("encoder_feedforward_dim", self.encoder_feedforward_dim),
                ("decoder_layers", self.decoder_layers),
                ("decoder_feedforward_dim", self.decoder_feedforward_dim),
                ("assignment_dim", self.assignment_dim),
                ("assignment_neighbors", self.assignment_neighbors),
            ],
            self.hidden_dim,
            self.num_attention_heads,
        )
    }
}

/// What both heads have in common: positive sizes, heads that divide the width, a width that the embedding can have.
fn validate_decoder(sizes: &[(&str, usize)], hidden_dim: usize, heads: usize) -> Result<(), ConfigError> {
    for &(name, value) in [("hidden_dim", hidden_dim), ("num_attention_heads", heads)].iter().chain(sizes) {
        positive(&format!("decoder_config.{name}"), value)?;
    }
    if !hidden_dim.is_multiple_of(heads) {
        let expected = format!("a divisor of hidden_dim = {hidden_dim}");
        return Err(ConfigError::value("decoder_config.num_attention_heads", expected, heads));
    }
    if !hidden_dim.is_multiple_of(4) {
        let expected = "a multiple of 4, for the sine position embedding";
        return Err(ConfigError::value("decoder_config.hidden_dim", expected, hidden_dim));
    }
    Ok(())
}

impl SegmentationConfig {
    /// The settings of most published segmenters for a task; no class is countable.
    pub fn new(task: SegmentationTask) -> Self {
        Self {
            task,
            thing_ids: Vec::new(),
            threshold: 0.8,
            mask_threshold: 0.5,
            overlap_threshold: 0.8,
            max_instances: 100,
            semantic_order: SemanticOrder::SumThenResize,
        }
    }

    fn validate(&self, num_classes: usize) -> Result<(), ConfigError> {
        if let Some(id) = self.thing_ids.iter().find(|&&id| id >= num_classes) {
            let expected = format!("class indices below {num_classes}");
            return Err(ConfigError::value("segmentation_config.thing_ids", expected, id));
        }
        positive("segmentation_config.max_instances", self.max_instances)?;
        in_range("segmentation_config.threshold", self.threshold, 0.0, 1.0)?;
        in_range("segmentation_config.mask_threshold", self.mask_threshold, 0.0, 1.0)?;
        in_range("segmentation_config.overlap_threshold", self.overlap_threshold, 0.0, 1.0)
    }
}

fn label_maps(
    labels: impl IntoIterator<Item = String>,
) -> (BTreeMap<usize, String>, BTreeMap<String, usize>) {
    let id2label: BTreeMap<_, _> = labels.into_iter().enumerate().collect();
    let label2id = id2label.iter().rev().map(|(&id, label)| (label.clone(), id)).collect();
    (id2label, label2id)
}

/// Widths beyond this would overflow products of sizes; no model comes near it.
const LARGEST_SIZE: usize = 1 << 20;

fn positive(field: &str, value: usize) -> Result<(), ConfigError> {
    if (1..=LARGEST_SIZE).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(field, format!("1 to {LARGEST_SIZE}"), value))
}

fn in_range(field: &str, value: f64, low: f64, high: f64) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(field, format!("{low} to {high}"), value))
}
