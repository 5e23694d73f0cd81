//! Peano's curve on every size.
//!
//! The only kind of block is the *diagonal* `(a, b)`: the curve enters at one corner and leaves at the opposite one. Colour
//! the cells like a chessboard: steps alternate colours, so a diagonal exists unless `a` and `b` are both even. It is cut
//! into three by three diagonals, which the curve visits as a serpentine, up the first column of blocks, down the second,
//! up the third; each block starts beside the corner where the one before it ended, because three is odd. An odd side is
//! cut into three odd sides, an even one into thirds of any parity; as at most one of the two is even, no block gets two even
//! sides. A block more than twice as long as wide is cut along its length only, and so is one that is two cells wide.
//! Blocks one cell wide are straight lines.
//!
//! On powers of three this is Peano's curve. A grid with two even sides is cut first into two odd halves of its longer
//! side: two diagonals, the second one on its way back.

use super::CellGrid;
use super::block::{Block, Part};

/// The whole grid.
pub(super) fn whole(grid: CellGrid) -> Block {
    Block { entry: [0, 0], len: [grid.cols, grid.rows], axis: 0, forward: [true, true] }
}

/// The starts and the end of the thirds of a side of at least three; odd thirds if the side is odd.
fn thirds(n: u32) -> [u32; 4] {
    let third = (n / 3) | (n % 2);
    [0, third, n - third, n]
}

/// Cuts a block as the module says.
pub(super) fn split(len: [u32; 2], index: usize) -> Option<Part> {
    let [a, b] = len;
    if a % 2 == 0 && b % 2 == 0 {
        let axis = usize::from(b > a);
        let first = (len[axis] / 2) | 1;
        let mut part = Part { entry: [0, 0], len, transposed: false, reversed: [false, false] };
        match index {
            0 => part.len[axis] = first,
            1 => {
                part.len[axis] -= first;
                part.entry[axis] = first;
                part.entry[axis ^ 1] = len[axis ^ 1] - 1;
                part.reversed[axis ^ 1] = true;
            }
            _ => return None,
        }
        return Some(part);
    }
    let (wide, high) = (u64::from(a), u64::from(b));
    let whole = |n| [0, n, n, n];
    let cut_a = a > 2 && high <= 2 * wide;
    let cut_b = b > 2 && wide <= 2 * high;
    let (cols, col_starts) = if cut_a { (3, thirds(a)) } else { (1, whole(a)) };
    let (rows, row_starts) = if cut_b { (3, thirds(b)) } else { (1, whole(b)) };
    let (col, step) = (index / rows, index % rows);
    if col >= cols {
        return None;
    }
    let row = if col % 2 == 0 { step } else { rows - 1 - step };
    // Axis 0 turns with every block passed in this column, axis 1 with every column.
    let reversed = [(step + col * (rows - 1)) % 2 == 1, col % 2 == 1];
    let mut part = Part { entry: [0, 0], len: [0, 0], transposed: false, reversed };
    for (axis, starts, at) in [(0, col_starts, col), (1, row_starts, row)] {
        part.len[axis] = starts[at + 1] - starts[at];
        part.entry[axis] = if reversed[axis] { starts[at + 1] - 1 } else { starts[at] };
    }
    Some(part)
}
