//! Functions of f32 that no instruction computes: exponential, logarithm, error function.

use super::Simd;

/// Single precision numbers seen as their bits.
pub(super) trait Bits: Simd<f32> {
    /// `2^n`, given `n + 1.5 * 2^23`, whose low bits are n; they are moved into the exponent.
    fn power_of_two(self, shifted: Self::Vector) -> Self::Vector;

    /// `a = 2^n * rest` with the rest from the number whose bits are `start`, and below twice that; of positive normal numbers.
    fn exponent_and_rest(self, a: Self::Vector, start: i32) -> [Self::Vector; 2];
}

/// Parts of the logarithm of 2: the first is short, so that its products with small integers are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// The exponential by range reduction and a polynomial (constants of the Cephes library): within 2 units in the last place.
/// Beyond -87 and 88 it stays what it is there.
#[inline(always)]
pub(super) fn exp<S: Bits>(simd: S, a: S::Vector) -> S::Vector {
    /// Adding and subtracting 1.5 * 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    /// Beyond these the result is 0 or infinite.
    const LEAST: f32 = -87.0;
    const GREATEST: f32 = 88.0;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];
    let x = simd.min(simd.max(a, simd.splat(LEAST)), simd.splat(GREATEST));
    let shifted = simd.mul_add(x, simd.splat(std::f32::consts::LOG2_E), simd.splat(ROUND));
    let n = simd.sub(shifted, simd.splat(ROUND));
    let r = simd.mul_add(n, simd.splat(-LN_2_HIGH), x);
    let r = simd.mul_add(n, simd.splat(-LN_2_LOW), r);
    let square = simd.mul(polynomial(simd, &POLYNOMIAL, r), r);
    let fraction = simd.mul_add(square, r, simd.add(r, simd.splat(1.0)));
    simd.mul(fraction, simd.power_of_two(shifted))
}

/// The natural logarithm of positive normal numbers: the exponent, and a polynomial for the rest (constants of the Cephes library).
#[inline(always)]
pub(super) fn ln<S: Bits>(simd: S, a: S::Vector) -> S::Vector {
    /// The bits of the square root of 1/2, where the range of the polynomial begins.
    const START: i32 = 0x3f35_04f3;
    const POLYNOMIAL: [f32; 9] = [
        7.037_683_6e-2,
        -0.115_146_1,
        0.116_769_984,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_57,
        0.200_007_14,
        -0.249_999_94,
        0.333_333_3,
    ];
    let [power, rest] = simd.exponent_and_rest(a, START);
    let x = simd.sub(rest, simd.splat(1.0));
    let square = simd.mul(x, x);
    let mut small = simd.mul(simd.mul(polynomial(simd, &POLYNOMIAL, x), x), square);
    small = simd.mul_add(power, simd.splat(LN_2_LOW), small);
    small = simd.mul_add(square, simd.splat(-0.5), small);
    simd.mul_add(power, simd.splat(LN_2_HIGH), simd.add(x, small))
}

/// The polynomial with these factors, highest power first.
#[inline(always)]
fn polynomial<S: Simd<f32>>(simd: S, factors: &[f32], x: S::Vector) -> S::Vector {
    let mut value = simd.splat(factors[0]);
    for factor in &factors[1..] {
        value = simd.mul_add(value, x, simd.splat(*factor));
    }
    value
}

/// The error function as `x P(x^2) / Q(x^2)` on [-4, 4], beyond which it is 1 in f32; the coefficients are those of Eigen's
/// (`generic_fast_erf_float`), which TensorFlow uses, too.
#[inline(always)]
pub(super) fn erf<S: Simd<f32>>(simd: S, x: S::Vector) -> S::Vector {
    const NUMERATOR: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_5e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const DENOMINATOR: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = simd.max(simd.min(x, simd.splat(4.0)), simd.splat(-4.0));
    let square = simd.mul(x, x);
    let ratio =
        simd.div(simd.mul(x, polynomial(simd, &NUMERATOR, square)), polynomial(simd, &DENOMINATOR, square));
    // The ratio ends two units in the last place short of 1.
    let stretched = simd.mul(ratio, simd.splat(1.0 + 2.0 * f32::EPSILON));
    simd.max(simd.min(stretched, simd.splat(1.0)), simd.splat(-1.0))
}
