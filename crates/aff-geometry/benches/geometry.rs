//! Time per token of clustering, neighbourhoods and selection, on one thread, next to brute force and a k-d tree.
//!
//! `cargo bench -p aff-geometry` measures all of it; `cargo bench -p aff-geometry -- 3136` what concerns 56 x 56 tokens.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::num::NonZero;
use std::time::Duration;

use aff_geometry::{
    Canvas, ClusterMode, ClusterOptions, Clusters, Curve, SelectionOptions, cluster, k_nearest,
    nearest_clusters, select,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group};
use kiddo::{ImmutableKdTree, SquaredEuclidean};

/// Width and height of the full grids: as many tokens as the product.
const SIZES: [[u32; 2]; 4] = [[56, 56], [128, 128], [512, 256], [1024, 1024]];
const CLUSTER_SIZE: usize = 8;
const NEAREST: usize = 6;

struct Tokens {
    name: String,
    canvas: Canvas,
    pos: Vec<[i32; 2]>,
}

impl Tokens {
    /// Every position of the canvas, as in the first stage.
    fn full([width, height]: [u32; 2]) -> Self {
        let row = |y| (0..width as i32).map(move |x| [x, y]);
        let pos = (0..height as i32).flat_map(row).collect();
        let name = format!("full/{}", width * height);
        Self { name, canvas: Canvas::new(width, height).unwrap(), pos }
    }

    /// A quarter of the positions of a canvas twice as wide and high, dense in a ring and sparse elsewhere, as in later
    /// stages. As many as [`Tokens::full`] has.
    fn uneven([width, height]: [u32; 2]) -> Self {
        let mut tokens = Self::full([2 * width, 2 * height]);
        let keep = tokens.pos.len() / 4;
        let edge = |&[x, y]: &[i32; 2]| {
            let (dx, dy) = (f64::from(x) - f64::from(width), f64::from(y) - f64::from(height));
            let ring = dx.hypot(dy) - 0.7 * f64::from(width.min(height));
            if x % 4 == 0 && y % 4 == 0 { -1.0 } else { ring.abs() }
        };
        let mut order: Vec<_> = tokens.pos.iter().map(|p| (edge(p), *p)).collect();
        order.select_nth_unstable_by(keep, |a, b| a.partial_cmp(b).unwrap());
        tokens.pos = order[..keep].iter().map(|(_, p)| *p).collect();
        tokens.pos.sort_by_key(|&[x, y]| (y, x));
        tokens.name = format!("uneven/{keep}");
        tokens
    }

    fn clusters(&self) -> Clusters {
        cluster(&self.pos, self.canvas, &ClusterOptions::new(CLUSTER_SIZE)).unwrap()
    }
}

fn every_size() -> impl Iterator<Item = Tokens> {
    SIZES.into_iter().flat_map(|size| [Tokens::full(size), Tokens::uneven(size)])
}

/// Measures one call after another on a single thread, and says how many tokens a second that is.
fn measure<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    tokens: &Tokens,
    mut run: impl FnMut() -> R,
) {
    group.throughput(Throughput::Elements(tokens.pos.len() as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function(format!("{name}/{}", tokens.name), |bencher| {
        bencher.iter(|| black_box(run()));
    });
}

fn bench_cluster(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cluster");
    for tokens in every_size() {
        for curve in [Curve::Scanline, Curve::Hilbert, Curve::Peano] {
            let options = ClusterOptions { cluster_size: CLUSTER_SIZE, curve, mode: ClusterMode::Anchors };
            let name = format!("{curve:?}").to_lowercase();
            measure(&mut group, &name, &tokens, || cluster(&tokens.pos, tokens.canvas, &options).unwrap());
        }
    }
}

fn bench_nearest_clusters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nearest_clusters");
    for tokens in every_size() {
        let clusters = tokens.clusters();
        measure(&mut group, "buckets", &tokens, || {
            nearest_clusters(&tokens.pos, &clusters, NEAREST).unwrap()
        });
        measure(&mut group, "kiddo", &tokens, || {
            let tree: ImmutableKdTree<f32, 2> = ImmutableKdTree::new_from_slice(clusters.centers()).unwrap();
            let mut rows = Vec::with_capacity(tokens.pos.len() * NEAREST);
            for point in &tokens.pos {
                let query = point.map(|c| c as f32);
                let found = tree
                    .query(&query)
                    .nearest_n::<SquaredEuclidean<f32>>(NonZero::new(NEAREST).unwrap())
                    .execute();
                rows.extend(found.iter().map(|found| found.item));
            }
            rows
        });
        if tokens.pos.len() <= 16_384 {
            measure(&mut group, "brute_force", &tokens, || brute_force(&tokens.pos, clusters.centers()));
        }
    }
}

/// All distances, then the smallest six.
fn brute_force(pos: &[[i32; 2]], centers: &[[f32; 2]]) -> Vec<u32> {
    let mut rows = Vec::with_capacity(pos.len() * NEAREST);
    let mut all = Vec::with_capacity(centers.len());
    for point in pos {
        all.clear();
        all.extend(centers.iter().enumerate().map(|(k, center)| {
            let (dx, dy) = (point[0] as f32 - center[0], point[1] as f32 - center[1]);
            (dx * dx + dy * dy, k as u32)
        }));
        all.select_nth_unstable_by(NEAREST - 1, |a, b| a.partial_cmp(b).unwrap());
        rows.extend(all[..NEAREST].iter().map(|&(_, k)| k));
    }
    rows
}

fn bench_select(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select");
    for tokens in every_size() {
        let scores: Vec<f32> = (0..tokens.pos.len()).map(|i| (i % 97) as f32 / 97.0).collect();
        // The adaptive prior, which needs the nearest distance of every token.
        let options = SelectionOptions { stride: 4, rate: 0.25, alpha: 4.0 };
        measure(&mut group, "adaptive", &tokens, || {
            select(&tokens.pos, tokens.canvas, &scores, &options).unwrap()
        });
    }
}

fn bench_k_nearest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("k_nearest");
    for tokens in every_size() {
        measure(&mut group, "buckets", &tokens, || k_nearest(&tokens.pos, &tokens.pos, 4).unwrap());
    }
}

criterion_group!(benches, bench_cluster, bench_nearest_clusters, bench_k_nearest, bench_select);
fn main() {
    // All of it on the one thread of the pool, so that no call pays for getting there.
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| {
        benches();
        Criterion::default().configure_from_args().final_summary();
    });
}
