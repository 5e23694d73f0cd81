//! Memory that cluster attention takes beyond its inputs, counted by the allocator.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

mod common;

use aff_ops::{ClusterAttention, cluster_attention};
use candle_core::DType;
use common::{clustered, random};

/// Counts what is allocated, and the most there was at a time.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`; the memory came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let out = cluster_attention(&inputs, &on.positions, &on.neighborhood).unwrap();
    let extra = PEAK.load(Ordering::Relaxed) - before;
    let output = out.elem_count() * size_of::<f32>();
    assert!(extra < 3 * output, "{extra} bytes for an output of {output}");
}
