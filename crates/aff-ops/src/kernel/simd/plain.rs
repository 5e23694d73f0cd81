//! Arrays, which the compiler turns into whatever instructions the build may assume.

use candle_core::cpu::erf;

use super::functions::{self, Bits};
use super::{LANES, Simd};

/// No instruction set in particular.
#[derive(Clone, Copy)]
pub(super) struct Plain;

#[inline(always)]
fn each<T: Copy>(a: [T; LANES], f: impl Fn(T) -> T) -> [T; LANES] {
    a.map(f)
}

#[inline(always)]
fn pairs<T: Copy>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

macro_rules! plain {
    ($float:ty, $exp:expr, $ln:expr, $erf:expr) => {
        impl Simd<$float> for Plain {
            const NAME: &'static str = "plain";
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
                $ln(self, a)
            }

            #[inline(always)]
            fn erf(self, a: Self::Vector) -> Self::Vector {
                $erf(self, a)
            }
        }
    };
}

plain!(f32, functions::exp, functions::ln, functions::erf);
plain!(f64, |_, a| each(a, f64::exp), |_, a| each(a, f64::ln), |_, a| each(a, erf::erf_f64));

impl Bits for Plain {
    #[inline(always)]
    fn power_of_two(self, shifted: [f32; LANES]) -> [f32; LANES] {
        each(shifted, |shifted| f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000)))
    }

    #[inline(always)]
    fn exponent_and_rest(self, a: [f32; LANES], start: i32) -> [[f32; LANES]; 2] {
        let exponent = |a: f32| (a.to_bits() as i32).wrapping_sub(start) >> 23;
        let rest = |a: f32| f32::from_bits((a.to_bits() as i32).wrapping_sub(exponent(a) << 23) as u32);
        [each(a, |a| exponent(a) as f32), each(a, rest)]
    }
}
