//! Values at learnt locations of several levels of tokens: the heart of deformable attention (section 7 of the method).
//!
//! The value of a level at location `l` is interpolated from the 4 tokens nearest to the canvas cell `round(l)` (half to
//! even, clamped to the canvas), weighted by the inverse distance from `l` itself:
//!
//! ```text
//! u_t = 1 / ((|l - p_t|^2)^power + 1e-11)
//! value(l) = sum_t u_t x_t / sum_t u_t
//! out_qh = sum_{level, point} weight_q,h,level,point value_h(location_q,h,level,point)
//! ```
//!
//! As the neighbours of a location depend only on the canvas cell, they are looked up in a [`CanvasLookup`], made once
//! for a level and shared by all layers.

mod cpu;
mod cuda;
pub mod reference;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use crate::kernel::gpu;
use crate::kernel::gradient::gradient;
use crate::kernel::simd::Real;
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::points::EMPTY;
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
/// If a shape differs from these, or a location is not finite: found out on the CPU only, on another device the result is NaN there.
pub fn deformable_gather(inputs: &DeformableGather<'_>, levels: &[CanvasLookup]) -> Result<Tensor> {
    let sizes = inputs.sizes(levels)?;
    let dtype = inputs.value.dtype();
    let [value, locations, weights, power] =
        [inputs.value, inputs.locations, inputs.weights, inputs.power].map(storage::prepared);
    let (value, locations, weights, power) = (value?, locations?, weights?, power?);
    if !storage::has_kernel(inputs.value, || cuda::covers(sizes, levels)) {
        let wide =
            DeformableGather { value: &value, locations: &locations, weights: &weights, power: &power };
        return reference::deformable_gather(&wide, levels)?.to_dtype(dtype);
    }
    // Locations and their weights travel as one tensor, [B,Q,H,L,P,3].
    let samples = Tensor::cat(&[&locations, &weights.unsqueeze(5)?], D::Minus1)?;
    let operator = Operator { sizes, levels: levels.to_vec() };
    value.apply_op3(&samples, &power, operator)?.to_dtype(dtype)
}

const OPERATOR: &str = "deformable_gather";
/// Least squared distance whose logarithm is taken; its powers vanish beside [`DISTANCE_FLOOR`](crate::shepard::DISTANCE_FLOOR).
const LEAST_SQUARED_DISTANCE: f64 = 1e-20;

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
        let (batch, tokens, channels) = shape::dims3(OPERATOR, "value", self.value, "[B,N,C]")?;
        let &[_, queries, heads, _, points, _] = self.locations.dims() else {
            bail!(
                "{OPERATOR}: `locations` has shape {:?}; expected six axes [B,Q,H,L,P,2]",
                self.locations.dims()
            )
        };
        let samples = [batch, queries, heads, levels.len(), points];
        let coordinates = [batch, queries, heads, levels.len(), points, 2];
        shape::expect(OPERATOR, "locations", self.locations, &coordinates)?;
        shape::expect(OPERATOR, "weights", self.weights, &samples)?;
        shape::expect(OPERATOR, "power", self.power, &[1])?;
        let in_levels: usize = levels.iter().map(CanvasLookup::tokens).sum();
        if tokens >= EMPTY as usize {
            bail!("{OPERATOR}: `value` has {tokens} tokens; expected fewer than {EMPTY}")
        }
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
        storage::check_types(OPERATOR, &named)?;
        shape::count(OPERATOR, &[batch, queries, channels])?;
        shape::count(OPERATOR, &[batch, queries, heads, levels.len(), points, 3])?;
        Ok(Sizes { batch, queries, tokens, channels, heads, points })
    }
}

/// A gather from contiguous tensors of one type.
struct Operator {
    sizes: Sizes,
    levels: Vec<CanvasLookup>,
}

impl Operator {
    fn shared<'a, T: Real>(&'a self, value: &'a [T], samples: &'a [T], power: &[T]) -> Result<Shared<'a, T>> {
        let &[power] = power else { bail!("{OPERATOR}: `power` has {} numbers; expected 1", power.len()) };
        let samples = samples.as_chunks::<3>().0;
        // A location that is no point of the plane would read whatever token comes first.
        if samples.iter().any(|[x, y, _]| !(x.is_finite() && y.is_finite())) {
            bail!("{OPERATOR}: `locations` has NaN or infinite numbers; expected points of the canvas")
        }
        Ok(Shared { value, samples, power, sizes: self.sizes, levels: &self.levels })
    }
}

impl CustomOp3 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
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
        #[cfg(all(test, unix))]
        if let Some(emulated) = gpu::emulated::forward(
            self,
            [(value, value_layout), (samples, samples_layout), (power, power_layout)],
        )? {
            return Ok(emulated);
        }
        let Sizes { batch, queries, channels, .. } = self.sizes;
        by_type!(value.dtype(), T => {
            let shared = self.shared::<T>(
                storage::slice(value, value_layout)?,
                storage::slice(samples, samples_layout)?,
                storage::slice(power, power_layout)?,
            )?;
            storage::output(cpu::forward(shared), (batch, queries, channels))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        value: &CudaStorage,
        value_layout: &Layout,
        samples: &CudaStorage,
        samples_layout: &Layout,
        power: &CudaStorage,
        power_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::cuda::forward(self, [(value, value_layout), (samples, samples_layout), (power, power_layout)])
    }

    fn bwd(
        &self,
        value: &Tensor,
        samples: &Tensor,
        power: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        if let Some([value, samples, power]) = gpu::backward(self, [value, samples, power], out, &grad)? {
            return Ok((Some(value), Some(samples), Some(power)));
        }
        let all = [value, samples, power];
        by_type!(value.dtype(), T => {
            let borrowed = [value, samples, power, &grad].map(Borrowed::new);
            let [values, sample_values, powers, grad] = &borrowed;
            let shared = self.shared::<T>(values.slice()?, sample_values.slice()?, powers.slice()?)?;
            let gradients = cpu::backward(shared, grad.slice()?);
            drop(borrowed);
            let of = |values, input| gradient(OPERATOR, values, input, &all).map(Some);
            Ok((
                of(gradients.value, value)?,
                of(gradients.samples.into_flattened(), samples)?,
                of(vec![gradients.power], power)?,
            ))
        })
    }
}
