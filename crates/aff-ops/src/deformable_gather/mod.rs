//! Values at learnt locations of several levels of tokens: the heart of deformable attention (section 7 of the method).
//!
//! The value of a level at location `l` is interpolated from the 4 tokens nearest to the canvas place `round(l)` (half to
//! even, clamped to the canvas), weighted by the inverse distance from `l` itself:
//!
//! ```text
//! u_t = 1 / ((|l - p_t|^2)^power + 1e-11)
//! value(l) = sum_t u_t x_t / sum_t u_t
//! out_qh = sum_{level, point} weight_q,h,level,point value_h(location_q,h,level,point)
//! ```
//!
//! As the neighbours of a location depend only on the canvas place, they are looked up in a [`CanvasLookup`], made once
//! for a level and shared by all layers.

mod backward;
mod cpu;
pub mod reference;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};

use crate::host::{self, by_type};
use crate::{CanvasLookup, shape};
use cpu::Shared;

/// What the gather computes from; see [`deformable_gather`](fn@deformable_gather).
#[derive(Debug, Clone, Copy)]
pub struct DeformableGather<'a> {
    /// Tokens of all levels, one level after the other, `[B,N,C]`; channels laid out (head, D).
    pub value: &'a Tensor,
    /// Where each query looks, `(x, y)` in canvas units, `[B,Q,H,L,P,2]`.
    pub locations: &'a Tensor,
    /// What each location counts for, `[B,Q,H,L,P]`.
    pub weights: &'a Tensor,
    /// Power of the squared distance, `[1]`.
    pub power: &'a Tensor,
}

/// Sums the values at the locations of every query and head; see the [module](self) for the equation.
///
/// ```
/// use aff_geometry::Canvas;
/// use aff_ops::{CanvasLookup, DeformableGather, Positions, deformable_gather};
/// use candle_core::{Device, Tensor};
///
/// let cpu = &Device::Cpu;
/// let level = CanvasLookup::new(&Positions::full_grid(1, Canvas::new(2, 1).unwrap()), 4)?;
/// // One query, head, level and point, half way between the values 1 and 3; it counts double.
/// let inputs = DeformableGather {
///     value: &Tensor::new(&[[[1f32], [3.]]], cpu)?,
///     locations: &Tensor::new(&[0.5f32, 0.], cpu)?.reshape((1, 1, 1, 1, 1, 2))?,
///     weights: &Tensor::new(&[2f32], cpu)?.reshape((1, 1, 1, 1, 1))?,
///     power: &Tensor::new(&[3f32], cpu)?,
/// };
/// let out = deformable_gather(&inputs, &[level])?;
/// assert_eq!(out.flatten_all()?.to_vec1::<f32>()?, [4.]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// See [`DeformableGather`]; N is the sum of the levels' tokens. The result is `[B,Q,C]`, channels laid out (head, D).
///
/// # Errors
/// If a shape differs from these or a location is not finite.
pub fn deformable_gather(inputs: &DeformableGather<'_>, levels: &[CanvasLookup]) -> Result<Tensor> {
    let sizes = inputs.sizes(levels)?;
    let locations = host::prepared(inputs.locations)?;
    let weights = host::prepared(inputs.weights)?.unsqueeze(5)?;
    // Locations and their weights travel as one tensor, [B,Q,H,L,P,3].
    let samples = Tensor::cat(&[&locations, &weights], D::Minus1)?;
    let operator = Operator { sizes, levels: levels.to_vec() };
    let value = host::prepared(inputs.value)?;
    value.apply_op3(&samples, &host::prepared(inputs.power)?, operator)?.to_dtype(inputs.value.dtype())
}

/// Sizes of a gather, once its inputs are checked.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    queries: usize,
    /// Of all levels.
    tokens: usize,
    channels: usize,
    heads: usize,
    points: usize,
}

impl DeformableGather<'_> {
    fn sizes(&self, levels: &[CanvasLookup]) -> Result<Sizes> {
        const OPERATOR: &str = "deformable_gather";
        let (batch, tokens, channels) = shape::dims3(OPERATOR, "value", self.value, "[B,N,C]")?;
        let &[_, queries, heads, _, points, _] = self.locations.dims() else {
            bail!(
                "{OPERATOR}: `locations` has shape {:?}; expected six axes [B,Q,H,L,P,2]",
                self.locations.dims()
            )
        };
        let samples = [batch, queries, heads, levels.len(), points];
        let places = [batch, queries, heads, levels.len(), points, 2];
        shape::expect(OPERATOR, "locations", self.locations, &places)?;
        shape::expect(OPERATOR, "weights", self.weights, &samples)?;
        shape::expect(OPERATOR, "power", self.power, &[1])?;
        let in_levels: usize = levels.iter().map(CanvasLookup::tokens).sum();
        if in_levels != tokens || levels.iter().any(|level| level.batch() != batch) {
            bail!(
                "{OPERATOR}: `value` has {batch} images of {tokens} tokens; the levels have {in_levels} tokens and images {:?}",
                levels.iter().map(CanvasLookup::batch).collect::<Vec<_>>()
            )
        }
        if heads == 0 || points == 0 || !channels.is_multiple_of(heads) {
            bail!("{OPERATOR}: {channels} channels do not divide among {heads} heads, or there are no points")
        }
        let named = [
            ("value", self.value),
            ("locations", self.locations),
            ("weights", self.weights),
            ("power", self.power),
        ];
        host::check_types(OPERATOR, &named)?;
        self.check_finite()?;
        Ok(Sizes { batch, queries, tokens, channels, heads, points })
    }

    /// A location that is no place would read whatever token comes first.
    fn check_finite(&self) -> Result<()> {
        let sum = self.locations.detach().to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
        if sum.is_finite() {
            return Ok(());
        }
        bail!("deformable_gather: `locations` has NaN or infinite numbers; expected places on the canvas")
    }
}

/// A gather from contiguous tensors of one type.
struct Operator {
    sizes: Sizes,
    levels: Vec<CanvasLookup>,
}

/// Splits `[..,3]` into locations `[..,2]` and weights `[..]`.
fn split_samples<T: Copy>(samples: &[T]) -> (Vec<T>, Vec<T>) {
    let samples = samples.as_chunks::<3>().0;
    (
        samples.iter().flat_map(|&[x, y, _]| [x, y]).collect(),
        samples.iter().map(|&[_, _, weight]| weight).collect(),
    )
}

impl CustomOp3 for Operator {
    fn name(&self) -> &'static str {
        "deformable_gather"
    }

    fn cpu_fwd(
        &self,
        value: &CpuStorage,
        value_layout: &Layout,
        samples: &CpuStorage,
        samples_layout: &Layout,
        power: &CpuStorage,
        power_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Sizes { batch, queries, channels, .. } = self.sizes;
        by_type!(value.dtype(), T => {
            let (locations, weights) = split_samples(host::slice::<T>(samples, samples_layout)?);
            let out = cpu::forward(Shared {
                value: host::slice(value, value_layout)?,
                locations: &locations,
                weights: &weights,
                power: host::slice(power, power_layout)?[0],
                sizes: self.sizes,
                levels: &self.levels,
            });
            Ok((candle_core::WithDType::to_cpu_storage_owned(out), Shape::from((batch, queries, channels))))
        })
    }

    fn bwd(
        &self,
        value: &Tensor,
        samples: &Tensor,
        power: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        by_type!(value.dtype(), T => {
            let (values, grad) = (host::values::<T>(value)?, host::values::<T>(grad)?);
            let (locations, weights) = split_samples(&host::values::<T>(samples)?);
            let shared = Shared {
                value: &values,
                locations: &locations,
                weights: &weights,
                power: host::values::<T>(power)?[0],
                sizes: self.sizes,
                levels: &self.levels,
            };
            let gradients = backward::backward(shared, &grad);
            let device = value.device();
            Ok((
                Some(Tensor::from_vec(gradients.value, value.shape(), device)?),
                Some(Tensor::from_vec(gradients.samples.into_flattened(), samples.shape(), device)?),
                Some(Tensor::from_vec(vec![gradients.power], power.shape(), device)?),
            ))
        })
    }
}
