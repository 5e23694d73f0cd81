//! Linear layers on the CPU: matrix products that start from the bias.

use candle_core::Result;
use rayon::prelude::*;

use super::OPERATOR;
use super::product::{Matrix, add_product};
use crate::kernel::ROWS;
use crate::kernel::simd::Real;
use crate::shape;

/// Sizes of a layer, whose products fit into memory.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// What is multiplied by itself: the first of three axes or more. How a product is blocked, and so how its sums are rounded,
    /// depends on the number of rows, which batch mates must not change.
    images: usize,
    /// Of an image.
    rows: usize,
    inputs: usize,
    pub(super) outputs: usize,
}

impl Sizes {
    /// Of an input of these dimensions, the last of which becomes `outputs`.
    pub(super) fn new(dims: &[usize], outputs: usize) -> Result<Self> {
        let (inputs, dims) = dims.split_last().map_or((1, dims), |(&inputs, dims)| (inputs, dims));
        let (images, rows) = match dims {
            &[images, ref rows @ ..] if !rows.is_empty() => (images, rows),
            rows => (1, rows),
        };
        let rows = shape::count(OPERATOR, rows)?;
        shape::count(OPERATOR, &[images, rows, inputs])?;
        shape::count(OPERATOR, &[images, rows, outputs])?;
        shape::count(OPERATOR, &[inputs, outputs])?;
        Ok(Self { images, rows, inputs, outputs })
    }
}

pub(super) fn forward<T: Real>(x: &[T], weight: &[T], bias: Option<&[T]>, sizes: Sizes) -> Vec<T> {
    let Sizes { images, rows, inputs, outputs } = sizes;
    let mut out = vec![T::zero(); images * rows * outputs];
    if out.is_empty() {
        return out;
    }
    if let Some(bias) = bias {
        out.par_chunks_mut(ROWS * outputs).for_each(|rows| {
            rows.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        });
    }
    let weight = Matrix::new(weight, outputs, inputs).transposed();
    for (image, out) in out.chunks_exact_mut(rows * outputs).enumerate() {
        let x = &x[image * rows * inputs..][..rows * inputs];
        add_product(Matrix::new(x, rows, inputs), weight, out, bias.is_some());
    }
    out
}

/// Gradients of `x` and of `weight`.
pub(super) fn product_gradients<T: Real>(x: &[T], weight: &[T], grad: &[T], sizes: Sizes) -> [Vec<T>; 2] {
    let Sizes { images, rows, inputs, outputs } = sizes;
    let rows = images * rows;
    let (mut grad_x, mut grad_weight) = (vec![T::zero(); x.len()], vec![T::zero(); weight.len()]);
    let grad = Matrix::new(grad, rows, outputs);
    add_product(grad, Matrix::new(weight, outputs, inputs), &mut grad_x, false);
    add_product(grad.transposed(), Matrix::new(x, rows, inputs), &mut grad_weight, false);
    [grad_x, grad_weight]
}

/// Sum of each of `columns` columns, in an order that does not depend on the number of threads.
pub(super) fn column_sums<T: Real>(values: &[T], columns: usize) -> Vec<T> {
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
