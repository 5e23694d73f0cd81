//! Every curve visits every cell once, in steps of one, on every size of grid.
#![allow(clippy::unwrap_used)]

use aff_geometry::{CellGrid, Curve};
use proptest::prelude::*;

const CURVES: [Curve; 3] = [Curve::Scanline, Curve::Hilbert, Curve::Peano];

fn check(curve: Curve, cols: u32, rows: u32) {
    let grid = CellGrid::new(cols, rows).unwrap();
    let mut seen = vec![false; grid.num_cells() as usize];
    let mut before: Option<[u32; 2]> = None;
    for (rank, cell) in curve.cells(grid).enumerate() {
        let name = format!("{curve:?} {cols} x {rows}, rank {rank}, cell {cell:?}");
        assert!(grid.contains(cell), "{name}: outside");
        let seen = &mut seen[(cell[1] * cols + cell[0]) as usize];
        assert!(!*seen, "{name}: twice");
        *seen = true;
        assert_eq!(curve.rank(grid, cell), Some(rank as u64), "{name}");
        let step = before.map(|[col, row]| col.abs_diff(cell[0]) + row.abs_diff(cell[1]));
        assert!(step.is_none_or(|step| step == 1), "{name}: from {before:?}");
        before = Some(cell);
    }
    assert!(seen.iter().all(|&seen| seen), "{curve:?} {cols} x {rows}: a cell is left out");
}

#[test]
fn every_size_up_to_64() {
    for curve in CURVES {
        for cols in 1..=64 {
            for rows in 1..=64 {
                check(curve, cols, rows);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_sizes(cols in 1..=300_u32, rows in 1..=300_u32) {
        for curve in CURVES {
            check(curve, cols, rows);
        }
    }
}
