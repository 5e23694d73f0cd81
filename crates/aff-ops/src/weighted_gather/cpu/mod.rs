//! Weighted sums of listed neighbours on the CPU.

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;
