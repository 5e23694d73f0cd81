//! Hilbert's curve on every size.
//!
//! The only kind of block is the *arch* `(a, b)`: the curve enters at one corner and leaves at the neighbouring corner `a`
//! cells along (local axis 0), having filled the depth `b` (local axis 1). Colour the cells like a chessboard: steps
//! alternate colours, so an arch exists only if `a` is even, or `a` and `b` are both odd (and then `a >= 3` or `b = 1`).
//! The cuts below start from a block that satisfies this and give only blocks that do:
//!
//! * `b = 1`: a straight line.
//! * `2a > 3b`: two arches one after another along axis 0. The first gets an even length next to `a / 2`, so the second
//!   has the parity of `a`.
//! * otherwise: up, across, down. Take an even height `e` next to `b / 2`. The sides are arches of length `e` along
//!   axis 1, which is even; the top is the arch `(a, b - e)`, where `b - e` has the parity of `b`. If `b = 2` there is no top,
//!   and the sides, `a = 2`, touch.
//!
//! On powers of two this is Hilbert's curve. The whole grid is an arch along its longer side if that exists. If it does
//! not (the longer side is odd, the shorter even), the arch along the shorter side does: the grid is cut along
//! the longer side into an arch of even length and a squarish odd rest, which the arch across it fills; where the curve
//! ends does not matter there.

use super::CellGrid;
use super::block::{Block, Part};

/// Local lengths of a whole that is no arch: marked by an odd length along and an even depth.
fn is_arch([a, b]: [u32; 2]) -> bool {
    a % 2 == 0 || b % 2 == 1
}

/// The whole grid, along its longer side.
pub(super) fn whole(grid: CellGrid) -> Block {
    let axis = usize::from(grid.rows > grid.cols);
    let size = [grid.cols, grid.rows];
    Block { entry: [0, 0], len: [size[axis], size[axis ^ 1]], axis, forward: [true, true] }
}

/// The even number nearest to half of `n >= 2`, at least 2.
fn even_half(n: u32) -> u32 {
    n / 4 * 2 + if n % 4 >= 2 { 2 } else { 0 }
}

/// Cuts a block as the module says.
pub(super) fn split(len: [u32; 2], index: usize) -> Option<Part> {
    let [a, b] = len;
    let straight = |from, len| Part { entry: [from, 0], len, transposed: false, reversed: [false, false] };
    if u64::from(a) * 2 > u64::from(b) * 3 {
        let first = even_half(a);
        return match index {
            0 => Some(straight(0, [first, b])),
            1 => Some(straight(first, [a - first, b])),
            _ => None,
        };
    }
    if !is_arch(len) {
        return (index == 0).then_some(Part { transposed: true, ..straight(0, len) });
    }
    let (left, side) = (a / 2, even_half(b));
    let up = Part { transposed: true, ..straight(0, [left, side]) };
    let across = Part { entry: [0, side], ..straight(0, [a, b - side]) };
    let down =
        Part { entry: [a - 1, side - 1], len: [a - left, side], transposed: true, reversed: [true, true] };
    let parts = [up, across, down];
    parts.into_iter().filter(|part| part.len[1] > 0).nth(index)
}
