//! Eight numbers at a time, with instructions chosen when the program runs.
//!
//! A [`Kernel`] is written once against [`Simd`] and compiled for every instruction set; [`Real::dispatch`] runs the best one
//! that the processor has. So an ordinary build is fast, without `target-cpu=native`. The instructions come from `pulp`; what it has
//! not, functions such as the exponential, is in `functions`.
//!
//! Kernels call only functions that are `#[inline(always)]`, and no closure more than once: what the compiler does not inline
//! it compiles for the least processor, where every vector instruction becomes a call.

mod functions;
mod plain;
mod rows;
#[cfg(target_arch = "x86_64")]
mod x86;

use candle_core::WithDType;

use plain::Plain;
pub(crate) use rows::{add_scaled, dot, greatest, sum};

/// Numbers in a vector.
pub(crate) const LANES: usize = 8;

/// The instruction set that the operators run on: `"avx2+fma"`, or `"plain"` where the compiler chose the instructions.
///
/// ```
/// println!("aff-ops runs on {}", aff_ops::instruction_set());
/// ```
pub fn instruction_set() -> &'static str {
    struct Name;
    impl Kernel<f32> for Name {
        type Output = &'static str;

        #[inline(always)]
        fn run<S: Simd<f32>>(self, _: S) -> &'static str {
            S::NAME
        }
    }
    f32::dispatch(Name)
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
        if let Some(simd) = x86::V3::try_new() {
            return x86::run(simd, kernel);
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
    /// The instruction set.
    const NAME: &'static str;
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::cpu::erf;

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

    /// The name is that of the code that runs: only the fused step has one rounding, in which the last bit survives.
    #[test]
    fn the_instruction_set_is_the_one_that_runs() {
        struct Fused;
        impl Kernel<f32> for Fused {
            type Output = bool;

            #[inline(always)]
            fn run<S: Simd<f32>>(self, simd: S) -> bool {
                let x = simd.splat(1.0 + f32::EPSILON);
                let rest = simd.mul_add(x, x, simd.splat(-1.0 - 2.0 * f32::EPSILON));
                simd.array(rest) == [f32::EPSILON * f32::EPSILON; LANES]
            }
        }
        #[cfg(target_arch = "x86_64")]
        let expected = if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            ("avx2+fma", true)
        } else {
            ("plain", false)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let expected = ("plain", cfg!(target_arch = "aarch64"));
        assert_eq!((instruction_set(), f32::dispatch(Fused)), expected);
    }
}
