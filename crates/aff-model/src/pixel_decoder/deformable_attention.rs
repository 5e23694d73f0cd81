//! Multi-scale deformable attention on tokens (section 7 of the method).

use aff_ops::{CanvasLookup, DeformableGather, deformable_gather, softmax_last_dim};
use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::LEVELS;
use crate::config::Mask2FormerConfig;
use crate::layers::{Linear, linear};

/// Every token samples the values of all levels at a few learnt locations around itself.
#[derive(Debug, Clone)]
pub(super) struct DeformableAttention {
    sampling_offsets: Linear,
    attention_weights: Linear,
    value_proj: Linear,
    output_proj: Linear,
    shepard_power: Tensor,
    heads: usize,
    points: usize,
}

impl DeformableAttention {
    pub(super) fn new(config: &Mask2FormerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, heads, points) =
            (config.hidden_dim, config.num_attention_heads, config.num_sampling_points);
        let locations = heads * LEVELS * points;
        Ok(Self {
            sampling_offsets: nearly_constant(
                width,
                locations * 2,
                Some(points as f64),
                &vb.pp("sampling_offsets"),
            )?,
            attention_weights: nearly_constant(width, locations, None, &vb.pp("attention_weights"))?,
            value_proj: linear(width, width, &vb.pp("value_proj"))?,
            output_proj: linear(width, width, &vb.pp("output_proj"))?,
            shepard_power: if config.shepard_power_learnable {
                vb.get_with_hints(1, "shepard_power", Init::Const(config.shepard_power_init))?
            } else {
                Tensor::new(&[config.shepard_power_init], vb.device())?.to_dtype(vb.dtype())?
            },
            heads,
            points,
        })
    }

    /// `query` and `feat` are `[B,N,hidden]` over the tokens of all levels.
    pub(super) fn forward(&self, query: &Tensor, feat: &Tensor, levels: &[CanvasLookup]) -> Result<Tensor> {
        let (batch, tokens, _) = query.dims3()?;
        let Self { heads, points, .. } = *self;
        let offsets =
            self.sampling_offsets.forward(query)?.reshape((batch, tokens, heads, LEVELS, points, 2))?;
        let own = own_positions(levels, query)?.reshape((batch, tokens, 1, 1, 1, 2))?;
        let logits =
            self.attention_weights.forward(query)?.reshape((batch, tokens, heads, LEVELS * points))?;
        let inputs = DeformableGather {
            value: &self.value_proj.forward(feat)?,
            locations: &offsets.broadcast_add(&own)?,
            weights: &softmax_last_dim(&logits)?.reshape((batch, tokens, heads, LEVELS, points))?,
            power: &self.shepard_power,
        };
        self.output_proj.forward(&deformable_gather(&inputs, levels)?)
    }
}

/// A linear layer whose result hardly depends on the input at first: its bias, between `-reach` and `reach` or zero. Offsets start
/// scattered, because a location that meets its token exactly gets no gradient.
fn nearly_constant(input: usize, output: usize, reach: Option<f64>, vb: &VarBuilder<'_>) -> Result<Linear> {
    let init = Init::Randn { mean: 0.0, stdev: 1e-3 };
    let weight = vb.get_with_hints((output, input), "weight", init)?;
    let init = reach.map_or(candle_nn::init::ZERO, |reach| Init::Uniform { lo: -reach, up: reach });
    let bias = vb.get_with_hints(output, "bias", init)?;
    Ok(Linear::new(weight, Some(bias)))
}

/// Positions of the tokens of all levels, `[B,N,2]`, of the type and device of `like`.
fn own_positions(levels: &[CanvasLookup], like: &Tensor) -> Result<Tensor> {
    let level_positions = |level: &CanvasLookup| {
        let flat: Vec<f32> = level.positions().as_slice().iter().flatten().map(|&c| c as f32).collect();
        Tensor::from_vec(flat, (level.batch(), level.tokens(), 2), like.device())
    };
    let all: Vec<Tensor> = levels.iter().map(level_positions).collect::<Result<_>>()?;
    Tensor::cat(&all, 1)?.to_dtype(like.dtype())
}
