//! The operators on a CUDA device against those of the CPU: outputs and gradients, and the same bits when run again. Fails where there is
//! no device.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_ops::{
    AttentionGeometry, CanvasLookup, ClusterAttention, DeformableGather, MergeGeometry, NeighborLists,
    NeighborhoodMerge, Offset, PaddingSlots, cluster_attention, deformable_gather, gelu, layer_norm,
    neighborhood_merge, softmax_last_dim, weighted_gather,
};
use candle_core::{DType, Device, Result, Tensor, Var};

use common::{assert_close, clustered, random, vars};

fn device() -> Device {
    Device::new_cuda_with_stream(0).unwrap_or_else(|error| panic!("these tests need a CUDA device: {error}"))
}

/// The output and the gradients of all inputs, on the CPU.
fn values(
    vars: &[(&'static str, Var)],
    operator: &impl Fn(&[Tensor]) -> Result<Tensor>,
    device: &Device,
) -> Vec<Tensor> {
    let moved: Vec<Var> =
        vars.iter().map(|(_, var)| Var::from_tensor(&var.to_device(device).unwrap()).unwrap()).collect();
    let inputs: Vec<Tensor> = moved.iter().map(|var| var.as_tensor().clone()).collect();
    let out = operator(&inputs).unwrap();
    let weight = random(out.dims(), 99, DType::F64).to_dtype(out.dtype()).unwrap();
    let loss = (&out * weight.to_device(device).unwrap()).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let of = |var: &Var| gradients.get(var).unwrap().to_device(&Device::Cpu).unwrap();
    std::iter::once(out.to_device(&Device::Cpu).unwrap()).chain(moved.iter().map(of)).collect()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn check(vars: &[(&'static str, Var)], operator: impl Fn(&[Tensor]) -> Result<Tensor>, tolerance: f64) {
    let device = device();
    let expected = values(vars, &operator, &Device::Cpu);
    let [found, again] = [(); 2].map(|()| values(vars, &operator, &device));
    let names = std::iter::once("out").chain(vars.iter().map(|(name, _)| *name));
    for (((name, found), again), expected) in names.zip(&found).zip(&again).zip(&expected) {
        assert_close(name, found, expected, tolerance);
        assert_eq!(bits(found), bits(again), "{name}: another run has other bits");
    }
}

#[test]
fn attention() {
    for (width, padding) in [
        (16, PaddingSlots::LeftOut),
        (32, PaddingSlots::FirstToken),
        (64, PaddingSlots::LeftOut),
        (8, PaddingSlots::LeftOut),
    ] {
        let (heads, tokens) = (3, 997);
        let on = clustered(2, tokens, [60, 50], 8, 6);
        let channels = heads * width;
        let shapes = [
            ("query", vec![2, tokens, channels]),
            ("key_value", vec![2, tokens, 2 * channels]),
            ("position_weight", vec![heads, 5]),
            ("position_bias", vec![heads]),
            ("blank_key", vec![channels]),
            ("blank_value", vec![channels]),
        ];
        let geometry =
            AttentionGeometry { positions: &on.positions, neighborhood: &on.neighborhood, padding };
        let operator = |x: &[Tensor]| {
            let inputs = ClusterAttention {
                query: &x[0],
                key_value: &x[1],
                position_weight: &x[2],
                position_bias: &x[3],
                blank_key: &x[4],
                blank_value: &x[5],
            };
            cluster_attention(&inputs, &geometry)
        };
        check(&vars(&shapes, 1, DType::F32), operator, 1e-4);
    }
}

#[test]
fn merging() {
    let (tokens, channels) = (997, 70);
    let on = clustered(2, tokens, [60, 50], 8, 6);
    let kept: Vec<u32> = (0..2).flat_map(|_| (0..tokens as u32).step_by(4)).collect();
    let queries = on.positions.select(&kept).unwrap();
    let neighborhood = on.neighborhood.select_queries(&kept).unwrap().into();
    let shapes = [
        ("feat", vec![2, tokens, channels]),
        ("score", vec![2, tokens]),
        ("linear_weight", vec![4, 5]),
        ("linear_bias", vec![4]),
        ("norm_weight", vec![4]),
        ("norm_bias", vec![4]),
    ];
    let offset = Offset::ToNeighbor;
    let geometry =
        MergeGeometry { queries: &queries, keys: &on.positions, neighborhood: &neighborhood, offset };
    let operator = |x: &[Tensor]| {
        let inputs = NeighborhoodMerge {
            feat: &x[0],
            score: Some(&x[1]),
            linear_weight: &x[2],
            linear_bias: &x[3],
            norm_weight: &x[4],
            norm_bias: &x[5],
        };
        neighborhood_merge(&inputs, &geometry)
    };
    check(&vars(&shapes, 2, DType::F32), operator, 1e-4);
}

#[test]
fn gathering() {
    let indices = (0..2 * 300 * 4).map(|i| ((i * i + 7 * i) % 500) as u32).collect();
    let neighbors = NeighborLists::from_indices(2, 500, 4, indices).unwrap();
    let shapes = [("feat", vec![2, 500, 96]), ("weights", vec![2, 300, 4])];
    check(&vars(&shapes, 3, DType::F32), |x| weighted_gather(&x[0], &x[1], &neighbors), 1e-5);
}

#[test]
fn deformable() {
    let positions = clustered(2, 400, [40, 30], 8, 2).positions;
    let level = CanvasLookup::new(&positions, 4).unwrap();
    let levels = [level.clone(), level];
    let shapes = [
        ("value", vec![2, 800, 96]),
        ("locations", vec![2, 200, 3, 2, 4, 2]),
        ("weights", vec![2, 200, 3, 2, 4]),
        ("power", vec![1]),
    ];
    let operator = |x: &[Tensor]| {
        let (locations, power) = (x[1].affine(22.0, 17.0)?, x[3].affine(0.2, 1.0)?);
        let inputs = DeformableGather { value: &x[0], locations: &locations, weights: &x[2], power: &power };
        deformable_gather(&inputs, &levels)
    };
    check(&vars(&shapes, 4, DType::F32), operator, 1e-3);
}

#[test]
fn layers() {
    let shapes = [("x", vec![700, 130]), ("weight", vec![130]), ("bias", vec![130])];
    check(&vars(&shapes, 5, DType::F32), |x| layer_norm(&x[0], &x[1], &x[2], 1e-5), 1e-4);
    let shapes = [("x", vec![700, 49])];
    check(&vars(&shapes, 6, DType::F32), |x| softmax_last_dim(&x[0]), 1e-5);
    check(&vars(&shapes, 7, DType::F32), |x| gelu(&x[0].affine(4.0, 0.0)?), 1e-5);
}
