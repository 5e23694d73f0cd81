//! The exact GELU.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::gpu;
use crate::kernel::gradient::gradient;
use crate::kernel::simd::{Kernel, LANES, Real, Simd};
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::layers::reference;
use crate::shape;

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// The exact GELU, `x * (1 + erf(x / sqrt 2)) / 2`.
///
/// In f32 the error function is within 1e-6 of the exact one.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[0f32, 100.0], &Device::Cpu)?;
/// assert_eq!(aff_ops::gelu(&x)?.to_vec1::<f32>()?, [0.0, 100.0]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Errors
/// If the type of `x` is not a floating point one.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    storage::check_types(OPERATOR, &[("x", x)])?;
    shape::count(OPERATOR, x.dims())?;
    let wide = storage::prepared(x)?;
    let out =
        if storage::has_kernel(x, || true) { wide.apply_op1(Operator)? } else { reference::gelu(&wide)? };
    out.to_dtype(x.dtype())
}

pub(super) const OPERATOR: &str = "gelu";

pub(super) struct Operator;

impl CustomOp1 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        #[cfg(all(test, unix))]
        if let Some(emulated) = gpu::emulated::forward(self, [(x, layout)])? {
            return Ok(emulated);
        }
        by_type!(x.dtype(), T => {
            let x = storage::slice::<T>(x, layout)?;
            let mut out = vec![0.0; x.len()];
            out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
                T::dispatch(Forward { x, out });
            });
            storage::output(out, layout.shape().clone())
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        gpu::cuda::forward(self, [(x, layout)])
    }

    fn bwd(&self, x: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        if let Some([x]) = gpu::backward(self, [x], out, &grad)? {
            return Ok(Some(x));
        }
        by_type!(x.dtype(), T => {
            let borrowed = [x, &grad].map(Borrowed::new);
            let [values, grad] = &borrowed;
            let (values, grad) = (values.slice::<T>()?, grad.slice::<T>()?);
            let mut grad_x = vec![0.0; values.len()];
            let inputs = values.par_chunks(CHUNK).zip(grad.par_chunks(CHUNK));
            grad_x.par_chunks_mut(CHUNK).zip(inputs).for_each(|(grad_x, (x, grad))| {
                T::dispatch(Backward { x, grad, grad_x });
            });
            drop(borrowed);
            gradient(OPERATOR, grad_x, x, &[]).map(Some)
        })
    }
}

/// `(1 + erf(x / sqrt 2)) / 2`: the share of a normal distribution below x.
#[inline(always)]
fn share_below<T: Real, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let half = simd.splat(T::of(0.5));
    let erf = simd.erf(simd.mul(x, simd.splat(T::of(std::f64::consts::FRAC_1_SQRT_2))));
    simd.mul_add(erf, half, half)
}

#[inline(always)]
pub(crate) fn gelu_lanes<T: Real, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    simd.mul(x, share_below(simd, x))
}

/// The derivative, `share_below(x) + x * density(x)`.
#[inline(always)]
pub(crate) fn gelu_slope_lanes<T: Real, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let exponent = simd.mul(simd.mul(x, x), simd.splat(T::of(-0.5)));
    let density =
        simd.mul(simd.exp(exponent), simd.splat(T::of((2.0 * std::f64::consts::PI).sqrt().recip())));
    simd.mul_add(x, density, share_below(simd, x))
}

struct Forward<'a, T> {
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        for (out, x) in out.iter_mut().zip(x) {
            *out = simd.array(gelu_lanes(simd, simd.vector(*x)));
        }
        let last = simd.array(gelu_lanes(simd, simd.load_part(x_rest, T::zero())));
        out_rest.copy_from_slice(&last[..x_rest.len()]);
    }
}

struct Backward<'a, T> {
    x: &'a [T],
    grad: &'a [T],
    grad_x: &'a mut [T],
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let chunks = self.x.chunks(LANES).zip(self.grad.chunks(LANES));
        for ((x, grad), grad_x) in chunks.zip(self.grad_x.chunks_mut(LANES)) {
            let slope = gelu_slope_lanes(simd, simd.load_part(x, T::zero()));
            let product = simd.array(simd.mul(slope, simd.load_part(grad, T::zero())));
            grad_x.copy_from_slice(&product[..x.len()]);
        }
    }
}
