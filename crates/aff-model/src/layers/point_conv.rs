//! Merging of neighbourhoods with learnt weights.

use aff_ops::{MergeGeometry, Neighborhood, NeighborhoodMerge, neighborhood_merge};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::{LayerNorm, Linear, linear};
use crate::macs::{Macs, PHI, performed};

/// Weight channels W of every merge of the method.
const WEIGHT_CHANNELS: usize = 4;

/// The learnt weights of a neighbourhood merge and what comes after it: PointConv, layer norm, linear layer.
#[derive(Debug, Clone)]
pub(crate) struct PointConv {
    position_linear: Linear,
    position_norm: LayerNorm,
    norm: LayerNorm,
    linear: Linear,
    input: usize,
}

impl PointConv {
    pub(crate) fn new(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            position_linear: linear(PHI, WEIGHT_CHANNELS, &vb.pp("weight_net.0"))?,
            position_norm: LayerNorm::new(WEIGHT_CHANNELS, &vb.pp("weight_net.1"))?,
            norm: LayerNorm::new(WEIGHT_CHANNELS * input, &vb.pp("norm"))?,
            linear: linear(WEIGHT_CHANNELS * input, output, &vb.pp("linear"))?,
            input,
        })
    }

    /// Merges `feat [B,N,C]` with importance `score [B,N]` into the queries: `[B,Q,output]`.
    pub(crate) fn forward(
        &self,
        feat: &Tensor,
        score: Option<&Tensor>,
        geometry: &MergeGeometry<'_>,
    ) -> Result<Tensor> {
        let Some(linear_bias) = self.position_linear.bias() else {
            candle_core::bail!("PointConv: the weight network has no bias")
        };
        let inputs = NeighborhoodMerge {
            feat,
            score,
            linear_weight: self.position_linear.weight(),
            linear_bias,
            norm_weight: self.position_norm.weight(),
            norm_bias: self.position_norm.bias(),
        };
        let merged = neighborhood_merge(&inputs, geometry)?;
        let slots = match geometry.neighborhood {
            Neighborhood::Clusters(clusters) => clusters.slots(),
            Neighborhood::Lists(lists) => lists.per_query(),
        };
        let pairs = geometry.queries.batch() * geometry.queries.tokens() * slots;
        performed(pairs * WEIGHT_CHANNELS * (PHI + feat.dim(2)?));
        self.linear.forward(&self.norm.forward(&merged)?)
    }

    /// Cost of merging the neighbours in `slots` into each of the queries.
    pub(crate) fn macs(&self, queries: usize, slots: usize) -> Macs {
        let pairs = queries * slots;
        self.position_linear.macs(pairs)
            + self.position_norm.macs(pairs)
            + Macs::executed(pairs * WEIGHT_CHANNELS * self.input)
            + self.norm.macs(queries)
            + self.linear.macs(queries)
    }
}
