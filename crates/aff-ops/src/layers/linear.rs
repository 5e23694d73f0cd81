//! Linear layers.

#![allow(unsafe_code)]

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::host::{self, ROWS, by_type};
use crate::shape;
use crate::simd::Real;

/// `x weight^T + bias` over the last axis.
///
/// The bias is where the matrix product starts from, so that it costs no pass of its own.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, 10.0, 0.0], &Device::Cpu)?;
/// assert_eq!(aff_ops::linear(&x, &weight, Some(&bias))?.to_vec2::<f32>()?, [[1.0, 12.0, 3.0]]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `x [..,I]`, `weight [O,I]`, `bias [O]` -> `[..,O]`
///
/// # Errors
/// If the shapes or types differ from these.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    const OPERATOR: &str = "linear";
    let inputs = x.dim(D::Minus1)?;
    let Some(&outputs) = weight.dims().first() else {
        bail!("{OPERATOR}: `weight` is a scalar; expected [O,{inputs}]")
    };
    shape::expect(OPERATOR, "weight", weight, &[outputs, inputs])?;
    host::check_types(OPERATOR, &[("x", x), ("weight", weight)])?;
    let (prepared, weight) = (host::prepared(x)?, host::prepared(weight)?);
    let out = match bias {
        Some(bias) => {
            shape::expect(OPERATOR, "bias", bias, &[outputs])?;
            host::check_types(OPERATOR, &[("x", x), ("bias", bias)])?;
            prepared.apply_op3(&weight, &host::prepared(bias)?, Linear)?
        }
        None => prepared.apply_op2(&weight, Linear)?,
    };
    out.to_dtype(x.dtype())
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), T => {
            let out = forward::<T>(host::slice(x, x_layout)?, x_layout, host::slice(weight, weight_layout)?, weight_layout, None)?;
            Ok((candle_core::WithDType::to_cpu_storage_owned(out), out_shape(x_layout, weight_layout)))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, weight] = product_gradients(x, weight, grad)?;
        Ok((Some(x), Some(weight)))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        by_type!(x.dtype(), T => {
            let bias = host::slice::<T>(bias, bias_layout)?;
            let out =
                forward::<T>(host::slice(x, x_layout)?, x_layout, host::slice(weight, weight_layout)?, weight_layout, Some(bias))?;
            Ok((candle_core::WithDType::to_cpu_storage_owned(out), out_shape(x_layout, weight_layout)))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [grad_x, grad_weight] = product_gradients(x, weight, grad)?;
        let grad_bias = by_type!(x.dtype(), T => {
            let sums = column_sums(&host::values::<T>(grad)?, bias.elem_count());
            Tensor::from_vec(sums, bias.shape(), bias.device())?
        });
        Ok((Some(grad_x), Some(grad_weight), Some(grad_bias)))
    }
}

fn out_shape(x: &Layout, weight: &Layout) -> Shape {
    let mut dims = x.dims().to_vec();
    if let (Some(last), Some(&outputs)) = (dims.last_mut(), weight.dims().first()) {
        *last = outputs;
    }
    Shape::from(dims)
}

/// A product for each image, the first of three axes or more: how a product is blocked, and so how its sums are rounded, depends on the
/// number of rows, which batch mates must not change.
fn forward<T: Real>(
    x: &[T],
    x_layout: &Layout,
    weight: &[T],
    weight_layout: &Layout,
    bias: Option<&[T]>,
) -> Result<Vec<T>> {
    let (outputs, inputs) = weight_layout.shape().dims2()?;
    let images = if x_layout.dims().len() > 2 { x_layout.dims()[0].max(1) } else { 1 };
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    let mut out = vec![T::zero(); rows * outputs];
    if let Some(bias) = bias.filter(|bias| !bias.is_empty()) {
        out.par_chunks_mut(ROWS * outputs).for_each(|rows| {
            rows.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        });
    }
    let weight = Matrix::new(weight, outputs, inputs).transposed();
    let rows = rows / images;
    if rows > 0 && outputs > 0 {
        for (x, out) in x.chunks_exact(rows * inputs).zip(out.chunks_exact_mut(rows * outputs)) {
            add_product(Matrix::new(x, rows, inputs), weight, out, bias.is_some());
        }
    }
    Ok(out)
}

/// Gradients with respect to `x` and `weight`.
fn product_gradients(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<[Tensor; 2]> {
    let (outputs, inputs) = weight.dims2()?;
    by_type!(x.dtype(), T => {
        let (grad, x_values, weight_values) =
            (host::values::<T>(grad)?, host::values::<T>(x)?, host::values::<T>(weight)?);
        let rows = x_values.len() / inputs.max(1);
        let (mut grad_x, mut grad_weight) = (vec![0.0; x_values.len()], vec![0.0; weight_values.len()]);
        let grad = Matrix::new(&grad, rows, outputs);
        add_product(grad, Matrix::new(&weight_values, outputs, inputs), &mut grad_x, false);
        add_product(grad.transposed(), Matrix::new(&x_values, rows, inputs), &mut grad_weight, false);
        let device = x.device();
        Ok([Tensor::from_vec(grad_x, x.shape(), device)?, Tensor::from_vec(grad_weight, weight.shape(), device)?])
    })
}

/// Sum of each of `columns` columns, in an order that does not depend on the number of threads.
fn column_sums<T: Real>(values: &[T], columns: usize) -> Vec<T> {
    let add = |mut sums: Vec<T>, row: &[T]| {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
        sums
    };
    let zeros = || vec![T::zero(); columns];
    let width = columns.max(1);
    let partial: Vec<Vec<T>> =
        values.par_chunks(ROWS * width).map(|rows| rows.chunks_exact(width).fold(zeros(), add)).collect();
    partial.iter().fold(zeros(), |sums, part| add(sums, part))
}

/// A matrix in a slice, each element at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row after row.
    fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// `out = a b`, or `out += a b`; `out` row after row.
fn add_product<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T], add: bool) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    assert_eq!(b.rows, inner, "the inner sizes of a matrix product");
    assert_eq!(out.len(), rows * columns, "the size of a matrix product");
    let factor = if add { T::one() } else { T::zero() };
    // SAFETY: by construction every `Matrix` has `rows * columns` elements in `values`, which its strides address exactly, and
    // so has `out` with the strides (columns, 1); the assertions above tie the three sizes together. `out` is borrowed mutably and so
    // overlaps neither input. All elements are initialised plain numbers.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            columns as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            factor,
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::Rayon(rayon::current_num_threads()),
        );
    }
}
