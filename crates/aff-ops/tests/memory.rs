//! Memory that the operators take beyond their inputs, counted by the allocator.
#![allow(clippy::unwrap_used)]

mod common;

use aff_ops::{AttentionGeometry, ClusterAttention, PaddingSlots, cluster_attention};
use candle_core::{DType, Tensor, Var};
use common::{Clustered, clustered, random};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const TOKENS: usize = 131_072;

/// Peak of what `run` allocates, and its result.
fn peak<R>(run: impl FnOnce() -> R) -> (usize, R) {
    // The pool of threads comes first, so that it does not count.
    rayon::join(|| (), || ());
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = run();
    (ALLOCATOR.peak_usage() - before, result)
}

fn attend(on: &Clustered, query: &Tensor, key_value: &Tensor) -> Tensor {
    let f32s = |shape: &[usize]| random(shape, 1, DType::F32);
    let inputs = ClusterAttention {
        query,
        key_value,
        position_weight: &f32s(&[2, 5]),
        position_bias: &f32s(&[2]),
        blank_key: &f32s(&[32]),
        blank_value: &f32s(&[32]),
    };
    let geometry = AttentionGeometry {
        positions: &on.positions,
        neighborhood: &on.neighborhood,
        padding: PaddingSlots::LeftOut,
    };
    cluster_attention(&inputs, &geometry).unwrap()
}

/// One test, as the allocator counts for all threads.
#[test]
fn operators_copy_no_operands() {
    let on = clustered(1, TOKENS, [512, 256], 8, 6);
    let query = Var::from_tensor(&random(&[1, TOKENS, 32], 1, DType::F32)).unwrap();
    let key_value = Var::from_tensor(&random(&[1, TOKENS, 64], 1, DType::F32)).unwrap();
    let output = TOKENS * 32 * size_of::<f32>();

    let (extra, out) = peak(|| attend(&on, &query, &key_value));
    assert!(extra < 3 * output, "attention: {extra} bytes for an output of {output}");

    let loss = out.sum_all().unwrap();
    let (extra, _gradients) = peak(|| loss.backward().unwrap());
    // The gradient of the output, packed keys and values, the gradients of the inputs head by head and put together; then what Candle
    // adds them to.
    assert!(extra < 11 * output, "attention, backward: {extra} bytes for an output of {output}");
}
