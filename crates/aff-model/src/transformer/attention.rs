//! Dense multi-head attention with packed projections, as in PyTorch's `MultiheadAttention`.

use aff_ops::softmax_last_dim;
use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::layers::{Linear, linear};
use crate::macs::{Macs, performed};

/// Queries attend to all keys that are not blocked.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    /// Of queries, keys and values: parts of one parameter.
    projections: [Linear; 3],
    out_proj: Linear,
    heads: usize,
}

impl Attention {
    /// Parameters `in_proj_weight [3C,C]` and `in_proj_bias [3C]`, laid out (query, key, value), and `out_proj.*`.
    pub(crate) fn new(width: usize, heads: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let bound = (6.0 / (4 * width) as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let weight = vb.get_with_hints((3 * width, width), "in_proj_weight", init)?;
        let bias = vb.get_with_hints(3 * width, "in_proj_bias", candle_nn::init::ZERO)?;
        let projection = |index: usize| {
            let part = |all: &Tensor| all.narrow(0, index * width, width);
            Linear::new(part(&weight)?, Some(part(&bias)?))
        };
        Ok(Self {
            projections: [projection(0)?, projection(1)?, projection(2)?],
            out_proj: linear(width, width, &vb.pp("out_proj"))?,
            heads,
        })
    }

    /// `query [B,Q,C]`, `key` and `value [B,N,C]`, `blocked [B,Q,N]` u8 (1 where a query may not look); what the
    /// queries see is added to `residual [B,Q,C]`.
    pub(crate) fn added_to(
        &self,
        residual: &Tensor,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        blocked: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (batch, queries, channels) = query.dims3()?;
        let keys = key.dim(1)?;
        let width = channels / self.heads;
        let by_head = |x: Tensor| {
            let tokens = x.dim(1)?;
            x.reshape((batch, tokens, self.heads, width))?.transpose(1, 2)?.contiguous()
        };
        let [query_proj, key_proj, value_proj] = &self.projections;
        let query = by_head((query_proj.forward(query)? * (width as f64).powf(-0.5))?)?;
        let key = by_head(key_proj.forward(key)?)?;
        let value = by_head(value_proj.forward(value)?)?;

        let mut logits = query.matmul(&key.transpose(2, 3)?.contiguous()?)?;
        if let Some(blocked) = blocked {
            let blocked = blocked.unsqueeze(1)?.broadcast_as(logits.shape())?;
            let never = Tensor::new(f32::NEG_INFINITY, logits.device())?.to_dtype(logits.dtype())?;
            logits = blocked.where_cond(&never.broadcast_as(logits.shape())?, &logits)?;
        }
        let attended = softmax_last_dim(&logits)?.matmul(&value)?;
        performed(batch * 2 * queries * keys * channels);
        self.out_proj.added_to(residual, &attended.transpose(1, 2)?.reshape((batch, queries, channels))?)
    }

    pub(crate) fn macs(&self, queries: usize, keys: usize) -> Macs {
        let width = self.out_proj.weight().dims()[0];
        Macs::products((queries + 2 * keys) * width * width)
            + Macs::products(2 * queries * keys * width)
            + self.out_proj.macs(queries)
    }
}
