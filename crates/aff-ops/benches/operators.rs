//! The operators at the shapes of AFF-Tiny, each next to the composition of Candle operators that it stands for.
//!
//! `cargo bench -p aff-ops`; `RAYON_NUM_THREADS` sets the threads.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use aff_geometry::{Canvas, ClusterOptions, cluster, nearest_clusters};
use aff_ops::{
    AttentionGeometry, CanvasLookup, ClusterAttention, ClusterNeighborhood, DeformableGather, MergeGeometry,
    NeighborhoodMerge, Offset, PaddingSlots, Positions, cluster_attention, deformable_gather, layers,
    neighborhood_merge,
};
use candle_core::{DType, Device, Result, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};

/// Name, canvas side, tokens kept of the canvas, channels, heads of the stages of AFF-Tiny.
const STAGES: [(&str, u32, usize, usize, usize); 6] = [
    ("224/stage1", 56, 3136, 64, 2),
    ("224/stage2", 56, 784, 128, 4),
    ("224/stage3", 56, 196, 256, 8),
    ("512/stage1", 128, 16_384, 64, 2),
    ("512/stage2", 128, 4096, 128, 4),
    ("512/stage3", 128, 1024, 256, 8),
];

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).unwrap()
}

/// Tokens scattered evenly over the canvas, in the order of their clusters, with 6 clusters of 8 around each.
fn tokens(side: u32, count: usize) -> (Positions, ClusterNeighborhood) {
    let canvas = Canvas::new(side, side).unwrap();
    let mut pos: Vec<[i32; 2]> = (0..side * side).map(|i| [(i % side) as i32, (i / side) as i32]).collect();
    pos.sort_by_key(|&[x, y]| (x * 7919 + y * 104_729) % 65_537);
    pos.truncate(count);
    let clusters = cluster(&pos, canvas, &ClusterOptions::new(8)).unwrap();
    let sorted: Vec<[i32; 2]> = clusters.order().iter().map(|&token| pos[token as usize]).collect();
    let nearest = nearest_clusters(&sorted, &clusters, 6).unwrap();
    let neighborhood = ClusterNeighborhood::from_clusters(&[clusters], &[nearest]).unwrap();
    (Positions::new(sorted, 1, canvas).unwrap(), neighborhood)
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut run: impl FnMut() -> Result<Tensor>) {
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1000));
    group.bench_function(name, |bencher| bencher.iter(|| black_box(run().unwrap())));
}

fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cluster_attention");
    for (stage, side, count, channels, heads) in STAGES {
        let (positions, neighborhood) = tokens(side, count);
        let inputs = ClusterAttention {
            query: &random(&[1, count, channels]),
            key_value: &random(&[1, count, 2 * channels]),
            position_weight: &random(&[heads, 5]),
            position_bias: &random(&[heads]),
            blank_key: &random(&[channels]),
            blank_value: &random(&[channels]),
        };
        let geometry = AttentionGeometry {
            positions: &positions,
            neighborhood: &neighborhood,
            padding: PaddingSlots::LeftOut,
        };
        measure(&mut group, &format!("fused/{stage}"), || cluster_attention(&inputs, &geometry));
        measure(&mut group, &format!("candle/{stage}"), || {
            cluster_attention::reference::cluster_attention(&inputs, &geometry)
        });
    }
}

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("neighborhood_merge");
    for (stage, side, count, channels, _) in STAGES {
        let (keys, neighborhood) = tokens(side, count);
        let kept: Vec<u32> = (0..count as u32).step_by(4).collect();
        let queries = keys.select(&kept).unwrap();
        let neighborhood = neighborhood.select_queries(&kept).unwrap().into();
        let geometry = MergeGeometry {
            queries: &queries,
            keys: &keys,
            neighborhood: &neighborhood,
            offset: Offset::ToNeighbor,
        };
        let inputs = NeighborhoodMerge {
            feat: &random(&[1, count, channels]),
            score: Some(&random(&[1, count])),
            linear_weight: &random(&[4, 5]),
            linear_bias: &random(&[4]),
            norm_weight: &random(&[4]),
            norm_bias: &random(&[4]),
        };
        measure(&mut group, &format!("fused/{stage}"), || neighborhood_merge(&inputs, &geometry));
        measure(&mut group, &format!("candle/{stage}"), || {
            neighborhood_merge::reference::neighborhood_merge(&inputs, &geometry)
        });
    }
}

fn gather(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deformable_gather");
    for (name, side, counts) in [("224", 56, [49, 196, 784]), ("512", 128, [256, 1024, 4096])] {
        let levels: Vec<CanvasLookup> =
            counts.iter().map(|&count| CanvasLookup::new(&tokens(side, count).0, 4).unwrap()).collect();
        let queries: usize = counts.iter().sum();
        let locations = (Tensor::rand(0_f32, 1.0, (1, queries, 8, 3, 4, 2), &Device::Cpu).unwrap()
            * f64::from(side))
        .unwrap();
        let inputs = DeformableGather {
            value: &random(&[1, queries, 256]),
            locations: &locations,
            weights: &random(&[1, queries, 8, 3, 4]),
            power: &Tensor::new(&[3_f32], &Device::Cpu).unwrap(),
        };
        measure(&mut group, &format!("fused/{name}"), || deformable_gather(&inputs, &levels));
        measure(&mut group, &format!("candle/{name}"), || {
            deformable_gather::reference::deformable_gather(&inputs, &levels)
        });
    }
}

fn basics(criterion: &mut Criterion) {
    for (stage, _, count, channels, _) in STAGES {
        let x = random(&[1, count, channels]);
        let (weight, bias) = (random(&[channels]), random(&[channels]));
        let mut group = criterion.benchmark_group("layer_norm");
        measure(&mut group, &format!("fused/{stage}"), || aff_ops::layer_norm(&x, &weight, &bias, 1e-5));
        measure(&mut group, &format!("candle_fused/{stage}"), || {
            candle_nn::ops::layer_norm(&x, &weight, &bias, 1e-5)
        });
        measure(&mut group, &format!("candle/{stage}"), || {
            layers::reference::layer_norm(&x, &weight, &bias, 1e-5)
        });
        group.finish();

        let wide = random(&[1, count, 3 * channels]);
        let mut group = criterion.benchmark_group("gelu");
        measure(&mut group, &format!("fused/{stage}"), || aff_ops::gelu(&wide));
        measure(&mut group, &format!("candle/{stage}"), || layers::reference::gelu(&wide));
        group.finish();

        let mut group = criterion.benchmark_group("softmax");
        measure(&mut group, &format!("fused/{stage}"), || aff_ops::softmax_last_dim(&wide));
        measure(&mut group, &format!("candle_fused/{stage}"), || candle_nn::ops::softmax_last_dim(&wide));
        measure(&mut group, &format!("candle/{stage}"), || layers::reference::softmax_last_dim(&wide));
        group.finish();

        let (up, up_bias) = (random(&[3 * channels, channels]), random(&[3 * channels]));
        let mut group = criterion.benchmark_group("linear");
        measure(&mut group, &format!("fused/{stage}"), || aff_ops::linear(&x, &up, Some(&up_bias)));
        measure(&mut group, &format!("candle/{stage}"), || {
            layers::reference::linear(&x, &up, Some(&up_bias))
        });
        group.finish();
    }
    let (a, b) = (random(&[2048, 2048]), random(&[2048, 2048]).to_dtype(DType::F32).unwrap());
    let mut group = criterion.benchmark_group("matmul");
    measure(&mut group, "2048", || a.matmul(&b));
}

criterion_group!(benches, attention, merge, gather, basics);
criterion_main!(benches);
