//! Curves and the clusters along them against naive oracles: the classical definitions of the curves where those are defined, and
//! clusters made by sorting all tokens by what the definition says.
#![allow(clippy::unwrap_used)]

use aff_geometry::{Canvas, CellGrid, ClusterMode, ClusterOptions, Curve, cluster};
use proptest::prelude::*;
use proptest::sample::subsequence;

/// Hilbert's curve on a square of a power of two, bit by bit: each pair of bits of the rank chooses a quadrant, and the quadrants
/// before it turn the ones inside.
fn hilbert_cell(side: u32, rank: u32) -> [u32; 2] {
    let (mut x, mut y, mut rest) = (0, 0, rank);
    let mut size = 1;
    while size < side {
        let (right, up) = (rest / 2 % 2, (rest ^ (rest / 2)) % 2);
        if up == 0 {
            if right == 1 {
                (x, y) = (size - 1 - x, size - 1 - y);
            }
            (x, y) = (y, x);
        }
        (x, y) = (x + size * right, y + size * up);
        rest /= 4;
        size *= 2;
    }
    [x, y]
}

/// Peano's curve on a square of a power of three, as Peano wrote it: ternary digits of the rank go to x and y by turns, and each is
/// complemented as often as the digits of the other coordinate before it say.
fn peano_cell(side: u32, rank: u32) -> [u32; 2] {
    let mut digits = Vec::new();
    let (mut size, mut rest) = (1, rank);
    while size < side {
        digits.extend([rest % 3, rest / 3 % 3]);
        rest /= 9;
        size *= 3;
    }
    digits.reverse();
    let mut cell = [0, 0];
    let mut sums = [0, 0];
    for (at, &digit) in digits.iter().enumerate() {
        let axis = at % 2;
        let complemented = if sums[1 - axis] % 2 == 1 { 2 - digit } else { digit };
        cell[axis] = 3 * cell[axis] + complemented;
        sums[axis] += digit;
    }
    cell
}

#[test]
fn hilbert_is_hilberts_curve_on_powers_of_two() {
    for side in [1, 2, 4, 8, 16, 32] {
        let grid = CellGrid::new(side, side).unwrap();
        for (rank, cell) in Curve::Hilbert.cells(grid).enumerate() {
            assert_eq!(cell, hilbert_cell(side, rank as u32), "{side}, rank {rank}");
        }
    }
}

#[test]
fn peano_is_peanos_curve_on_powers_of_three() {
    for side in [1, 3, 9, 27] {
        let grid = CellGrid::new(side, side).unwrap();
        for (rank, cell) in Curve::Peano.cells(grid).enumerate() {
            assert_eq!(cell, peano_cell(side, rank as u32), "{side}, rank {rank}");
        }
    }
}

/// Squared distance from a point to the anchor of a cell, `(cell + 1/2) * size / count - 1/2`.
fn squared_distance(point: [i32; 2], cell: [f64; 2], size: [u32; 2], count: [u32; 2]) -> f64 {
    let along = |axis: usize| {
        let (size, count) = (f64::from(size[axis]), f64::from(count[axis]));
        // One rounding, so that points symmetric to an anchor tie.
        (count * (2.0 * f64::from(point[axis]) + 1.0) - (2.0 * cell[axis] + 1.0) * size) / (2.0 * count)
    };
    along(0).powi(2) + along(1).powi(2)
}

/// Tokens by (rank of the cell, ratio of squared distances to the anchors before and after, y, x), `cells` being the cells of the
/// curve in its order, listed.
fn naive_order(
    pos: &[[i32; 2]],
    canvas: Canvas,
    grid: CellGrid,
    cells: &[[u32; 2]],
    mode: ClusterMode,
) -> Vec<u32> {
    let (size, count) = ([canvas.width(), canvas.height()], [grid.cols(), grid.rows()]);
    let key = |&[x, y]: &[i32; 2]| {
        let cell = [0, 1].map(|axis| ([x, y][axis] as u32) * count[axis] / size[axis]);
        let rank = cells.iter().position(|&listed| listed == cell).unwrap();
        let at = |rank: usize| cells[rank].map(f64::from);
        let here = at(rank);
        let beyond = |other: [f64; 2]| [2.0 * here[0] - other[0], 2.0 * here[1] - other[1]];
        let after = match (rank + 1 < cells.len(), rank > 0) {
            (true, _) => at(rank + 1),
            (false, true) => beyond(at(rank - 1)),
            (false, false) => [here[0] + 1.0, here[1]],
        };
        let before = if rank > 0 { at(rank - 1) } else { beyond(after) };
        let [near, far] = [before, after].map(|cell| squared_distance([x, y], cell, size, count));
        let ratio = match mode {
            ClusterMode::Anchors => near / (far + 1e-5),
            ClusterMode::Direct => 0.0,
        };
        (rank, ratio, y, x)
    };
    let mut order: Vec<u32> = (0..pos.len() as u32).collect();
    order.sort_by(|&a, &b| key(&pos[a as usize]).partial_cmp(&key(&pos[b as usize])).unwrap());
    order
}

fn check(
    pos: &[[i32; 2]],
    canvas: Canvas,
    options: ClusterOptions,
    cells: &dyn Fn(CellGrid) -> Vec<[u32; 2]>,
) {
    let grid = match options.mode {
        ClusterMode::Anchors => CellGrid::anchors(canvas, pos.len().div_ceil(options.cluster_size)),
        ClusterMode::Direct => CellGrid::of_canvas(canvas),
    };
    let expected = naive_order(pos, canvas, grid, &cells(grid), options.mode);
    let clusters = cluster(pos, canvas, &options).unwrap();
    assert_eq!(clusters.order(), expected, "{options:?} on {canvas:?}");
}

fn full(side: i32) -> Vec<[i32; 2]> {
    (0..side * side).map(|at| [at % side, at / side]).collect()
}

/// Squares whose grids of cells are squares of the right power, by the classical curves alone.
#[test]
fn clusters_follow_the_classical_curves() {
    for (side, cluster_size, mode) in
        [(16, 16, ClusterMode::Anchors), (32, 16, ClusterMode::Anchors), (16, 5, ClusterMode::Direct)]
    {
        let options = ClusterOptions { cluster_size, curve: Curve::Hilbert, mode };
        check(&full(side), Canvas::new(side as u32, side as u32).unwrap(), options, &|grid| {
            assert!(grid.cols() == grid.rows() && grid.cols().is_power_of_two(), "{grid:?}");
            (0..grid.num_cells() as u32).map(|rank| hilbert_cell(grid.cols(), rank)).collect()
        });
    }
    for (side, cluster_size, mode) in
        [(18, 36, ClusterMode::Anchors), (27, 9, ClusterMode::Anchors), (27, 5, ClusterMode::Direct)]
    {
        let options = ClusterOptions { cluster_size, curve: Curve::Peano, mode };
        check(&full(side), Canvas::new(side as u32, side as u32).unwrap(), options, &|grid| {
            assert!(grid.cols() == grid.rows() && [3, 9, 27].contains(&grid.cols()), "{grid:?}");
            (0..grid.num_cells() as u32).map(|rank| peano_cell(grid.cols(), rank)).collect()
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// On any canvas, along the cells of the curve as it lists them.
    #[test]
    fn clusters_follow_the_curve(
        (canvas, pos) in (1..24_u32, 1..24_u32).prop_flat_map(|(width, height)| {
            let all: Vec<[i32; 2]> = (0..width * height).map(|i| [(i % width) as i32, (i / width) as i32]).collect();
            let count = all.len();
            (Just(Canvas::new(width, height).unwrap()), subsequence(all, 1..=count))
        }),
        cluster_size in 1..30_usize,
        curve in prop_oneof![Just(Curve::Scanline), Just(Curve::Hilbert), Just(Curve::Peano)],
        mode in prop_oneof![Just(ClusterMode::Anchors), Just(ClusterMode::Direct)],
    ) {
        check(&pos, canvas, ClusterOptions { cluster_size, curve, mode }, &|grid| curve.cells(grid).collect());
    }
}
