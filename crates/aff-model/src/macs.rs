//! Multiply-adds, counted where the work is done: every layer says beside its forward pass what that costs.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

/// Operations that the published counter takes for one value of a layer norm.
const NORM_OPERATIONS: usize = 5;
/// Features of a relative position.
pub(crate) const PHI: usize = 5;

/// Multiply-adds of a part of the network.
///
/// Published figures come from a counter that sees library calls and not hand-written kernels: convolutions, linear
/// layers, dense attention products, the classes summed over queries, layer norms (5 for each value), and the linear
/// layer that each attention block of the published code runs over its **table** of relative positions: every offset
/// between two places of the canvas in the classifier, every offset up to 511 in the segmenter. It does not see cluster
/// attention's products, merging, or deformable sampling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Macs {
    /// As the published figures count; explains them (see the tests).
    pub published: u64,
    /// Products that this implementation performs.
    pub executed: u64,
}

impl Macs {
    /// Products that both count.
    pub(crate) fn products(count: usize) -> Self {
        Self { published: count as u64, executed: count as u64 }
    }

    /// Products in a kernel that the published counter does not see.
    pub(crate) fn executed(count: usize) -> Self {
        Self { published: 0, executed: count as u64 }
    }

    /// What the published counter takes for a layer norm.
    pub(crate) fn norm(rows: usize, channels: usize) -> Self {
        Self { published: (NORM_OPERATIONS * rows * channels) as u64, executed: 0 }
    }

    /// What only the published code does.
    pub(crate) fn published(count: usize) -> Self {
        Self { published: count as u64, executed: 0 }
    }
}

impl Add for Macs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { published: self.published + other.published, executed: self.executed + other.executed }
    }
}

impl AddAssign for Macs {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<usize> for Macs {
    type Output = Self;

    fn mul(self, times: usize) -> Self {
        Self { published: self.published * times as u64, executed: self.executed * times as u64 }
    }
}

impl Sum for Macs {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Tells the tests how many products a forward pass has just performed, from the shapes that it met: what layers say they cost is
/// compared with it. Does nothing in a program.
#[cfg(not(test))]
pub(crate) fn performed(_products: usize) {}

#[cfg(test)]
pub(crate) use measured::performed;

#[cfg(test)]
pub(crate) mod measured {
    use std::cell::Cell;

    thread_local! {
        static PERFORMED: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn performed(products: usize) {
        PERFORMED.with(|all| all.set(all.get() + products as u64));
    }

    /// Products that `run` performs on this thread.
    pub(crate) fn during<R>(run: impl FnOnce() -> R) -> (u64, R) {
        let before = PERFORMED.with(Cell::get);
        let result = run();
        (PERFORMED.with(Cell::get) - before, result)
    }
}
