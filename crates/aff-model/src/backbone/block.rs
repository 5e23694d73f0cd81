//! A transformer block with cluster attention (section 4 of the method).

use aff_ops::{Activation, ClusterAttention, Epilogue, cluster_attention};
use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::geometry::StageGeometry;
use crate::Phase;
use crate::config::BackboneConfig;
use crate::layers::{LayerNorm, Linear, backbone_linear};
use crate::macs::{Macs, PHI, performed};

/// `x + g1 attn(norm1(x))`, then `x + g2 mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    layer_scale: Option<LayerScale>,
    /// Probability that a branch is dropped in training.
    drop_path_rate: f64,
    /// Number among the blocks of the whole backbone.
    index: usize,
}

#[derive(Debug, Clone)]
struct LayerScale {
    gamma1: Tensor,
    gamma2: Tensor,
}

impl Block {
    /// The block of a number among all of the backbone's, which is in the given stage.
    pub(super) fn new(
        config: &BackboneConfig,
        stage: usize,
        index: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let channels = config.embed_dims[stage];
        let hidden = config.mlp_hidden(stage);
        let layer_scale = config.layer_scale_init.map(|init| {
            let gamma = |name| vb.get_with_hints(channels, name, Init::Const(init));
            Result::Ok(LayerScale { gamma1: gamma("gamma1")?, gamma2: gamma("gamma2")? })
        });
        Ok(Self {
            norm1: LayerNorm::new(channels, &vb.pp("norm1"))?,
            attention: Attention::new(channels, config.num_heads[stage], &vb.pp("attn"))?,
            norm2: LayerNorm::new(channels, &vb.pp("norm2"))?,
            fc1: backbone_linear(channels, hidden, &vb.pp("mlp.fc1"))?,
            fc2: backbone_linear(hidden, channels, &vb.pp("mlp.fc2"))?,
            layer_scale: layer_scale.transpose()?,
            drop_path_rate: config.drop_path_rate_at(index),
            index,
        })
    }

    /// `[B,N,C]` in the order of the geometry -> the same shape and order.
    pub(super) fn forward(&self, feat: &Tensor, geometry: &StageGeometry, phase: Phase) -> Result<Tensor> {
        let attended = self.attention.forward(&self.norm1.forward(feat)?, geometry)?;
        let gamma = self.layer_scale.as_ref().map(|scale| &scale.gamma1);
        let last = Last { layer: &self.attention.proj, input: &attended, scale: gamma };
        let feat = self.add_branch(feat, last, phase, 0)?;
        let hidden = self.fc1.activated(&self.norm2.forward(&feat)?, Activation::Gelu)?;
        let gamma = self.layer_scale.as_ref().map(|scale| &scale.gamma2);
        self.add_branch(&feat, Last { layer: &self.fc2, input: &hidden, scale: gamma }, phase, 1)
    }

    /// `feat` and the first or second branch of the block, which may be dropped in training.
    fn add_branch(&self, feat: &Tensor, last: Last<'_>, phase: Phase, branch: u64) -> Result<Tensor> {
        let Last { layer, input, scale } = last;
        let epilogue = Epilogue { scale, ..Epilogue::default() };
        if phase.is_training() {
            let update = layer.forward_with(input, epilogue)?;
            return feat + phase.drop_path(update, self.drop_path_rate, 2 * self.index as u64 + branch)?;
        }
        layer.forward_with(input, Epilogue { residual: Some(feat), ..epilogue })
    }

    /// Cost with so many slots of neighbours, and `table` relative positions in the published code's table.
    pub(super) fn macs(&self, tokens: usize, slots: usize, table: usize) -> Macs {
        self.norm1.macs(tokens)
            + self.attention.macs(tokens, slots, table)
            + self.norm2.macs(tokens)
            + self.fc1.macs(tokens)
            + self.fc2.macs(tokens)
    }
}

/// The last layer of a branch with its input and the branch's scale.
#[derive(Clone, Copy)]
struct Last<'a> {
    layer: &'a Linear,
    input: &'a Tensor,
    scale: Option<&'a Tensor>,
}

/// Cluster attention with its projections.
#[derive(Debug, Clone)]
struct Attention {
    q: Linear,
    kv: Linear,
    position_weight: Tensor,
    position_bias: Tensor,
    blank_key: Tensor,
    blank_value: Tensor,
    proj: Linear,
}

impl Attention {
    fn new(channels: usize, heads: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let position = backbone_linear(PHI, heads, &vb.pp("pos_embed"))?;
        let blank = |name| vb.get_with_hints(channels, name, Init::Randn { mean: 0.0, stdev: 0.02 });
        Ok(Self {
            q: backbone_linear(channels, channels, &vb.pp("q"))?,
            kv: backbone_linear(channels, 2 * channels, &vb.pp("kv"))?,
            position_weight: position.weight().clone(),
            position_bias: vb.get(heads, "pos_embed.bias")?,
            blank_key: blank("blank_k")?,
            blank_value: blank("blank_v")?,
            proj: backbone_linear(channels, channels, &vb.pp("proj"))?,
        })
    }

    /// Everything but the last projection.
    fn forward(&self, feat: &Tensor, geometry: &StageGeometry) -> Result<Tensor> {
        let inputs = ClusterAttention {
            query: &self.q.forward(feat)?,
            key_value: &self.kv.forward(feat)?,
            position_weight: &self.position_weight,
            position_bias: &self.position_bias,
            blank_key: &self.blank_key,
            blank_value: &self.blank_value,
        };
        let neighborhood = geometry.neighborhood();
        let attended = cluster_attention(&inputs, &geometry.attention())?;
        let (rows, slots) = (neighborhood.batch() * neighborhood.queries(), neighborhood.slots());
        let heads = self.position_bias.elem_count();
        performed(rows * (slots * PHI * heads + 2 * (slots + 1) * feat.dim(2)?));
        Ok(attended)
    }

    fn macs(&self, tokens: usize, slots: usize, table: usize) -> Macs {
        let (channels, heads) = (self.blank_key.elem_count(), self.position_bias.elem_count());
        self.q.macs(tokens)
            + self.kv.macs(tokens)
            + Macs::published(table * PHI * heads)
            + Macs::executed(tokens * (slots * PHI * heads + 2 * (slots + 1) * channels))
            + self.proj.macs(tokens)
    }
}
