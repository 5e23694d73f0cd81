//! Cluster attention: equal to its twin, to finite differences, to itself on any number of threads.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_geometry::{Canvas, ClusterOptions, cluster, nearest_clusters};
use aff_ops::cluster_attention::reference;
use aff_ops::{
    AttentionGeometry, ClusterAttention, ClusterNeighborhood, PaddingSlots, Positions, cluster_attention,
};
use candle_core::{D, DType, Device, Result, Tensor, Var};
use common::{
    Clustered, all_keys, any_clustered, assert_close, assert_finite_differences, assert_same, clustered,
    on_threads,
};
use proptest::prelude::*;

fn inputs(like: &Clustered, heads: usize, width: usize, seed: u64, dtype: DType) -> Vec<(&'static str, Var)> {
    let (batch, tokens, channels) = (like.positions.batch(), like.positions.tokens(), heads * width);
    let shapes = [
        ("query", vec![batch, tokens, channels]),
        ("key_value", vec![batch, tokens, 2 * channels]),
        ("position_weight", vec![heads, 5]),
        ("position_bias", vec![heads]),
        ("blank_key", vec![channels]),
        ("blank_value", vec![channels]),
    ];
    common::vars(&shapes, seed, dtype)
}

fn named(inputs: &[Tensor]) -> ClusterAttention<'_> {
    ClusterAttention {
        query: &inputs[0],
        key_value: &inputs[1],
        position_weight: &inputs[2],
        position_bias: &inputs[3],
        blank_key: &inputs[4],
        blank_value: &inputs[5],
    }
}

fn geometry(on: &Clustered, padding: PaddingSlots) -> AttentionGeometry<'_> {
    AttentionGeometry { positions: &on.positions, neighborhood: &on.neighborhood, padding }
}

fn fast(on: &Clustered) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    |inputs| cluster_attention(&named(inputs), &geometry(on, PaddingSlots::LeftOut))
}

fn slow(on: &Clustered) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    |inputs| reference::cluster_attention(&named(inputs), &geometry(on, PaddingSlots::LeftOut))
}

/// Position weights so large that the position term passes 100, and padding slots that are the first token.
fn steep(inputs: &[Tensor]) -> Vec<Tensor> {
    let mut inputs = inputs.to_vec();
    inputs[2] = (&inputs[2] * 25.0).unwrap();
    inputs
}

fn padded(on: &Clustered) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    |inputs| cluster_attention(&named(&steep(inputs)), &geometry(on, PaddingSlots::FirstToken))
}

fn slow_padded(on: &Clustered) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    |inputs| reference::cluster_attention(&named(&steep(inputs)), &geometry(on, PaddingSlots::FirstToken))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equals_the_twin(on in any_clustered(), heads in 1..4_usize, width in 1..40_usize, seed: u64, all: bool) {
        let on = if all { all_keys(&on) } else { on };
        // Position terms grow with the canvas, and so do f32's rounding errors in the logits.
        assert_same(&inputs(&on, heads, width, seed, DType::F32), fast(&on), slow(&on), 2e-5);
        assert_same(&inputs(&on, heads, width, seed, DType::F64), fast(&on), slow(&on), 1e-11);
    }

    #[test]
    fn padding_slots_that_count_as_one_equal_the_twin_slot_by_slot(
        on in any_clustered(), heads in 1..4_usize, width in 1..40_usize, seed: u64,
    ) {
        // Logits of some hundreds, whose rounding in f32 is some 1e-5.
        assert_same(&inputs(&on, heads, width, seed, DType::F32), padded(&on), slow_padded(&on), 5e-4);
        assert_same(&inputs(&on, heads, width, seed, DType::F64), padded(&on), slow_padded(&on), 1e-10);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let some = clustered(2, 21, [6, 5], 4, 2);
    for on in [&some, &all_keys(&clustered(1, 9, [4, 4], 3, 1)), &clustered(1, 1, [1, 1], 8, 6)] {
        assert_finite_differences(&inputs(on, 2, 3, 5, DType::F64), fast(on));
        assert_finite_differences(&inputs(on, 2, 3, 5, DType::F64), padded(on));
    }
}

/// Four tokens in a row, in clusters of three, each of which sees its own cluster: the last one, a hundred cells from the first,
/// is alone in a cluster that lacks two.
fn far_from_the_first() -> Clustered {
    let canvas = Canvas::new(101, 1).unwrap();
    let pos = [[0, 0], [1, 0], [2, 0], [100, 0]];
    let clusters = cluster(&pos, canvas, &ClusterOptions::new(3)).unwrap();
    assert_eq!(clusters.order(), [0, 1, 2, 3]);
    let nearest = nearest_clusters(&pos, &clusters, 1).unwrap();
    Clustered {
        positions: Positions::new(pos.to_vec(), 1, canvas).unwrap(),
        neighborhood: ClusterNeighborhood::from_clusters(&[clusters], &[nearest]).unwrap(),
    }
}

#[test]
fn padding_slots_are_what_the_setting_says() {
    let on = far_from_the_first();
    assert_eq!(on.neighborhood.missing_slots(), 2);
    let cpu = &Device::Cpu;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, cpu).unwrap();
    // The logit is -dx: 100 towards the first token, which a padding slot's -100 makes up for.
    let inputs = [
        zeros(&[1, 4, 1]),
        Tensor::new(&[[[0_f32, 8.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]], cpu).unwrap(),
        Tensor::new(&[[-1_f32, 0.0, 0.0, 0.0, 0.0]], cpu).unwrap(),
        zeros(&[1]),
        zeros(&[1]),
        Tensor::new(&[5_f32], cpu).unwrap(),
    ];
    let last = |padding| {
        let out = cluster_attention(&named(&inputs), &geometry(&on, padding)).unwrap();
        out.flatten_all().unwrap().to_vec1::<f32>().unwrap()[3]
    };
    assert_eq!(PaddingSlots::default(), PaddingSlots::LeftOut);
    assert!((last(PaddingSlots::LeftOut) - (3.0 + 5.0) / 2.0).abs() < 1e-5);
    let with_two = (3.0 + 5.0 + 2.0 * 8.0) / 4.0;
    assert!((last(PaddingSlots::FirstToken) - with_two).abs() < 1e-4, "{}", last(PaddingSlots::FirstToken));
}

#[test]
fn wide_heads_and_large_clusters() {
    for (heads, width, cluster_size) in [(1, 64, 24), (2, 32, 8), (3, 33, 7), (16, 24, 8), (2, 16, 1_000)] {
        let on = clustered(1, 150, [16, 12], cluster_size, 6);
        assert_same(&inputs(&on, heads, width, 3, DType::F32), fast(&on), slow(&on), 2e-5);
        assert_same(&inputs(&on, heads, width, 3, DType::F64), padded(&on), slow_padded(&on), 1e-10);
    }
}

#[test]
fn threads_and_batch_mates_change_nothing() {
    for padding in [PaddingSlots::LeftOut, PaddingSlots::FirstToken] {
        let on = clustered(3, 500, [32, 32], 8, 6);
        assert_ne!(on.neighborhood.missing_slots(), 0);
        let attend = |on: &Clustered, inputs: &[Tensor]| {
            cluster_attention(&named(&steep(inputs)), &geometry(on, padding)).unwrap()
        };
        let vars = inputs(&on, 2, 16, 1, DType::F32);
        let tensors: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
        let runs = on_threads(|| {
            let out = attend(&on, &tensors);
            let gradients = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let of = |(_, var): &(&str, Var)| {
                gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let gradients: Vec<Vec<f32>> = vars.iter().map(of).collect();
            (out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), gradients)
        });
        assert!(runs.windows(2).all(|pair| pair[0] == pair[1]));

        let alone = clustered(1, 500, [32, 32], 8, 6);
        let mut first = tensors.clone();
        first[0] = tensors[0].narrow(0, 0, 1).unwrap();
        first[1] = tensors[1].narrow(0, 0, 1).unwrap();
        let out = attend(&alone, &first).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(out, runs[0].0[..out.len()]);
    }
}

#[test]
fn padding_means_nothing_where_no_slot_is_missing() {
    let whole = clustered(2, 48, [9, 9], 8, 3);
    for on in [&whole, &all_keys(&clustered(2, 45, [9, 9], 8, 3))] {
        assert_eq!(on.neighborhood.missing_slots(), 0);
        let vars = inputs(on, 2, 8, 4, DType::F32);
        let tensors: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().detach()).collect();
        let [left_out, first_token] = [PaddingSlots::LeftOut, PaddingSlots::FirstToken].map(|padding| {
            cluster_attention(&named(&steep(&tensors)), &geometry(on, padding))
                .unwrap()
                .to_vec3::<f32>()
                .unwrap()
        });
        assert_eq!(left_out, first_token);
    }
}

#[test]
fn no_tokens_have_no_output() {
    let on = Clustered {
        positions: Positions::new(Vec::new(), 2, Canvas::new(4, 4).unwrap()).unwrap(),
        neighborhood: ClusterNeighborhood::all_keys(2, 0, 0).unwrap(),
    };
    let vars = inputs(&on, 2, 3, 1, DType::F32);
    let tensors: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let out = fast(&on)(&tensors).unwrap();
    assert_eq!(out.dims(), [2, 0, 6]);
    let gradients = out.sum_all().unwrap().backward().unwrap();
    let of_weight = gradients.get(&vars[2].1).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(of_weight, [[0.0; 5]; 2]);
}

#[test]
fn narrow_types_and_strided_tensors_are_taken() {
    let on = clustered(1, 40, [8, 8], 8, 3);
    let tensors: Vec<Tensor> =
        inputs(&on, 2, 8, 1, DType::F32).iter().map(|(_, var)| var.as_tensor().detach()).collect();
    let expected = fast(&on)(&tensors).unwrap();
    for dtype in [DType::F16, DType::BF16] {
        let narrow: Vec<Tensor> = tensors.iter().map(|tensor| tensor.to_dtype(dtype).unwrap()).collect();
        let out = fast(&on)(&narrow).unwrap();
        assert_eq!(out.dtype(), dtype);
        assert_close("narrow", &out, &expected, 0.05);
    }
    let mut strided = tensors.clone();
    let query = tensors[0].transpose(1, 2).unwrap().contiguous().unwrap();
    strided[0] = query.transpose(1, 2).unwrap();
    assert!(!strided[0].is_contiguous());
    assert_close("strided", &fast(&on)(&strided).unwrap(), &expected, 0.0);
}

#[test]
fn wrong_inputs_are_named() {
    let on = clustered(1, 40, [8, 8], 8, 3);
    let tensors: Vec<Tensor> =
        inputs(&on, 2, 8, 1, DType::F32).iter().map(|(_, var)| var.as_tensor().detach()).collect();
    let names = ["query", "key_value", "position_weight", "position_bias", "blank_key", "blank_value"];
    for (at, name) in names.into_iter().enumerate().skip(1) {
        let mut wrong = tensors.clone();
        wrong[at] = Tensor::cat(&[&tensors[at], &tensors[at]], D::Minus1).unwrap();
        let error = fast(&on)(&wrong).unwrap_err().to_string();
        assert!(error.contains("cluster_attention") && error.contains(name), "{name}: {error}");
        let mut wrong = tensors.clone();
        wrong[at] = tensors[at].to_dtype(DType::F64).unwrap();
        let error = fast(&on)(&wrong).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("F64"), "{name}: {error}");
    }
}

#[test]
fn clusterings_and_nearest_clusters_that_do_not_fit_are_refused() {
    let canvas = Canvas::new(8, 8).unwrap();
    let make = |count: i32, size: usize| {
        let pos: Vec<[i32; 2]> = (0..count).map(|i| [i % 8, i / 8]).collect();
        let clusters = cluster(&pos, canvas, &ClusterOptions::new(size)).unwrap();
        let nearest = nearest_clusters(&pos, &clusters, 2).unwrap();
        (clusters, nearest)
    };
    let (clusters, nearest) = make(24, 8);
    let refused = |clusters: &[_], nearest: &[_]| {
        ClusterNeighborhood::from_clusters(clusters, nearest).unwrap_err().to_string()
    };
    let two = [clusters.clone(), clusters.clone()];
    for nearest in [&[nearest.clone()][..], &[nearest.clone(), nearest.clone(), nearest.clone()]] {
        let error = refused(&two, nearest);
        assert!(error.contains("2 clusterings"), "{error}");
    }
    assert!(refused(&[], &[]).contains("no image"));
    let (other, other_nearest) = make(16, 8);
    assert!(refused(&[clusters.clone(), other], &[nearest.clone(), other_nearest]).contains("image 1"));
    // Nearest clusters of a clustering with more clusters.
    let (_, finer) = make(24, 2);
    assert!(refused(&[clusters], &[finer]).contains("has 3 clusters"));
}
