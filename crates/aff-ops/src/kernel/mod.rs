//! What the kernels of all operators stand on: vector instructions, borrowed storage, sums of neighbours, gradients.

#[cfg_attr(
    not(any(test, feature = "cuda")),
    allow(dead_code, reason = "kernels of GPUs run in builds with `cuda`, and in tests")
)]
pub(crate) mod gpu;
pub(crate) mod gradient;
pub(crate) mod simd;
pub(crate) mod storage;
pub(crate) mod sums;

/// Rows that a thread takes at a time. Fixed, so that sums over rows come out the same with any number of threads.
pub(crate) const ROWS: usize = 128;
