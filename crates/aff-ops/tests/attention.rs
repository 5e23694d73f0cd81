//! Cluster attention: equal to its twin, to finite differences, to itself on any number of threads.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_ops::cluster_attention::reference;
use aff_ops::{ClusterAttention, Neighborhood, cluster_attention};
use candle_core::{D, DType, Result, Tensor, Var};
use common::{
    Clustered, any_clustered, assert_close, assert_finite_differences, assert_same, clustered, on_threads,
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

fn fast(on: &Clustered) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    |inputs| cluster_attention(&named(inputs), &on.positions, &on.neighborhood)
}

fn slow(on: &Clustered) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    |inputs| reference::cluster_attention(&named(inputs), &on.positions, &on.neighborhood)
}

fn global(mut on: Clustered) -> Clustered {
    on.neighborhood =
        Neighborhood::global(on.positions.batch(), on.positions.tokens(), on.positions.tokens());
    on
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equals_the_twin(on in any_clustered(), heads in 1..4_usize, width in 1..40_usize, seed: u64, all: bool) {
        let on = if all { global(on) } else { on };
        // Position terms grow with the canvas, and so do f32's rounding errors in the logits.
        assert_same(&inputs(&on, heads, width, seed, DType::F32), fast(&on), slow(&on), 2e-5);
        // The twin's position features are f32 in any case.
        assert_same(&inputs(&on, heads, width, seed, DType::F64), fast(&on), slow(&on), 1e-6);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for on in
        [clustered(2, 21, [6, 5], 4, 2), global(clustered(1, 9, [4, 4], 3, 1)), clustered(1, 1, [1, 1], 8, 6)]
    {
        assert_finite_differences(&inputs(&on, 2, 3, 5, DType::F64), fast(&on));
    }
}

#[test]
fn wide_heads_and_large_clusters() {
    for (heads, width, cluster_size) in [(1, 64, 24), (2, 32, 8), (3, 33, 7), (16, 24, 8), (2, 16, 1_000)] {
        let on = clustered(1, 150, [16, 12], cluster_size, 6);
        assert_same(&inputs(&on, heads, width, 3, DType::F32), fast(&on), slow(&on), 2e-5);
    }
}

#[test]
fn threads_and_batch_mates_change_nothing() {
    let on = clustered(3, 500, [32, 32], 8, 6);
    let vars = inputs(&on, 2, 16, 1, DType::F32);
    let tensors: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let runs = on_threads(|| {
        let out = fast(&on)(&tensors).unwrap();
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
    let out = fast(&alone)(&first).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(out, runs[0].0[..out.len()]);
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
    for (place, name) in names.into_iter().enumerate().skip(1) {
        let mut wrong = tensors.clone();
        wrong[place] = Tensor::cat(&[&tensors[place], &tensors[place]], D::Minus1).unwrap();
        let error = fast(&on)(&wrong).unwrap_err().to_string();
        assert!(error.contains("cluster_attention") && error.contains(name), "{name}: {error}");
        let mut wrong = tensors.clone();
        wrong[place] = tensors[place].to_dtype(DType::F64).unwrap();
        let error = fast(&on)(&wrong).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("F64"), "{name}: {error}");
    }
}
