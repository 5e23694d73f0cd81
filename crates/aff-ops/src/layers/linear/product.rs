//! Matrix products.

#![allow(unsafe_code)]

use crate::kernel::simd::Real;

/// A matrix in a slice, each element at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row after row.
    pub(super) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(values.len()), rows.checked_mul(columns), "a matrix of {rows} x {columns}");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// `out = a b`, or `out += a b`; `out` row after row.
pub(super) fn add_product<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T], add: bool) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    assert_eq!(b.rows, inner, "the inner sizes of a matrix product");
    assert_eq!(Some(out.len()), rows.checked_mul(columns), "the size of a matrix product");
    if rows == 0 || inner == 0 || columns == 0 {
        if !add {
            out.fill(T::zero());
        }
        return;
    }
    let factor = if add { T::one() } else { T::zero() };
    // SAFETY: by construction every `Matrix` has `rows * columns` elements in `values`, a product that does not wrap, which its
    // strides address exactly, and so has `out` with the strides (columns, 1); the assertions above tie the three sizes together. `out` is borrowed mutably and so
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
