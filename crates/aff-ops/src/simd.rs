//! Eight numbers at a time, with instructions chosen when the program runs.
//!
//! A [`Kernel`] is written once against [`Simd`] and compiled for every instruction set; [`Real::dispatch`] runs the best one
//! that the processor has. So an ordinary build is fast, without `target-cpu=native`.
//!
//! Kernels call only functions that are `#[inline(always)]`, and no closure more than once: what the compiler does not inline
//! it compiles for the least processor, where every vector instruction becomes a call.

use candle_core::WithDType;
use candle_core::cpu::erf;

/// Numbers in a vector.
pub(crate) const LANES: usize = 8;

/// The instruction set that the operators run on: `"avx2+fma"`, `"neon"` or `"plain"`.
///
/// ```
/// println!("aff-ops runs on {}", aff_ops::instruction_set());
/// ```
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_available() {
        return "avx2+fma";
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "plain" }
}

/// Code that runs on any instruction set.
pub(crate) trait Kernel<T: Copy> {
    type Output;
    /// To be marked `#[inline(always)]`, so that it is compiled for the instruction set it is called with.
    fn run<S: Simd<T>>(self, simd: S) -> Self::Output;
}

/// The number types that operators compute in.
pub(crate) trait Real: WithDType + num_traits::Float + std::iter::Sum + std::ops::AddAssign {
    /// Runs a kernel on the best instruction set there is.
    fn dispatch<K: Kernel<Self>>(kernel: K) -> K::Output;
    /// Rounds to this type.
    fn of(value: f64) -> Self;
    /// The greater of two, under a name that no other trait has.
    fn greater(self, other: Self) -> Self {
        num_traits::Float::max(self, other)
    }
}

impl Real for f32 {
    #[inline]
    fn dispatch<K: Kernel<Self>>(kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if avx2::is_available() {
            return avx2::run(kernel);
        }
        kernel.run(Plain)
    }

    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Real for f64 {
    #[inline]
    fn dispatch<K: Kernel<Self>>(kernel: K) -> K::Output {
        kernel.run(Plain)
    }

    fn of(value: f64) -> Self {
        value
    }
}

/// Arithmetic on vectors of [`LANES`] numbers.
pub(crate) trait Simd<T: Copy>: Copy {
    type Vector: Copy;
    fn splat(self, value: T) -> Self::Vector;
    fn vector(self, values: [T; LANES]) -> Self::Vector;
    fn array(self, values: Self::Vector) -> [T; LANES];
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sqrt(self, a: Self::Vector) -> Self::Vector;
    /// `a * b + c`
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    fn exp(self, a: Self::Vector) -> Self::Vector;
    /// The natural logarithm of positive normal numbers.
    fn ln(self, a: Self::Vector) -> Self::Vector;
    /// The error function, within 1e-6.
    fn erf(self, a: Self::Vector) -> Self::Vector;

    /// The values, and `fill` behind them; at most [`LANES`] values.
    #[inline(always)]
    fn load_part(self, values: &[T], fill: T) -> Self::Vector {
        let mut all = [fill; LANES];
        all[..values.len()].copy_from_slice(values);
        self.vector(all)
    }
}

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

/// The exponential of f32 by range reduction and a polynomial (constants of the Cephes library): within 2 units in the last place.
mod exponential {
    pub(super) const LN_2_HIGH: f32 = 0.693_359_4;
    pub(super) const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// Adding and subtracting 1.5 * 2^23 rounds to an integer.
    pub(super) const ROUND: f32 = 12_582_912.0;
    /// Beyond these the result is 0 or infinite in f32.
    pub(super) const LEAST: f32 = -87.0;
    pub(super) const GREATEST: f32 = 88.0;
    pub(super) const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];
}

/// The logarithm of f32: the exponent, and a polynomial for the rest (constants of the Cephes library).
#[cfg(target_arch = "x86_64")]
mod logarithm {
    /// The bits of the square root of 1/2, where the range of the polynomial begins.
    pub(super) const START: i32 = 0x3f35_04f3;
    pub(super) const POLYNOMIAL: [f32; 9] = [
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
fn rational_erf<S: Simd<f32>>(simd: S, x: S::Vector) -> S::Vector {
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

/// Plain arrays, which the compiler turns into whatever instructions the build may assume.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

#[inline(always)]
fn each<T: Copy>(a: [T; LANES], f: impl Fn(T) -> T) -> [T; LANES] {
    a.map(f)
}

#[inline(always)]
fn pairs<T: Copy>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

macro_rules! plain {
    ($float:ty, $exp:expr, $erf:expr) => {
        impl Simd<$float> for Plain {
            type Vector = [$float; LANES];

            #[inline(always)]
            fn splat(self, value: $float) -> Self::Vector {
                [value; LANES]
            }

            #[inline(always)]
            fn vector(self, values: [$float; LANES]) -> Self::Vector {
                values
            }

            #[inline(always)]
            fn array(self, values: Self::Vector) -> [$float; LANES] {
                values
            }

            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                pairs(a, b, |a, b| a + b)
            }

            #[inline(always)]
            fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                pairs(a, b, |a, b| a - b)
            }

            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                pairs(a, b, |a, b| a * b)
            }

            #[inline(always)]
            fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                pairs(a, b, |a, b| a / b)
            }

            #[inline(always)]
            fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                pairs(a, b, |a, b| if a > b { a } else { b })
            }

            #[inline(always)]
            fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                pairs(a, b, |a, b| if a < b { a } else { b })
            }

            #[inline(always)]
            fn sqrt(self, a: Self::Vector) -> Self::Vector {
                each(a, <$float>::sqrt)
            }

            #[inline(always)]
            fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // A fused step where the processor has one; elsewhere it would be a slow call.
                if cfg!(target_arch = "aarch64") {
                    std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
                } else {
                    std::array::from_fn(|i| a[i] * b[i] + c[i])
                }
            }

            #[inline(always)]
            fn exp(self, a: Self::Vector) -> Self::Vector {
                $exp(self, a)
            }

            #[inline(always)]
            fn ln(self, a: Self::Vector) -> Self::Vector {
                each(a, <$float>::ln)
            }

            #[inline(always)]
            fn erf(self, a: Self::Vector) -> Self::Vector {
                $erf(self, a)
            }
        }
    };
}

plain!(f32, plain_exp, rational_erf);
plain!(f64, |_, a| each(a, f64::exp), |_, a| each(a, erf::erf_f64));

#[inline(always)]
fn plain_exp(_: Plain, a: [f32; LANES]) -> [f32; LANES] {
    use exponential::{GREATEST, LEAST, LN_2_HIGH, LN_2_LOW, POLYNOMIAL, ROUND};
    each(a, |x| {
        let x = x.clamp(LEAST, GREATEST);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LN_2_HIGH - n * LN_2_LOW;
        let poly = POLYNOMIAL.iter().fold(0.0, |poly, factor| poly * r + factor);
        // The low bits of `shifted` are n; moved into the exponent they make 2^n.
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
        (poly * r * r + r + 1.0) * power
    })
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! AVX2 and FMA.
    #![allow(unsafe_code)]

    use std::arch::x86_64::{
        __m256, _mm256_add_epi32, _mm256_add_ps, _mm256_castps_si256, _mm256_castsi256_ps,
        _mm256_cvtepi32_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_sqrt_ps,
        _mm256_srai_epi32, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps,
    };

    use super::exponential::{GREATEST, LEAST, LN_2_HIGH, LN_2_LOW, POLYNOMIAL, ROUND};
    use super::{Kernel, LANES, Simd, logarithm, rational_erf};

    /// Proof that the processor has AVX2 and FMA: only [`run`] makes it, after asking.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2(());

    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    /// Runs a kernel with AVX2; only where [`is_available`].
    #[inline]
    pub(super) fn run<K: Kernel<f32>>(kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn inner<K: Kernel<f32>>(kernel: K) -> K::Output {
            kernel.run(Avx2(()))
        }
        assert!(is_available());
        // SAFETY: `inner` needs the features avx2 and fma, which the line above has found on this processor.
        unsafe { inner(kernel) }
    }

    impl Simd<f32> for Avx2 {
        type Vector = __m256;

        // In all of these:
        // SAFETY: the instructions need AVX2 or FMA, which the processor has, as `self` proves. Loads and stores are
        // unaligned ones of LANES numbers from or to an array of LANES numbers.

        #[inline(always)]
        fn splat(self, value: f32) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        fn vector(self, values: [f32; LANES]) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_loadu_ps(values.as_ptr()) }
        }

        #[inline(always)]
        fn array(self, values: __m256) -> [f32; LANES] {
            let mut array = [0.0; LANES];
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(array.as_mut_ptr(), values) };
            array
        }

        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_sub_ps(a, b) }
        }

        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        fn div(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_div_ps(a, b) }
        }

        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_max_ps(a, b) }
        }

        #[inline(always)]
        fn min(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_min_ps(a, b) }
        }

        #[inline(always)]
        fn sqrt(self, a: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_sqrt_ps(a) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn exp(self, a: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe {
                let x = self.min(self.max(a, self.splat(LEAST)), self.splat(GREATEST));
                let round = self.splat(ROUND);
                let shifted = _mm256_fmadd_ps(x, self.splat(std::f32::consts::LOG2_E), round);
                let n = _mm256_sub_ps(shifted, round);
                let r = _mm256_fnmadd_ps(n, self.splat(LN_2_HIGH), x);
                let r = _mm256_fnmadd_ps(n, self.splat(LN_2_LOW), r);
                let mut poly = self.splat(POLYNOMIAL[0]);
                for factor in &POLYNOMIAL[1..] {
                    poly = _mm256_fmadd_ps(poly, r, self.splat(*factor));
                }
                let fraction = _mm256_fmadd_ps(_mm256_mul_ps(poly, r), r, _mm256_add_ps(r, self.splat(1.0)));
                // The low bits of `shifted` are n; moved into the exponent they make 2^n.
                let bits = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
                let power = _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3f80_0000)));
                _mm256_mul_ps(fraction, power)
            }
        }

        #[inline(always)]
        fn ln(self, a: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe {
                let bits = _mm256_castps_si256(a);
                let power =
                    _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(logarithm::START)));
                let rest = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(power));
                let power = _mm256_cvtepi32_ps(power);
                let x = _mm256_sub_ps(_mm256_castsi256_ps(rest), self.splat(1.0));
                let square = _mm256_mul_ps(x, x);
                let mut poly = self.splat(logarithm::POLYNOMIAL[0]);
                for factor in &logarithm::POLYNOMIAL[1..] {
                    poly = _mm256_fmadd_ps(poly, x, self.splat(*factor));
                }
                let mut small = _mm256_mul_ps(_mm256_mul_ps(poly, x), square);
                small = _mm256_fmadd_ps(power, self.splat(LN_2_LOW), small);
                small = _mm256_fnmadd_ps(square, self.splat(0.5), small);
                _mm256_fmadd_ps(power, self.splat(LN_2_HIGH), _mm256_add_ps(x, small))
            }
        }

        #[inline(always)]
        fn erf(self, a: __m256) -> __m256 {
            rational_erf(self, a)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worst error of the exponential (relative), the error function and the logarithm (absolute, of numbers up to e^80).
    struct Worst;

    impl Kernel<f32> for Worst {
        type Output = [f64; 3];

        #[inline(always)]
        fn run<S: Simd<f32>>(self, simd: S) -> [f64; 3] {
            let mut worst = [0.0_f64; 3];
            for step in -80_000..80_000 {
                let x = step as f32 * 1e-3;
                let at = |found: S::Vector| f64::from(simd.array(found)[3]);
                let exact = f64::from(x).exp();
                worst[0] = worst[0].max((at(simd.exp(simd.splat(x))) / exact - 1.0).abs());
                let exact = erf::erf_f64(f64::from(x) / 10.0);
                worst[1] = worst[1].max((at(simd.erf(simd.splat(x / 10.0))) - exact).abs());
                let positive = x.exp();
                worst[2] = worst[2].max((at(simd.ln(simd.splat(positive))) - f64::from(positive).ln()).abs());
            }
            worst
        }
    }

    #[test]
    fn functions_are_exact_enough() {
        for [exp, erf, ln] in [Worst.run(Plain), f32::dispatch(Worst)] {
            assert!(exp < 3e-7, "exp: {exp}");
            assert!(erf < 1e-6, "erf: {erf}");
            assert!(ln < 5e-6, "ln: {ln}");
        }
    }

    #[test]
    fn odd_lengths_lose_nothing() {
        struct Both<'a>(&'a [f32], &'a [f32]);
        impl Kernel<f32> for Both<'_> {
            type Output = (f32, Vec<f32>);

            #[inline(always)]
            fn run<S: Simd<f32>>(self, simd: S) -> Self::Output {
                let mut out = self.1.to_vec();
                add_scaled(simd, 2.0, self.0, &mut out);
                (dot(simd, self.0, self.1), out)
            }
        }
        for length in 0..40 {
            let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let b: Vec<f32> = (0..length).map(|i| (i % 5) as f32).collect();
            let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            let (found, out) = f32::dispatch(Both(&a, &b));
            assert_eq!(found, expected);
            assert!(out.iter().zip(a.iter().zip(&b)).all(|(out, (a, b))| *out == b + 2.0 * a));
        }
    }

    #[test]
    fn an_instruction_set_is_named() {
        assert!(["avx2+fma", "neon", "plain"].contains(&instruction_set()));
    }
}
