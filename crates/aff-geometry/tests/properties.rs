//! What holds for any points: compared with brute force and with what the definitions demand.
#![allow(clippy::unwrap_used)]

use std::cmp::Ordering;
use std::collections::BTreeSet;

use aff_geometry::{
    Canvas, ClusterMode, ClusterOptions, Clusters, Curve, GeometryError, PointIndex, SelectionOptions,
    cluster, cluster_batch, is_reserved, k_nearest, nearest_clusters, nearest_clusters_batch,
    nearest_distances, select, select_grid,
};
use proptest::prelude::*;
use proptest::sample::subsequence;

/// A canvas and some of its positions in raster order: none, one, a few or all.
fn tokens() -> impl Strategy<Value = (Canvas, Vec<[i32; 2]>)> {
    (1..40_u32, 1..40_u32).prop_flat_map(|(width, height)| {
        let all: Vec<[i32; 2]> =
            (0..width * height).map(|i| [(i % width) as i32, (i / width) as i32]).collect();
        let count = all.len();
        let canvas = Canvas::new(width, height).unwrap();
        (Just(canvas), prop_oneof![subsequence(all.clone(), 0..=count), Just(all)])
    })
}

fn options() -> impl Strategy<Value = ClusterOptions> {
    let curve = prop_oneof![Just(Curve::Scanline), Just(Curve::Hilbert), Just(Curve::Peano)];
    let mode = prop_oneof![Just(ClusterMode::Anchors), Just(ClusterMode::Direct)];
    (1..30_usize, curve, mode).prop_map(|(cluster_size, curve, mode)| ClusterOptions {
        cluster_size,
        curve,
        mode,
    })
}

/// Points anywhere, many of them equal or in line.
fn points(most: usize) -> impl Strategy<Value = Vec<[f32; 2]>> {
    let coordinate = prop_oneof![(-20..20_i32).prop_map(|c| c as f32), -50.0..50.0_f32, Just(1.0e6)];
    prop::collection::vec([coordinate.clone(), coordinate], 0..most)
}

/// The indices of the `k` nearest points by sorting all of them.
fn brute_force<T: Into<f64> + Copy>(points: &[[T; 2]], query: [f64; 2], k: usize) -> Vec<u32> {
    let squared = |i: u32| {
        let [x, y] = points[i as usize].map(Into::into);
        (x - query[0]) * (x - query[0]) + (y - query[1]) * (y - query[1])
    };
    let mut all: Vec<u32> = (0..points.len() as u32).collect();
    all.sort_by(|&a, &b| squared(a).partial_cmp(&squared(b)).unwrap_or(Ordering::Equal).then(a.cmp(&b)));
    all.truncate(k);
    all
}

/// The positions of each cluster, in order.
fn by_position(clusters: &Clusters, pos: &[[i32; 2]]) -> Vec<Vec<[i32; 2]>> {
    let of = |k: usize| clusters.members(k).iter().map(|&token| pos[token as usize]).collect();
    (0..clusters.len()).map(of).collect()
}

proptest! {
    #[test]
    fn clusters_are_equal_and_partition_the_tokens((canvas, pos) in tokens(), options in options()) {
        let clusters = cluster(&pos, canvas, &options).unwrap();
        prop_assert_eq!(clusters.len(), pos.len().div_ceil(options.cluster_size));
        let mut seen = BTreeSet::new();
        for k in 0..clusters.len() {
            let members = clusters.members(k);
            let last = k + 1 == clusters.len();
            prop_assert!(members.len() == options.cluster_size || last);
            prop_assert!(!members.is_empty());
            let mut mean = [0.0; 2];
            for &token in members {
                prop_assert!(seen.insert(token), "token {} is in two clusters", token);
                prop_assert_eq!(clusters.cluster_of()[token as usize], k as u32);
                let [x, y] = pos[token as usize].map(f64::from);
                mean = [mean[0] + x / members.len() as f64, mean[1] + y / members.len() as f64];
            }
            for (mean, &center) in mean.iter().zip(&clusters.centers()[k]) {
                prop_assert!((mean - f64::from(center)).abs() < 1e-4);
            }
        }
        prop_assert_eq!(seen.len(), pos.len());
    }

    #[test]
    fn the_order_of_the_tokens_changes_nothing((canvas, pos) in tokens(), options in options(), seed: u64) {
        let mut shuffled = pos.clone();
        let mut state = seed | 1;
        for last in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(last, (state >> 33) as usize % (last + 1));
        }
        let clusters = cluster(&pos, canvas, &options).unwrap();
        let permuted = cluster(&shuffled, canvas, &options).unwrap();
        prop_assert_eq!(by_position(&clusters, &pos), by_position(&permuted, &shuffled));
    }

    #[test]
    fn number_types_change_nothing((canvas, pos) in tokens(), options in options()) {
        let floats: Vec<[f32; 2]> = pos.iter().map(|p| p.map(|c| c as f32)).collect();
        prop_assert_eq!(cluster(&pos, canvas, &options).unwrap(), cluster(&floats, canvas, &options).unwrap());
    }

    #[test]
    fn an_image_alone_equals_the_image_in_a_batch(
        (canvas, pos) in tokens(), options in options(), r in 1..8_usize, keep in 0..40_usize,
    ) {
        let other: Vec<[i32; 2]> = pos.iter().copied().take(keep).collect();
        let images: [&[[i32; 2]]; 3] = [&other, &pos, &[]];
        let batch = cluster_batch(&images, canvas, &options).unwrap();
        let alone = cluster(&pos, canvas, &options).unwrap();
        prop_assert_eq!(&batch[1], &alone);
        let nearest = nearest_clusters_batch(&images, &batch, r).unwrap();
        prop_assert_eq!(&nearest[1], &nearest_clusters(&pos, &alone, r).unwrap());
    }

    #[test]
    fn nearest_clusters_equal_brute_force((canvas, pos) in tokens(), options in options(), r in 1..12_usize) {
        let clusters = cluster(&pos, canvas, &options).unwrap();
        let nearest = nearest_clusters(&pos, &clusters, r).unwrap();
        prop_assert_eq!(nearest.per_token(), r.min(clusters.len()));
        for (token, position) in pos.iter().enumerate() {
            // Distances are f32 by definition.
            let squared = |k: u32| {
                let center = clusters.centers()[k as usize];
                let (dx, dy) = (center[0] - position[0] as f32, center[1] - position[1] as f32);
                dx * dx + dy * dy
            };
            let mut all: Vec<u32> = (0..clusters.len() as u32).collect();
            all.sort_by(|&a, &b| squared(a).total_cmp(&squared(b)).then(a.cmp(&b)));
            all.truncate(r);
            prop_assert_eq!(nearest.row(token), &all[..]);
        }
    }

    #[test]
    fn k_nearest_equal_brute_force(points in points(120), queries in points(20), k in 0..12_usize) {
        let found = k_nearest(&points, &queries, k).unwrap();
        prop_assert_eq!(found.k(), k.min(points.len()));
        for (i, query) in queries.iter().enumerate() {
            prop_assert_eq!(found.row(i), &brute_force(&points, query.map(f64::from), k)[..]);
        }
    }

    #[test]
    fn nearest_distances_equal_brute_force(points in points(80)) {
        let found = nearest_distances(&points).unwrap();
        for (i, a) in points.iter().enumerate() {
            let distance = |b: &[f32; 2]| {
                (f64::from(a[0]) - f64::from(b[0])).powi(2) + (f64::from(a[1]) - f64::from(b[1])).powi(2)
            };
            let others = points.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, b)| distance(b).sqrt());
            prop_assert_eq!(found[i], others.fold(f64::INFINITY, f64::min));
        }
    }

    #[test]
    fn selection_keeps_the_reserved_and_as_many_as_asked(
        (canvas, pos) in tokens(),
        stride in prop_oneof![Just(2_u32), Just(4), Just(8)],
        rate in 0.0..=1.0_f64,
        alpha in -4.0..8.0_f64,
        seed: u32,
    ) {
        let score = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) ^ seed) as f32 / u32::MAX as f32;
        let scores: Vec<f32> = (0..pos.len()).map(score).collect();
        let selection = select(&pos, canvas, &scores, &SelectionOptions { stride, rate, alpha }).unwrap();
        let reserved: Vec<u32> =
            (0..pos.len() as u32).filter(|&i| is_reserved(pos[i as usize], stride)).collect();
        let asked = (pos.len() as f64 * rate) as usize;
        prop_assert_eq!(selection.kept.len(), asked.max(reserved.len()));
        prop_assert!(reserved.iter().all(|token| selection.kept.contains(token)));
        prop_assert!(selection.kept.windows(2).all(|pair| pair[0] < pair[1]), "not in raster order");
        // Nobody who was dropped beats one who was kept.
        let key = |i: u32| {
            let prior = if selection.grid_prior[i as usize] { 1.0 } else { 0.0 };
            prior + alpha as f32 * scores[i as usize]
        };
        let is_rival = |i: &u32| !is_reserved(pos[*i as usize], stride);
        let worst = selection.kept.iter().copied().filter(is_rival).map(key).fold(f32::INFINITY, f32::min);
        let dropped = (0..pos.len() as u32).filter(|i| !selection.kept.contains(i));
        prop_assert!(dropped.map(key).all(|key| key <= worst));
    }

    #[test]
    fn a_grid_is_halved_stage_by_stage(width in 1_i32..70, height in 1_i32..70) {
        let canvas = Canvas::new(width as u32, height as u32).unwrap();
        let mut pos: Vec<[i32; 2]> = (0..width * height).map(|i| [i % width, i / width]).collect();
        for stride in [2, 4, 8] {
            let selection = select_grid(&pos, canvas, stride).unwrap();
            pos = selection.kept.iter().map(|&token| pos[token as usize]).collect();
            let step = stride as usize;
            let grid: Vec<[i32; 2]> = (0..height)
                .step_by(step)
                .flat_map(|y| (0..width).step_by(step).map(move |x| [x, y]))
                .collect();
            prop_assert_eq!(&pos, &grid);
        }
    }
}

#[test]
fn any_canvas_works() {
    let sizes = [[1, 1], [1, 2], [2, 1], [1, 97], [97, 1], [2048, 32], [3, 3], [5, 2], [7, 1], [2, 2]];
    for [width, height] in sizes {
        let canvas = Canvas::new(width, height).unwrap();
        let pos: Vec<[i32; 2]> =
            (0..width * height).map(|i| [(i % width) as i32, (i / width) as i32]).collect();
        for mode in [ClusterMode::Anchors, ClusterMode::Direct] {
            for curve in [Curve::Scanline, Curve::Hilbert, Curve::Peano] {
                for cluster_size in [1, 2, 8, 24, 1_000_000, usize::MAX] {
                    let clusters =
                        cluster(&pos, canvas, &ClusterOptions { cluster_size, curve, mode }).unwrap();
                    assert_eq!(clusters.len(), pos.len().div_ceil(cluster_size));
                    let nearest = nearest_clusters(&pos, &clusters, 6).unwrap();
                    assert_eq!(nearest.per_token(), clusters.len().min(6));
                }
            }
        }
        let scores = vec![0.5; pos.len()];
        let options = SelectionOptions { stride: 8, rate: 0.25, alpha: 4.0 };
        assert!(!select(&pos, canvas, &scores, &options).unwrap().kept.is_empty());
    }
}

#[test]
fn bad_input_is_refused_by_name() {
    let canvas = Canvas::new(8, 8).unwrap();
    let eight = ClusterOptions::new(8);
    let duplicate = cluster(&[[1, 1], [2, 2], [1, 1]], canvas, &eight).unwrap_err();
    assert_eq!(duplicate, GeometryError::DuplicatePosition { first: 0, second: 2, position: [1.0, 1.0] });
    let outside = cluster(&[[1, 1], [8, 2]], canvas, &eight).unwrap_err();
    assert!(matches!(outside, GeometryError::OutsideCanvas { index: 1, .. }), "{outside}");
    let nan = cluster(&[[1.0, f32::NAN]], canvas, &eight).unwrap_err();
    assert!(matches!(nan, GeometryError::NotFinite { index: 0, .. }), "{nan}");
    assert_eq!(cluster(&[[1, 1]], canvas, &ClusterOptions::new(0)), Err(GeometryError::ZeroClusterSize));
    let in_batch = cluster_batch(&[&[[0, 0]][..], &[[9, 0]]], canvas, &eight).unwrap_err();
    assert!(matches!(in_batch, GeometryError::InImage { image: 1, .. }), "{in_batch}");
    let infinite = PointIndex::new(&[[0.0, f64::INFINITY]]).unwrap_err();
    assert!(matches!(infinite, GeometryError::NotFinite { .. }), "{infinite}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let canvas = Canvas::new(200, 150).unwrap();
    let pos: Vec<[i32; 2]> =
        (0..30_000).filter(|i| i % 7 != 3 || i % 400 < 100).map(|i| [i % 200, i / 200]).collect();
    let images: [&[[i32; 2]]; 3] = [&pos, &pos[..9_000], &pos[100..]];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let clusters = cluster_batch(&images, canvas, &ClusterOptions::new(8)).unwrap();
            let nearest = nearest_clusters_batch(&images, &clusters, 6).unwrap();
            let neighbors = k_nearest(&pos, &[[3.3_f32, 7.9], [-5.0, 400.0]], 9).unwrap();
            (clusters, nearest, neighbors, nearest_distances(&pos).unwrap())
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
