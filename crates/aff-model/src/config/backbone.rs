//! The four stages.

use serde::{Deserialize, Serialize};

use super::{ConfigError, limits};

/// The backbone: sections 1 to 6 of the method.
///
/// ```
/// use aff_model::config::BackboneConfig;
///
/// let mut backbone = BackboneConfig::new([32, 64, 96, 128], [1, 2, 2, 1], [1, 2, 3, 4]);
/// backbone.downsample_rate = 0.2;
/// assert_eq!((backbone.cluster_size, backbone.neighborhood_sizes), (8, [48; 4]));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
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
    /// What attention makes of the places that the last cluster leaves empty.
    #[serde(default, skip_serializing_if = "PaddingSlots::is_default")]
    pub padding_slots: PaddingSlots,
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

/// What attention makes of the slots that the last cluster, which may have fewer members than the others, leaves empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingSlots {
    /// Nothing: a token attends to the members that there are.
    #[default]
    LeftOut,
    /// What the published code does: each has the key, the value and the position of token 0 of the stage, and its logit is lowered by
    /// 100. Far from token 0 a position bias can outweigh that. Converted checkpoints were trained so and compute what was published.
    FirstToken,
}

impl PaddingSlots {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which tokens a downsampling keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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

impl BackboneConfig {
    /// A backbone of these widths, blocks and heads; all else is as in the smallest published one.
    pub fn new(embed_dims: [usize; 4], depths: [usize; 4], num_heads: [usize; 4]) -> Self {
        Self {
            embed_dims,
            depths,
            num_heads,
            mlp_ratio: 2.0,
            cluster_size: 8,
            neighborhood_sizes: [48; 4],
            padding_slots: PaddingSlots::LeftOut,
            downsampling: Downsampling::Adaptive,
            downsample_rate: 0.25,
            alpha: 4.0,
            layer_scale_init: None,
            drop_path_rate: 0.0,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for stage in 0..4 {
            let field = |name: &str| format!("backbone_config.{name}[{stage}]");
            let width = self.embed_dims[stage];
            limits::count(field("embed_dims"), width, limits::WIDTH)?;
            limits::count(field("depths"), self.depths[stage], limits::LAYERS)?;
            let width_field = format!("embed_dims[{stage}]");
            limits::heads(field("num_heads"), self.num_heads[stage], (&width_field, width))?;
            limits::count(field("neighborhood_sizes"), self.neighborhood_sizes[stage], limits::NEIGHBORHOOD)?;
        }
        let width = self.embed_dims[0];
        if !width.is_multiple_of(2) {
            return Err(ConfigError::value("backbone_config.embed_dims[0]", "an even number", width));
        }
        limits::count("backbone_config.cluster_size", self.cluster_size, limits::CLUSTER)?;
        limits::number("backbone_config.mlp_ratio", self.mlp_ratio, [f64::MIN_POSITIVE, 64.0])?;
        for stage in 0..4 {
            if !(1..=limits::HIDDEN_WIDTH).contains(&self.mlp_hidden(stage)) {
                let expected =
                    format!("1 to {} channels, being mlp_ratio * embed_dims[{stage}]", limits::HIDDEN_WIDTH);
                return Err(ConfigError::value("backbone_config.mlp_ratio", expected, self.mlp_ratio));
            }
        }
        limits::number("backbone_config.downsample_rate", self.downsample_rate, [f64::MIN_POSITIVE, 1.0])?;
        limits::number("backbone_config.alpha", self.alpha, [0.0, 1e6])?;
        limits::number("backbone_config.drop_path_rate", self.drop_path_rate, [0.0, 1.0])?;
        if let Some(init) = self.layer_scale_init {
            limits::number("backbone_config.layer_scale_init", init, [-1e6, 1e6])?;
        }
        Ok(())
    }

    /// Rate of stochastic depth of one of the backbone's blocks, counted over all stages: linear from 0 to
    /// [`Self::drop_path_rate`].
    pub fn drop_path_rate_at(&self, block: usize) -> f64 {
        let blocks: usize = self.depths.iter().sum();
        self.drop_path_rate * block as f64 / blocks.saturating_sub(1).max(1) as f64
    }

    /// Hidden width of the MLP of a stage's blocks.
    pub fn mlp_hidden(&self, stage: usize) -> usize {
        (self.embed_dims[stage] as f64 * self.mlp_ratio) as usize
    }
}
