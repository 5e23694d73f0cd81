//! Memory that cluster attention takes beyond its inputs, counted by the allocator.
#![allow(clippy::unwrap_used)]

mod common;

use aff_ops::{AttentionGeometry, ClusterAttention, PaddingSlots, cluster_attention};
use candle_core::DType;
use common::{clustered, random};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[test]
fn attention_takes_less_than_three_times_its_output() {
    const TOKENS: usize = 131_072;
    let on = clustered(1, TOKENS, [512, 256], 8, 6);
    let f32s = |shape: &[usize]| random(shape, 1, DType::F32);
    let inputs = ClusterAttention {
        query: &f32s(&[1, TOKENS, 32]),
        key_value: &f32s(&[1, TOKENS, 64]),
        position_weight: &f32s(&[2, 5]),
        position_bias: &f32s(&[2]),
        blank_key: &f32s(&[32]),
        blank_value: &f32s(&[32]),
    };
    // The pool of threads comes first, so that it does not count.
    rayon::join(|| (), || ());
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let geometry = AttentionGeometry {
        positions: &on.positions,
        neighborhood: &on.neighborhood,
        padding: PaddingSlots::LeftOut,
    };
    let out = cluster_attention(&inputs, &geometry).unwrap();
    let extra = ALLOCATOR.peak_usage() - before;
    let output = out.elem_count() * size_of::<f32>();
    assert!(extra < 3 * output, "{extra} bytes for an output of {output}");
}
