//! Multi-scale deformable attention on tokens (sections 7 and 13 of the method).

use aff_ops::{CanvasLookup, DeformableGather, deformable_gather, softmax_last_dim};
use candle_core::{D, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::LEVELS;
use crate::layers::{Linear, linear};
use crate::macs::{Macs, performed};

/// Neighbours of a sampled location.
const NEIGHBORS: usize = 4;

/// Power of the squared distance that sampled values are weighted by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ShepardPower {
    /// A parameter of each layer, with this initial value.
    Learnable(f64),
    /// No parameter.
    Constant(f64),
}

/// Sizes of a deformable attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DeformableSizes {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// Sampled points of a head in a level.
    pub(crate) points: usize,
    pub(crate) shepard_power: ShepardPower,
}

/// Where each query looks from, in canvas units.
#[derive(Debug, Clone)]
pub(crate) struct ReferencePoints {
    /// `[B,Q,2]`
    pub(crate) center: Tensor,
    /// What an offset of one means, `[B,Q,2]`; one canvas unit without it.
    pub(crate) unit: Option<Tensor>,
}

impl ReferencePoints {
    /// Every token of the levels looks from its own position; of the type and on the device of `like`.
    pub(crate) fn own(levels: &[CanvasLookup], like: &Tensor) -> Result<Self> {
        let positions = |level: &CanvasLookup| {
            let flat: Vec<f32> = level.positions().as_slice().iter().flatten().map(|&c| c as f32).collect();
            Tensor::from_vec(flat, (level.batch(), level.tokens(), 2), like.device())
        };
        let all: Vec<Tensor> = levels.iter().map(positions).collect::<Result<_>>()?;
        Ok(Self { center: Tensor::cat(&all, 1)?.to_dtype(like.dtype())?, unit: None })
    }

    /// `offsets [B,Q,..,2]` in canvas units, from each query's own reference.
    fn locations(&self, offsets: &Tensor) -> Result<Tensor> {
        let spread = |per_query: &Tensor| {
            let (batch, queries, _) = per_query.dims3()?;
            per_query.reshape((batch, queries, 1, 1, 1, 2))
        };
        match &self.unit {
            Some(unit) => offsets.broadcast_mul(&spread(unit)?)?.broadcast_add(&spread(&self.center)?),
            None => offsets.broadcast_add(&spread(&self.center)?),
        }
    }
}

/// Every query samples the values of all levels at a few learnt locations around its reference point.
#[derive(Debug, Clone)]
pub(crate) struct DeformableAttention {
    sampling_offsets: Linear,
    attention_weights: Linear,
    value_proj: Linear,
    output_proj: Linear,
    /// `[1]`
    shepard_power: Tensor,
    heads: usize,
    points: usize,
}

impl DeformableAttention {
    pub(crate) fn new(sizes: DeformableSizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let DeformableSizes { width, heads, points, shepard_power } = sizes;
        let locations = heads * LEVELS * points;
        let reach = Some(points as f64);
        Ok(Self {
            sampling_offsets: nearly_constant(width, locations * 2, reach, &vb.pp("sampling_offsets"))?,
            attention_weights: nearly_constant(width, locations, None, &vb.pp("attention_weights"))?,
            value_proj: linear(width, width, &vb.pp("value_proj"))?,
            output_proj: linear(width, width, &vb.pp("output_proj"))?,
            shepard_power: match shepard_power {
                ShepardPower::Learnable(init) => vb.get_with_hints(1, "shepard_power", Init::Const(init))?,
                ShepardPower::Constant(power) => Tensor::new(&[power], vb.device())?.to_dtype(vb.dtype())?,
            },
            heads,
            points,
        })
    }

    /// The nearest tokens of each place of the canvas, for every level.
    pub(crate) fn lookup(positions: &aff_ops::Positions) -> Result<CanvasLookup> {
        CanvasLookup::new(positions, NEIGHBORS)
    }

    /// `query [B,Q,C]` looks into `feat [B,N,C]`, the tokens of all levels; what it finds is added to `residual [B,Q,C]`.
    pub(crate) fn added_to(
        &self,
        residual: &Tensor,
        query: &Tensor,
        references: &ReferencePoints,
        feat: &Tensor,
        levels: &[CanvasLookup],
    ) -> Result<Tensor> {
        let (batch, queries, width) = query.dims3()?;
        let Self { heads, points, .. } = *self;
        let offsets =
            self.sampling_offsets.forward(query)?.reshape((batch, queries, heads, LEVELS, points, 2))?;
        let logits =
            self.attention_weights.forward(query)?.reshape((batch, queries, heads, LEVELS * points))?;
        let weights = softmax_last_dim(&logits)?.reshape((batch, queries, heads, LEVELS, points))?;
        let inputs = DeformableGather {
            value: &self.value_proj.forward(feat)?,
            locations: &references.locations(&offsets)?,
            weights: &weights,
            power: &self.shepard_power,
        };
        let gathered = deformable_gather(&inputs, levels)?;
        performed(
            inputs.locations.elem_count() / inputs.locations.dim(D::Minus1)? * NEIGHBORS * (width / heads),
        );
        self.output_proj.added_to(residual, &gathered)
    }

    pub(crate) fn macs(&self, queries: usize, tokens: usize) -> Macs {
        let width = self.output_proj.weight().dims()[0];
        self.sampling_offsets.macs(queries)
            + self.attention_weights.macs(queries)
            + self.value_proj.macs(tokens)
            + Macs::executed(queries * LEVELS * self.points * NEIGHBORS * width)
            + self.output_proj.macs(queries)
    }
}

/// A linear layer whose result hardly depends on the input at first: its bias, between `-reach` and `reach` or zero. Offsets start
/// scattered, because a location that meets its token exactly gets no gradient.
fn nearly_constant(input: usize, output: usize, reach: Option<f64>, vb: &VarBuilder<'_>) -> Result<Linear> {
    let init = Init::Randn { mean: 0.0, stdev: 1e-3 };
    let weight = vb.get_with_hints((output, input), "weight", init)?;
    let init = reach.map_or(candle_nn::init::ZERO, |reach| Init::Uniform { lo: -reach, up: reach });
    let bias = vb.get_with_hints(output, "bias", init)?;
    Linear::new(weight, Some(bias))
}
