//! AVX2 and FMA.

pub(super) use pulp::x86::V3;
use pulp::{NullaryFnOnce, f32x8, i32x8, u32x8};

use super::functions::{self, Bits};
use super::{Kernel, LANES, Simd};

/// Runs a kernel with these instructions.
#[inline]
pub(super) fn run<K: Kernel<f32>>(simd: V3, kernel: K) -> K::Output {
    struct Run<K> {
        simd: V3,
        kernel: K,
    }
    impl<K: Kernel<f32>> NullaryFnOnce for Run<K> {
        type Output = K::Output;

        #[inline(always)]
        fn call(self) -> K::Output {
            self.kernel.run(self.simd)
        }
    }
    simd.vectorize(Run { simd, kernel })
}

impl Simd<f32> for V3 {
    const NAME: &'static str = "avx2+fma";
    type Vector = f32x8;

    #[inline(always)]
    fn splat(self, value: f32) -> f32x8 {
        self.splat_f32x8(value)
    }

    #[inline(always)]
    fn vector(self, values: [f32; LANES]) -> f32x8 {
        pulp::cast(values)
    }

    #[inline(always)]
    fn array(self, values: f32x8) -> [f32; LANES] {
        pulp::cast(values)
    }

    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        self.add_f32x8(a, b)
    }

    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        self.sub_f32x8(a, b)
    }

    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        self.mul_f32x8(a, b)
    }

    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        self.div_f32x8(a, b)
    }

    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        self.max_f32x8(a, b)
    }

    #[inline(always)]
    fn min(self, a: f32x8, b: f32x8) -> f32x8 {
        self.min_f32x8(a, b)
    }

    #[inline(always)]
    fn sqrt(self, a: f32x8) -> f32x8 {
        self.sqrt_f32x8(a)
    }

    #[inline(always)]
    fn mul_add(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        self.mul_add_f32x8(a, b, c)
    }

    #[inline(always)]
    fn exp(self, a: f32x8) -> f32x8 {
        functions::exp(self, a)
    }

    #[inline(always)]
    fn ln(self, a: f32x8) -> f32x8 {
        functions::ln(self, a)
    }

    #[inline(always)]
    fn erf(self, a: f32x8) -> f32x8 {
        functions::erf(self, a)
    }
}

impl Bits for V3 {
    #[inline(always)]
    fn power_of_two(self, shifted: f32x8) -> f32x8 {
        let bits: u32x8 = pulp::cast(shifted);
        let bits = self.wrapping_add_u32x8(self.shl_const_u32x8::<23>(bits), self.splat_u32x8(0x3f80_0000));
        pulp::cast(bits)
    }

    #[inline(always)]
    fn exponent_and_rest(self, a: f32x8, start: i32) -> [f32x8; 2] {
        let bits: i32x8 = pulp::cast(a);
        let exponent = self.shr_const_i32x8::<23>(self.wrapping_sub_i32x8(bits, self.splat_i32x8(start)));
        let shifted: u32x8 = self.shl_const_u32x8::<23>(pulp::cast(exponent));
        let rest = self.wrapping_sub_i32x8(bits, pulp::cast(shifted));
        [self.convert_i32x8_to_f32x8(exponent), pulp::cast(rest)]
    }
}
