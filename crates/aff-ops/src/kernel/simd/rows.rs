//! Sums over the lanes of a vector and over rows of any length.

use super::{LANES, Real, Simd};

/// Sum of the lanes, always in the same order.
#[inline(always)]
pub(crate) fn sum<T: Real, S: Simd<T>>(simd: S, vector: S::Vector) -> T {
    let v = simd.array(vector);
    ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
}

/// Greatest of the lanes.
#[inline(always)]
pub(crate) fn greatest<T: Real, S: Simd<T>>(simd: S, vector: S::Vector) -> T {
    simd.array(vector).into_iter().fold(T::neg_infinity(), T::greater)
}

/// `sum a_i b_i`
#[inline(always)]
pub(crate) fn dot<T: Real, S: Simd<T>>(simd: S, a: &[T], b: &[T]) -> T {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut total = simd.splat(T::zero());
    for (a, b) in a.iter().zip(b) {
        total = simd.mul_add(simd.vector(*a), simd.vector(*b), total);
    }
    a_rest.iter().zip(b_rest).fold(sum(simd, total), |total, (&a, &b)| total + a * b)
}

/// `out += factor * x`
#[inline(always)]
pub(crate) fn add_scaled<T: Real, S: Simd<T>>(simd: S, factor: T, x: &[T], out: &mut [T]) {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    let wide = simd.splat(factor);
    for (out, x) in out.iter_mut().zip(x) {
        *out = simd.array(simd.mul_add(wide, simd.vector(*x), simd.vector(*out)));
    }
    for (out, &x) in out_rest.iter_mut().zip(x_rest) {
        *out += factor * x;
    }
}
