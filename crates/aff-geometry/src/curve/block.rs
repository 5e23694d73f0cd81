//! What the recursive curves share: a rectangle of cells with a direction of travel, and the walk down its cuts.

/// A rectangle of cells, seen from the cell where the curve enters it.
///
/// Local coordinates count cells from the entry, so that local `(0, 0)` is the entry and both directions lead into the
/// block. Local axis 0 lies along canvas axis `axis`, local axis 1 along the other one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The cell where the curve enters.
    pub(super) entry: [u32; 2],
    /// Cells along local axes 0 and 1.
    pub(super) len: [u32; 2],
    /// Canvas axis (0 is x) that local axis 0 lies along.
    pub(super) axis: usize,
    /// Whether local axes 0 and 1 lead towards greater canvas coordinates.
    pub(super) forward: [bool; 2],
}

/// A part of a block, in local coordinates of the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Where the curve enters the part.
    pub(super) entry: [u32; 2],
    /// Cells along local axes 0 and 1 of the whole.
    pub(super) len: [u32; 2],
    /// Whether the part's local axes are those of the whole exchanged.
    pub(super) transposed: bool,
    /// Whether the part runs against local axes 0 and 1 of the whole.
    pub(super) reversed: [bool; 2],
}

/// The number of parts a block is cut into, at most.
pub(super) const MAX_PARTS: usize = 9;

/// How a block is cut: part `index` in the order of the curve, or `None` past the last one. Blocks one cell wide are never cut.
pub(super) type Split = fn(len: [u32; 2], index: usize) -> Option<Part>;

impl Block {
    fn num_cells(&self) -> u64 {
        u64::from(self.len[0]) * u64::from(self.len[1])
    }

    fn is_line(&self) -> bool {
        self.len[0] == 1 || self.len[1] == 1
    }

    /// The local coordinates of a cell, if it lies in the block.
    fn local(&self, cell: [u32; 2]) -> Option<[u32; 2]> {
        let mut local = [0; 2];
        for (i, local) in local.iter_mut().enumerate() {
            let axis = self.axis ^ i;
            let (to, from) =
                if self.forward[i] { (cell[axis], self.entry[axis]) } else { (self.entry[axis], cell[axis]) };
            *local = to.checked_sub(from).filter(|&offset| offset < self.len[i])?;
        }
        Some(local)
    }

    /// The cell at local coordinates.
    fn canvas(&self, local: [u32; 2]) -> [u32; 2] {
        let mut cell = self.entry;
        for (i, offset) in local.into_iter().enumerate() {
            let axis = self.axis ^ i;
            cell[axis] = if self.forward[i] { cell[axis] + offset } else { cell[axis] - offset };
        }
        cell
    }

    /// A part of this block as a block of its own.
    fn part(&self, part: Part) -> Self {
        let first = usize::from(part.transposed);
        let direction = |i: usize| self.forward[i] != part.reversed[i];
        Self {
            entry: self.canvas(part.entry),
            len: [part.len[first], part.len[first ^ 1]],
            axis: self.axis ^ first,
            forward: [direction(first), direction(first ^ 1)],
        }
    }
}

/// Rank of a cell on the curve through `block`, which must contain it.
pub(super) fn rank(mut block: Block, cell: [u32; 2], split: Split) -> u64 {
    let mut rank = 0;
    'down: while !block.is_line() {
        for index in 0..MAX_PARTS {
            let Some(part) = split(block.len, index) else { break };
            let part = block.part(part);
            if part.local(cell).is_some() {
                block = part;
                continue 'down;
            }
            rank += part.num_cells();
        }
        break;
    }
    rank + block.local(cell).map_or(0, |[along, across]| u64::from(along) + u64::from(across))
}

/// The cell of a rank on the curve through `block`, which must be long enough.
pub(super) fn cell(mut block: Block, mut rank: u64, split: Split) -> [u32; 2] {
    'down: while !block.is_line() {
        for index in 0..MAX_PARTS {
            let Some(part) = split(block.len, index) else { break };
            let part = block.part(part);
            if rank < part.num_cells() {
                block = part;
                continue 'down;
            }
            rank -= part.num_cells();
        }
        break;
    }
    block.canvas(if block.len[0] > 1 { [rank as u32, 0] } else { [0, rank as u32] })
}
