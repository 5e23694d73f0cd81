//! Attention of every token to the tokens of its nearest clusters (section 4 of the method).
//!
//! For token i, head h and the neighbours j of i, with `phi` the five features of a relative position,
//!
//! ```text
//! logit(i,j) = D^-0.5 q_i . k_j + w_h . phi(p_j - p_i) + b_h
//! logit(i,blank) = D^-0.5 q_i . blank_k
//! out_i = sum_j softmax(logit)_j v_j
//! ```
//!
//! where the softmax runs over the neighbours and the blank token, whose value is `blank_v`. The blank token lets a head
//! attend to nothing.

mod backward;
mod blocks;
mod cpu;
pub mod reference;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::host::{self, by_type};
use crate::{Neighborhood, Positions, shape};
use cpu::{Inputs, Parameters};

/// What cluster attention computes from; see [`cluster_attention`](fn@cluster_attention).
#[derive(Debug, Clone, Copy)]
pub struct ClusterAttention<'a> {
    /// `[B,N,C]`, as the query projection leaves it: not yet scaled by `D^-0.5`.
    pub query: &'a Tensor,
    /// `[B,N,2C]`, as the joint projection leaves it: channels laid out (head, {key, value}, D).
    pub key_value: &'a Tensor,
    /// `w`, `[H,5]`: weight of each feature of the relative position.
    pub position_weight: &'a Tensor,
    /// `b`, `[H]`.
    pub position_bias: &'a Tensor,
    /// Key of the blank token, `[C]`.
    pub blank_key: &'a Tensor,
    /// Value of the blank token, `[C]`.
    pub blank_value: &'a Tensor,
}

/// Sizes of an attention, once its inputs are checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) channels: usize,
    pub(crate) heads: usize,
}

impl ClusterAttention<'_> {
    fn sizes(&self, positions: &Positions, neighborhood: &Neighborhood) -> Result<Sizes> {
        const OPERATOR: &str = "cluster_attention";
        let (batch, tokens, channels) = shape::dims3(OPERATOR, "query", self.query, "[B,N,C]")?;
        let Some(&heads) = self.position_weight.dims().first() else {
            bail!("{OPERATOR}: `position_weight` is a scalar; expected [H,5]")
        };
        if heads == 0 || !channels.is_multiple_of(heads) {
            bail!("{OPERATOR}: {channels} channels do not divide among {heads} heads")
        }
        shape::expect(OPERATOR, "key_value", self.key_value, &[batch, tokens, 2 * channels])?;
        shape::expect(OPERATOR, "position_weight", self.position_weight, &[heads, 5])?;
        shape::expect(OPERATOR, "position_bias", self.position_bias, &[heads])?;
        shape::expect(OPERATOR, "blank_key", self.blank_key, &[channels])?;
        shape::expect(OPERATOR, "blank_value", self.blank_value, &[channels])?;
        let found = [
            ("positions", (positions.batch(), positions.tokens())),
            ("queries of the neighborhood", (neighborhood.batch(), neighborhood.queries())),
            ("keys of the neighborhood", (neighborhood.batch(), neighborhood.keys())),
        ];
        for (name, found) in found {
            if found != (batch, tokens) {
                bail!("{OPERATOR}: {name} (images, tokens) {found:?}; `query` has {:?}", (batch, tokens))
            }
        }
        Ok(Sizes { batch, tokens, channels, heads })
    }
}

/// Attention of every token to its neighbours and to a blank token; see the [module](self) for the equation.
///
/// Tokens, their positions and the keys of the neighbourhood are in the same order; for
/// [`Neighborhood::from_clusters`] that is the sorted order of the clusters.
///
/// ```
/// use aff_geometry::Canvas;
/// use aff_ops::{ClusterAttention, Neighborhood, Positions, cluster_attention};
/// use candle_core::{DType, Device, Tensor};
///
/// let cpu = &Device::Cpu;
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, cpu);
/// let positions = Positions::full_grid(1, Canvas::new(3, 1).unwrap());
/// // One head of width one, all logits zero: the mean of the three values 3, 6, 9 and of the blank value 2.
/// let inputs = ClusterAttention {
///     query: &zeros(&[1, 3, 1])?,
///     key_value: &Tensor::new(&[[[0f32, 3.], [0., 6.], [0., 9.]]], cpu)?,
///     position_weight: &zeros(&[1, 5])?,
///     position_bias: &zeros(&[1])?,
///     blank_key: &zeros(&[1])?,
///     blank_value: &Tensor::new(&[2f32], cpu)?,
/// };
/// let out = cluster_attention(&inputs, &positions, &Neighborhood::global(1, 3, 3))?;
/// assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, [5., 5., 5.]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// See [`ClusterAttention`]; the result is `[B,N,C]`, channels laid out (head, D).
///
/// # Errors
/// If a shape differs from these, or positions or neighbourhood are not of the same B and N.
pub fn cluster_attention(
    inputs: &ClusterAttention<'_>,
    positions: &Positions,
    neighborhood: &Neighborhood,
) -> Result<Tensor> {
    let sizes = inputs.sizes(positions, neighborhood)?;
    let named = [
        ("query", inputs.query),
        ("key_value", inputs.key_value),
        ("position_weight", inputs.position_weight),
        ("position_bias", inputs.position_bias),
        ("blank_key", inputs.blank_key),
        ("blank_value", inputs.blank_value),
    ];
    host::check_types("cluster_attention", &named)?;
    if neighborhood.key_runs().is_none() || sizes.tokens == 0 {
        return reference::forward(inputs, sizes, positions, neighborhood);
    }
    let parameters = [inputs.position_weight, inputs.position_bias, inputs.blank_key, inputs.blank_value];
    let parameters: Vec<Tensor> =
        parameters.iter().map(|tensor| tensor.flatten_all()).collect::<Result<_>>()?;
    let [query, key_value, parameters] = [
        &host::prepared(inputs.query)?,
        &host::prepared(inputs.key_value)?,
        &host::prepared(&Tensor::cat(&parameters, 0)?)?,
    ];
    let operator = Operator { sizes, positions: positions.clone(), neighborhood: neighborhood.clone() };
    query.apply_op3(key_value, parameters, operator)?.to_dtype(inputs.query.dtype())
}

/// Attention on contiguous tensors of one type; the parameters are one tensor, see [`Parameters::split`].
struct Operator {
    sizes: Sizes,
    positions: Positions,
    neighborhood: Neighborhood,
}

const LISTED: &str = "cluster_attention: neighbours that are listed one by one are for the reference";

impl CustomOp3 for Operator {
    fn name(&self) -> &'static str {
        "cluster_attention"
    }

    fn cpu_fwd(
        &self,
        query: &CpuStorage,
        query_layout: &Layout,
        key_value: &CpuStorage,
        key_value_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_type!(query.dtype(), T => {
            let inputs = Inputs {
                query: host::slice::<T>(query, query_layout)?,
                key_value: host::slice(key_value, key_value_layout)?,
                parameters: Parameters::split(host::slice(parameters, parameters_layout)?, self.sizes),
            };
            let Some(out) = cpu::forward(inputs, self.sizes, &self.positions, &self.neighborhood) else {
                bail!("{LISTED}")
            };
            Ok((candle_core::WithDType::to_cpu_storage_owned(out), query_layout.shape().clone()))
        })
    }

    fn bwd(
        &self,
        query: &Tensor,
        key_value: &Tensor,
        parameters: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        by_type!(query.dtype(), T => {
            let values = [query, key_value, parameters, out, grad].map(host::values::<T>);
            let [query_values, key_values, parameter_values, out, grad] = values;
            let (query_values, key_values, parameter_values) = (query_values?, key_values?, parameter_values?);
            let inputs = Inputs {
                query: &query_values,
                key_value: &key_values,
                parameters: Parameters::split(&parameter_values, self.sizes),
            };
            let geometry = (&self.positions, &self.neighborhood);
            let Some(gradients) = backward::backward(inputs, self.sizes, geometry, &out?, &grad?) else {
                bail!("{LISTED}")
            };
            let like = |values, tensor: &Tensor| Tensor::from_vec(values, tensor.shape(), tensor.device()).map(Some);
            Ok((
                like(gradients.query, query)?,
                like(gradients.key_value, key_value)?,
                like(gradients.parameters, parameters)?,
            ))
        })
    }
}
