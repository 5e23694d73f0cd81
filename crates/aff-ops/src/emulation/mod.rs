//! The CUDA kernels, emulated on the CPU, against the operators' twins: outputs and gradients of the public operators, as a user
//! calls them, in several orders of blocks and threads.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attention;
#[path = "../../tests/common/mod.rs"]
mod common;
mod deformable;
mod geometry;
mod layers;
mod neighbors;
mod positions;

use candle_core::{DType, Result, Tensor, Var};

use crate::kernel::gpu::emulated::emulate;

/// Orders of blocks and threads.
const SEEDS: [u32; 3] = [1, 2, 3];

/// Fails unless the kernels of an operator and its twin have the same output and gradients, and the kernels the same bits for every seed.
fn assert_kernels(
    vars: &[(&'static str, Var)],
    operator: impl Fn(&[Tensor]) -> Result<Tensor>,
    twin: impl Fn(&[Tensor]) -> Result<Tensor>,
    tolerance: f64,
) {
    // The twin in f64, so that the difference is the kernels' error.
    let wide: Vec<(&'static str, Var)> = vars
        .iter()
        .map(|(name, var)| (*name, Var::from_tensor(&var.to_dtype(DType::F64).unwrap()).unwrap()))
        .collect();
    let expected = values(&wide, &twin);
    let cpu = values(vars, &operator);
    let mut first: Option<Vec<Tensor>> = None;
    for seed in SEEDS {
        let found = emulate(seed, || values(vars, &operator));
        let names = std::iter::once("out").chain(vars.iter().map(|(name, _)| *name));
        for (((name, found), expected), cpu) in names.zip(&found).zip(&expected).zip(&cpu) {
            common::assert_close(name, found, expected, tolerance);
            common::assert_close(&format!("{name} of the CPU"), found, cpu, tolerance);
        }
        match &first {
            None => first = Some(found),
            Some(first) => {
                for (first, found) in first.iter().zip(&found) {
                    assert_eq!(bits(first), bits(found), "seed {seed} changes bits");
                }
            }
        }
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// The output of an operator and the gradients of its inputs for some gradient of the output.
fn values(vars: &[(&'static str, Var)], operator: &impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let out = operator(&inputs).unwrap();
    let weight = common::random(out.dims(), 99, DType::F64).to_dtype(out.dtype()).unwrap();
    let gradients = (&out * &weight).unwrap().sum_all().unwrap().backward().unwrap();
    let of = |(name, var): &(&'static str, Var)| {
        gradients.get(var).unwrap_or_else(|| panic!("no gradient for {name}")).clone()
    };
    std::iter::once(out).chain(vars.iter().map(of)).collect()
}
