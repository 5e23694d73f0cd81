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
//!
//! The last cluster may have fewer members than the others. What its missing slots are is a setting, [`PaddingSlots`].

mod cpu;
mod cuda;
pub mod reference;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::kernel::gpu;
use crate::kernel::gradient::gradient;
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::{ClusterNeighborhood, Positions, shape};
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

/// What the slots that the last cluster lacks are to a query that has it among its nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PaddingSlots {
    /// Nothing: the softmax runs over the members alone.
    #[default]
    LeftOut,
    /// Each has the key, the value and the position of the image's first token, and its logit minus 100. Far from that token the
    /// position term may exceed 100, and the slots win. The published networks are computed so.
    FirstToken,
}

/// What the published networks add to the logit of a padding slot.
const PADDING_LOGIT: f64 = -100.0;

/// Where the tokens of an attention are and who neighbours whom: made once for a stage, borrowed by all its blocks.
///
/// Positions and the keys of the neighbourhood are in the order of the tokens; for [`ClusterNeighborhood::from_clusters`]
/// that is the sorted order of the clusters.
#[derive(Debug, Clone, Copy)]
pub struct AttentionGeometry<'a> {
    /// Positions of the N tokens.
    pub positions: &'a Positions,
    /// Which of them a token attends to.
    pub neighborhood: &'a ClusterNeighborhood,
    /// What the missing members of the last cluster are.
    pub padding: PaddingSlots,
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
    fn sizes(&self, geometry: &AttentionGeometry<'_>) -> Result<Sizes> {
        let AttentionGeometry { positions, neighborhood, .. } = geometry;
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
/// ```
/// use aff_geometry::Canvas;
/// use aff_ops::{
///     AttentionGeometry, ClusterAttention, ClusterNeighborhood, PaddingSlots, Positions, cluster_attention,
/// };
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
/// let geometry = AttentionGeometry {
///     positions: &positions,
///     neighborhood: &ClusterNeighborhood::all_keys(1, 3, 3)?,
///     padding: PaddingSlots::LeftOut,
/// };
/// let out = cluster_attention(&inputs, &geometry)?;
/// assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, [5., 5., 5.]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// See [`ClusterAttention`]; the result is `[B,N,C]`, channels laid out (head, D).
///
/// # Errors
/// If a shape differs from these, or positions or neighbourhood are not of the same B and N.
pub fn cluster_attention(inputs: &ClusterAttention<'_>, geometry: &AttentionGeometry<'_>) -> Result<Tensor> {
    let sizes = inputs.sizes(geometry)?;
    let named = [
        ("query", inputs.query),
        ("key_value", inputs.key_value),
        ("position_weight", inputs.position_weight),
        ("position_bias", inputs.position_bias),
        ("blank_key", inputs.blank_key),
        ("blank_value", inputs.blank_value),
    ];
    storage::check_types(OPERATOR, &named)?;
    if !storage::has_kernel(inputs.query, || cuda::covers(sizes, geometry.positions)) {
        return reference::prepared(inputs, geometry);
    }
    let parameters = [inputs.position_weight, inputs.position_bias, inputs.blank_key, inputs.blank_value];
    let parameters: Vec<Tensor> =
        parameters.iter().map(|tensor| tensor.flatten_all()).collect::<Result<_>>()?;
    let [query, key_value, parameters] = [
        &storage::prepared(inputs.query)?,
        &storage::prepared(inputs.key_value)?,
        &storage::prepared(&Tensor::cat(&parameters, 0)?)?,
    ];
    let operator = Operator {
        sizes,
        positions: geometry.positions.clone(),
        neighborhood: geometry.neighborhood.clone(),
        padding: geometry.padding,
        log_sum: gpu::Kept::default(),
    };
    query.apply_op3(key_value, parameters, operator)?.to_dtype(inputs.query.dtype())
}

const OPERATOR: &str = "cluster_attention";

/// Attention on contiguous tensors of one type; the parameters are one tensor, see [`Parameters::split`].
struct Operator {
    sizes: Sizes,
    positions: Positions,
    neighborhood: ClusterNeighborhood,
    padding: PaddingSlots,
    /// Logarithms of the sums of the softmax, for the backward pass.
    log_sum: gpu::Kept,
}

impl Operator {
    fn geometry(&self) -> AttentionGeometry<'_> {
        let Self { positions, neighborhood, padding, .. } = self;
        AttentionGeometry { positions, neighborhood, padding: *padding }
    }
}

impl CustomOp3 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
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
        #[cfg(all(test, unix))]
        if let Some(emulated) = gpu::emulated::forward(
            self,
            [(query, query_layout), (key_value, key_value_layout), (parameters, parameters_layout)],
        )? {
            return Ok(emulated);
        }
        by_type!(query.dtype(), T => {
            let inputs = Inputs {
                query: storage::slice::<T>(query, query_layout)?,
                key_value: storage::slice(key_value, key_value_layout)?,
                parameters: Parameters::split(storage::slice(parameters, parameters_layout)?, self.sizes),
            };
            let out = cpu::forward(inputs, self.sizes, self.geometry());
            storage::output(out, query_layout.shape().clone())
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        query: &CudaStorage,
        query_layout: &Layout,
        key_value: &CudaStorage,
        key_value_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::cuda::forward(
            self,
            [(query, query_layout), (key_value, key_value_layout), (parameters, parameters_layout)],
        )
    }

    fn bwd(
        &self,
        query: &Tensor,
        key_value: &Tensor,
        parameters: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        if let Some([query, key_value, parameters]) =
            gpu::backward(self, [query, key_value, parameters], out, &grad)?
        {
            return Ok((Some(query), Some(key_value), Some(parameters)));
        }
        let all = [query, key_value, parameters];
        by_type!(query.dtype(), T => {
            let borrowed = [query, key_value, parameters, out, &grad].map(Borrowed::new);
            let [query_values, key_values, parameter_values, out, grad] = &borrowed;
            let inputs = Inputs {
                query: query_values.slice::<T>()?,
                key_value: key_values.slice()?,
                parameters: Parameters::split(parameter_values.slice()?, self.sizes),
            };
            let gradients =
                cpu::backward(inputs, self.sizes, self.geometry(), out.slice()?, grad.slice()?);
            drop(borrowed);
            let of = |values, input| gradient(OPERATOR, values, input, &all).map(Some);
            Ok((
                of(gradients.query, query)?,
                of(gradients.key_value, key_value)?,
                of(gradients.parameters, parameters)?,
            ))
        })
    }
}
