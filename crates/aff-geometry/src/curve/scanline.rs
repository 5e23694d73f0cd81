//! Boustrophedon: even rows left to right, odd rows right to left.

use super::CellGrid;

pub(super) fn rank(grid: CellGrid, [col, row]: [u32; 2]) -> u64 {
    let along = if row % 2 == 0 { col } else { grid.cols - 1 - col };
    u64::from(row) * u64::from(grid.cols) + u64::from(along)
}

pub(super) fn cell(grid: CellGrid, rank: u64) -> [u32; 2] {
    let cols = u64::from(grid.cols);
    let (row, along) = ((rank / cols) as u32, (rank % cols) as u32);
    [if row % 2 == 0 { along } else { grid.cols - 1 - along }, row]
}
