//! Layer norm over the last axis.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::ROWS;
use crate::kernel::gpu;
use crate::kernel::gradient::gradient;
use crate::kernel::simd::{Kernel, LANES, Real, Simd, sum};
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::layers::reference;
use crate::shape;

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1f32, 3.0], [2.0, 2.0]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[2f32, 2.0], &Device::Cpu)?, Tensor::new(&[0f32, 1.0], &Device::Cpu)?);
/// let y = aff_ops::layer_norm(&x, &weight, &bias, 0.0)?;
/// assert_eq!(y.get(0)?.to_vec1::<f32>()?, [-2.0, 3.0]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `x [..,C]`, `weight [C]`, `bias [C]` -> `[..,C]`
///
/// # Errors
/// If the shapes or types differ from these.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    shape::count(OPERATOR, x.dims())?;
    shape::expect(OPERATOR, "weight", weight, &[channels])?;
    shape::expect(OPERATOR, "bias", bias, &[channels])?;
    storage::check_types(OPERATOR, &[("x", x), ("weight", weight), ("bias", bias)])?;
    let [wide, weight, bias] = [storage::prepared(x)?, storage::prepared(weight)?, storage::prepared(bias)?];
    let out = if storage::has_kernel(x, || true) {
        wide.apply_op3(&weight, &bias, Operator { eps })?
    } else {
        reference::layer_norm(&wide, &weight, &bias, eps)?
    };
    out.to_dtype(x.dtype())
}

pub(super) const OPERATOR: &str = "layer_norm";

pub(super) struct Operator {
    pub(super) eps: f64,
}

impl CustomOp3 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        #[cfg(all(test, unix))]
        if let Some(emulated) =
            gpu::emulated::forward(self, [(x, x_layout), (weight, weight_layout), (bias, bias_layout)])?
        {
            return Ok(emulated);
        }
        let shape = x_layout.shape().clone();
        by_type!(x.dtype(), T => {
            let x = storage::slice::<T>(x, x_layout)?;
            let weight = storage::slice::<T>(weight, weight_layout)?;
            let bias = storage::slice::<T>(bias, bias_layout)?;
            let mut out = vec![0.0; x.len()];
            if !out.is_empty() {
                let chunk = ROWS * weight.len();
                out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| {
                    T::dispatch(Forward { x, weight, bias, eps: self.eps as T, out });
                });
            }
            storage::output(out, shape)
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        gpu::cuda::forward(self, [(x, x_layout), (weight, weight_layout), (bias, bias_layout)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        if let Some([x, weight, bias]) = gpu::backward(self, [x, weight, bias], out, &grad)? {
            return Ok((Some(x), Some(weight), Some(bias)));
        }
        let all = [x, weight, bias];
        by_type!(x.dtype(), T => {
            let borrowed = [x, weight, &grad].map(Borrowed::new);
            let [values, weights, grad] = &borrowed;
            let (values, weights, grad) = (values.slice::<T>()?, weights.slice()?, grad.slice()?);
            let (grad_x, [grad_weight, grad_bias]) = backward(values, weights, grad, self.eps as T);
            drop(borrowed);
            let of = |values, input| gradient(OPERATOR, values, input, &all).map(Some);
            Ok((of(grad_x, x)?, of(grad_weight, weight)?, of(grad_bias, bias)?))
        })
    }
}

/// Gradients of `x`, and of `weight` and `bias`.
fn backward<T: Real>(x: &[T], weight: &[T], grad: &[T], eps: T) -> (Vec<T>, [Vec<T>; 2]) {
    let channels = weight.len();
    let zeros = || [vec![T::zero(); channels], vec![T::zero(); channels]];
    let mut grad_x = vec![T::zero(); x.len()];
    let chunk = (ROWS * channels).max(1);
    let partial: Vec<[Vec<T>; 2]> = grad_x
        .par_chunks_mut(chunk)
        .zip(x.par_chunks(chunk).zip(grad.par_chunks(chunk)))
        .map(|(grad_x, (x, grad))| {
            let mut sums = zeros();
            let [grad_weight, grad_bias] = &mut sums;
            T::dispatch(Backward { x, weight, eps, grad, grad_x, grad_weight, grad_bias });
            sums
        })
        .collect();
    let mut sums = zeros();
    for partial in &partial {
        for (sums, partial) in sums.iter_mut().zip(partial) {
            sums.iter_mut().zip(partial).for_each(|(sum, &part)| *sum += part);
        }
    }
    (grad_x, sums)
}

/// Mean and reciprocal standard deviation of a row.
#[inline(always)]
fn moments<T: Real, S: Simd<T>>(simd: S, row: &[T], eps: T) -> (T, T) {
    let count = T::of(row.len() as f64);
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut total = simd.splat(T::zero());
    for part in whole {
        total = simd.add(total, simd.vector(*part));
    }
    let mean = rest.iter().fold(sum(simd, total), |total, &value| total + value) / count;
    let wide = simd.splat(mean);
    let mut squares = simd.splat(T::zero());
    for part in whole {
        let centred = simd.sub(simd.vector(*part), wide);
        squares = simd.mul_add(centred, centred, squares);
    }
    let squares = rest.iter().fold(sum(simd, squares), |sum, &value| sum + (value - mean) * (value - mean));
    (mean, (squares / count + eps).sqrt().recip())
}

struct Forward<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    bias: &'a [T],
    eps: T,
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let channels = self.weight.len();
        let (weight, weight_rest) = self.weight.as_chunks::<LANES>();
        let (bias, bias_rest) = self.bias.as_chunks::<LANES>();
        for (row, out) in self.x.chunks_exact(channels).zip(self.out.chunks_exact_mut(channels)) {
            let (mean, scale) = moments(simd, row, self.eps);
            let (wide_mean, wide_scale) = (simd.splat(mean), simd.splat(scale));
            let (row, row_rest) = row.as_chunks::<LANES>();
            let (out, out_rest) = out.as_chunks_mut::<LANES>();
            for ((out, row), (weight, bias)) in out.iter_mut().zip(row).zip(weight.iter().zip(bias)) {
                let normal = simd.mul(simd.sub(simd.vector(*row), wide_mean), wide_scale);
                *out = simd.array(simd.mul_add(normal, simd.vector(*weight), simd.vector(*bias)));
            }
            for ((out, &value), (&weight, &bias)) in
                out_rest.iter_mut().zip(row_rest).zip(weight_rest.iter().zip(bias_rest))
            {
                *out = (value - mean) * scale * weight + bias;
            }
        }
    }
}

/// With `n = (x - mean) * scale` and `g = grad * weight`, row by row:
/// `grad_x = scale * (g - mean(g) - n * mean(g n))`, `grad_weight += grad n`, `grad_bias += grad`.
struct Backward<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    eps: T,
    grad: &'a [T],
    grad_x: &'a mut [T],
    grad_weight: &'a mut [T],
    grad_bias: &'a mut [T],
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let channels = self.weight.len();
        let count = T::of(channels as f64);
        let rows = self.x.chunks_exact(channels).zip(self.grad.chunks_exact(channels));
        for ((x, grad), grad_x) in rows.zip(self.grad_x.chunks_exact_mut(channels)) {
            let (mean, scale) = moments(simd, x, self.eps);
            let (mut mean_g, mut mean_gn) = (T::zero(), T::zero());
            for c in 0..channels {
                let normal = (x[c] - mean) * scale;
                let g = grad[c] * self.weight[c];
                mean_g += g;
                mean_gn += g * normal;
                self.grad_weight[c] += grad[c] * normal;
                self.grad_bias[c] += grad[c];
            }
            (mean_g, mean_gn) = (mean_g / count, mean_gn / count);
            for c in 0..channels {
                let normal = (x[c] - mean) * scale;
                grad_x[c] = scale * (grad[c] * self.weight[c] - mean_g - normal * mean_gn);
            }
        }
    }
}
