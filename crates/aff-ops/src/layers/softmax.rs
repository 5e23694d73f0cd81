//! Softmax over the last axis.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::ROWS;
use crate::kernel::gpu;
use crate::kernel::gradient::gradient;
use crate::kernel::simd::{Kernel, LANES, Real, Simd, dot, greatest, sum};
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::layers::reference;
use crate::shape;

/// Softmax over the last axis.
///
/// A row of nothing but `-inf` becomes NaN, as elsewhere.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[0f32, 0.0, f32::NEG_INFINITY], &Device::Cpu)?;
/// assert_eq!(aff_ops::softmax_last_dim(&x)?.to_vec1::<f32>()?, [0.5, 0.5, 0.0]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `x [..,M]` -> `[..,M]`
///
/// # Errors
/// If `x` has no axis or is not of a floating point type.
pub fn softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    storage::check_types(OPERATOR, &[("x", x)])?;
    x.dim(D::Minus1)?;
    shape::count(OPERATOR, x.dims())?;
    let wide = storage::prepared(x)?;
    let out = if storage::has_kernel(x, || true) {
        wide.apply_op1(Operator)?
    } else {
        reference::softmax_last_dim(&wide)?
    };
    out.to_dtype(x.dtype())
}

pub(super) const OPERATOR: &str = "softmax_last_dim";

pub(super) struct Operator;

/// The last axis of a shape.
fn width(shape: &Shape) -> usize {
    shape.dims().last().copied().unwrap_or(1).max(1)
}

impl CustomOp1 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        #[cfg(all(test, unix))]
        if let Some(emulated) = gpu::emulated::forward(self, [(x, layout)])? {
            return Ok(emulated);
        }
        let width = width(layout.shape());
        by_type!(x.dtype(), T => {
            let x = storage::slice::<T>(x, layout)?;
            let mut out = vec![0.0; x.len()];
            let chunk = ROWS * width;
            out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| {
                T::dispatch(Forward { x, width, out });
            });
            storage::output(out, layout.shape().clone())
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        gpu::cuda::forward(self, [(x, layout)])
    }

    fn bwd(&self, x: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = width(x.shape());
        let grad = grad.contiguous()?;
        if let Some([x]) = gpu::backward(self, [x], out, &grad)? {
            return Ok(Some(x));
        }
        by_type!(x.dtype(), T => {
            let borrowed = [out, &grad].map(Borrowed::new);
            let [out, grad] = &borrowed;
            let (out, grad) = (out.slice::<T>()?, grad.slice::<T>()?);
            let mut grad_x = vec![0.0; out.len()];
            let chunk = ROWS * width;
            let inputs = out.par_chunks(chunk).zip(grad.par_chunks(chunk));
            grad_x.par_chunks_mut(chunk).zip(inputs).for_each(|(grad_x, (out, grad))| {
                T::dispatch(Backward { out, grad, width, grad_x });
            });
            drop(borrowed);
            gradient(OPERATOR, grad_x, x, &[]).map(Some)
        })
    }
}

/// `e^(values - most)`; 0 far below, where the exponential of [`Simd`] itself stops at e^-87.
#[inline(always)]
fn exp_below<T: Real, S: Simd<T>>(simd: S, values: S::Vector, most: T) -> [T; LANES] {
    let mut exps = simd.array(simd.exp(simd.sub(values, simd.splat(most))));
    let limit = most - T::of(87.0);
    for (exp, value) in exps.iter_mut().zip(simd.array(values)) {
        *exp = if value < limit { T::zero() } else { *exp };
    }
    exps
}

struct Forward<'a, T> {
    x: &'a [T],
    width: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for (row, out) in self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let (whole, rest) = row.as_chunks::<LANES>();
            let mut most = simd.splat(T::neg_infinity());
            for part in whole {
                most = simd.max(most, simd.vector(*part));
            }
            let most = rest.iter().fold(greatest(simd, most), |most, &value| most.greater(value));
            let (out_whole, out_rest) = out.as_chunks_mut::<LANES>();
            let mut total = simd.splat(T::zero());
            for (out, part) in out_whole.iter_mut().zip(whole) {
                *out = exp_below(simd, simd.vector(*part), most);
                total = simd.add(total, simd.vector(*out));
            }
            let last = exp_below(simd, simd.load_part(rest, T::neg_infinity()), most);
            out_rest.copy_from_slice(&last[..rest.len()]);
            let total = out_rest.iter().fold(sum(simd, total), |total, &value| total + value);
            // NaN if there was nothing but -inf.
            let scale = if most == T::neg_infinity() { T::nan() } else { total.recip() };
            for value in out {
                *value *= scale;
            }
        }
    }
}

/// `grad_x = out * (grad - sum(grad * out))`
struct Backward<'a, T> {
    out: &'a [T],
    grad: &'a [T],
    width: usize,
    grad_x: &'a mut [T],
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let rows = self.out.chunks_exact(self.width).zip(self.grad.chunks_exact(self.width));
        for ((out, grad), grad_x) in rows.zip(self.grad_x.chunks_exact_mut(self.width)) {
            let total = dot(simd, out, grad);
            for ((grad_x, &out), &grad) in grad_x.iter_mut().zip(out).zip(grad) {
                *grad_x = out * (grad - total);
            }
        }
    }
}
