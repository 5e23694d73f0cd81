//! The order that clusters are cut from, their centres and the nearest of them, bit for bit those of `aff-geometry`. No operator launches
//! these kernels yet.

use aff_geometry::{Canvas, CellGrid, ClusterOptions, Curve, cluster, nearest_clusters};
use candle_core::Error;

use super::SEEDS;
use crate::Positions;
use crate::kernel::gpu::emulated::{Emulated, download};
use crate::kernel::gpu::{Gpu, Launch, int};

/// The rank of each cell on the curve, and the cells before and after each rank.
fn tables(curve: Curve, grid: CellGrid) -> (Vec<u32>, Vec<u32>) {
    let cells = u64::from(grid.cols()) * u64::from(grid.rows());
    let mut ranks = vec![0; cells as usize];
    let mut around = Vec::new();
    let at = |rank: u64| curve.cell(grid, rank).map(|cell| cell.map(f64::from));
    for rank in 0..cells {
        let [column, row] = curve.cell(grid, rank).unwrap();
        ranks[(row * grid.cols() + column) as usize] = rank as u32;
        let cell = at(rank).unwrap();
        let beyond = |other: [f64; 2]| [2.0 * cell[0] - other[0], 2.0 * cell[1] - other[1]];
        let before = rank.checked_sub(1).and_then(at);
        let next = at(rank + 1).or(before.map(beyond)).unwrap_or([cell[0] + 1.0, cell[1]]);
        let previous = before.unwrap_or_else(|| beyond(next));
        for number in [previous, next].concat() {
            let bits = number.to_bits();
            around.extend([bits as u32, (bits >> 32) as u32]);
        }
    }
    (ranks, around)
}

#[test]
fn the_order_is_the_cpus() {
    let canvases = [(56, 56, 4), (40, 30, 1), (100, 33, 3), (8, 8, 2), (5, 1, 1)];
    for curve in [Curve::Scanline, Curve::Hilbert, Curve::Peano] {
        for (index, (width, height, keep)) in canvases.into_iter().enumerate() {
            let canvas = Canvas::new(width, height).unwrap();
            let on = |p: &[i32; 2]| (p[0] * 73 + p[1] * 151 + p[0] * p[1]) % keep == 0;
            let xy: Vec<[i32; 2]> =
                Positions::full_grid(1, canvas).image(0).iter().copied().filter(on).collect();
            let tokens = xy.len();
            // The second image is the first from behind.
            let both = [xy.clone(), xy.into_iter().rev().collect()].concat();
            let positions = Positions::new(both, 2, canvas).unwrap();
            let mut options = ClusterOptions::new(8);
            options.curve = curve;
            let orders =
                positions.images().map(|image| cluster(image, canvas, &options).unwrap().order().to_vec());
            let expected: Vec<u32> = orders.flatten().collect();
            let gpu = Emulated { seed: SEEDS[index % SEEDS.len()] };
            assert_eq!(order(&gpu, &positions, curve).unwrap(), expected, "{curve:?} {width} x {height}");
            assert_eq!(expected.len(), 2 * tokens);
        }
    }
}

fn order(gpu: &Emulated, positions: &Positions, curve: Curve) -> candle_core::Result<Vec<u32>> {
    let (batch, tokens, canvas) = (positions.batch(), positions.tokens(), positions.canvas());
    let grid = CellGrid::anchors(canvas, tokens.div_ceil(8));
    let (ranks, around) = tables(curve, grid);
    let cells = ranks.len();
    let words = |count: usize| gpu.words(batch * count);
    let (mut starts, mut cursors) = (words(cells + 1)?, words(cells)?);
    let (mut rank, mut keys, mut bucket, mut order) =
        (words(tokens)?, words(2 * tokens)?, words(tokens)?, words(tokens)?);
    Launch::new("cluster_order", [batch, 1], 1024)?
        .read(&positions.on_gpu(gpu)?)
        .read(&gpu.upload(&ranks)?)
        .read(&gpu.upload(&around)?)
        .write(&mut starts)
        .write(&mut cursors)
        .write(&mut rank)
        .write(&mut keys)
        .write(&mut bucket)
        .write(&mut order)
        .value([int(tokens)?, canvas.width(), canvas.height(), grid.cols(), grid.rows()])
        .on(gpu)?;
    let order = order.to_words();
    if order.len() == batch * tokens { Ok(order) } else { Err(Error::msg("an order of another length")) }
}

/// Centres `[B,K,2]` and the `r` nearest clusters of each token, `[B,N,r]`, of tokens in the order of their clusters.
fn nearest(
    gpu: &Emulated,
    positions: &Positions,
    cluster_size: usize,
    r: usize,
) -> candle_core::Result<(Vec<f32>, Vec<u32>)> {
    let (batch, tokens, canvas) = (positions.batch(), positions.tokens(), positions.canvas());
    let clusters = tokens.div_ceil(cluster_size);
    // About two centres a bucket.
    let side = ((clusters as f64 / 2.0).sqrt().ceil() as usize).max(1);
    let size = canvas.width().max(canvas.height()) as f32 / side as f32;
    let fields = [int(tokens)?, int(cluster_size)?, int(clusters)?, int(side)?, size.to_bits()];
    let place = positions.on_gpu(gpu)?;
    let mut centers = gpu.floats(batch * clusters * 2)?;
    let (mut starts, mut cursors, mut members) = (
        gpu.words(batch * (side * side + 1))?,
        gpu.words(batch * side * side)?,
        gpu.words(batch * clusters)?,
    );
    Launch::new("cluster_centers", [batch, 1], 1024)?
        .read(&place)
        .write(&mut centers)
        .write(&mut starts)
        .write(&mut cursors)
        .write(&mut members)
        .value(fields)
        .on(gpu)?;
    let rows = batch * tokens;
    let mut found = gpu.words(rows * r)?;
    Launch::new("nearest_clusters", [rows.div_ceil(128), 1], 128)?
        .read(&place)
        .read(&centers)
        .read(&starts)
        .read(&members)
        .write(&mut found)
        .value([int(rows)?])
        .value([int(r)?])
        .value(fields)
        .on(gpu)?;
    Ok((download(&centers), found.to_words()))
}

#[test]
fn centres_and_nearest_clusters_are_the_cpus() {
    let cases = [
        ([40, 30], 3, 8, 6), // the last cluster is not full
        ([56, 56], 1, 8, 6), // a full grid, with many ties
        ([200, 3], 2, 8, 8),
        ([64, 20], 5, 24, 2),
        ([5, 1], 1, 8, 1), // fewer tokens than a cluster
        ([30, 20], 1, 1, 7),
    ];
    for (index, ([width, height], keep, cluster_size, r)) in cases.into_iter().enumerate() {
        let canvas = Canvas::new(width, height).unwrap();
        let (mut sorted, mut centers, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for image in 0..2 {
            let mut xy = Positions::full_grid(1, canvas).image(0).to_vec();
            let count = xy.len() / keep as usize;
            xy.sort_by_key(|p| ((p[0] * p[0] + 3 * p[1] + image) * 7919 % 613, p[1], p[0]));
            xy.truncate(count);
            let clusters = cluster(&xy, canvas, &ClusterOptions::new(cluster_size)).unwrap();
            let tokens: Vec<[i32; 2]> = clusters.order().iter().map(|&token| xy[token as usize]).collect();
            let nearest = nearest_clusters(&tokens, &clusters, r).unwrap();
            assert_eq!(nearest.per_token(), r);
            centers.extend(clusters.centers().concat());
            expected.extend_from_slice(nearest.as_slice());
            sorted.extend(tokens);
        }
        let positions = Positions::new(sorted, 2, canvas).unwrap();
        let gpu = Emulated { seed: SEEDS[index % SEEDS.len()] };
        let found = nearest(&gpu, &positions, cluster_size, r).unwrap();
        assert_eq!(found, (centers, expected), "{width} x {height}, clusters of {cluster_size}");
    }
}
