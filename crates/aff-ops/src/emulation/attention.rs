//! Cluster attention.

use candle_core::{DType, Tensor};

use super::common::{Clustered, all_keys, clustered, random, vars};
use super::{assert_kernels, bits};
use crate::cluster_attention::reference;
use crate::kernel::gpu::emulated::emulate;
use crate::{AttentionGeometry, ClusterAttention, PaddingSlots, cluster_attention};

fn check(on: &Clustered, [heads, width]: [usize; 2], padding: PaddingSlots) {
    let (batch, tokens, channels) = (on.positions.batch(), on.positions.tokens(), heads * width);
    let vars = vars(
        &[
            ("query", vec![batch, tokens, channels]),
            ("key_value", vec![batch, tokens, 2 * channels]),
            ("position_weight", vec![heads, 5]),
            ("position_bias", vec![heads]),
            ("blank_key", vec![channels]),
            ("blank_value", vec![channels]),
        ],
        tokens as u64,
        DType::F32,
    );
    let geometry = AttentionGeometry { positions: &on.positions, neighborhood: &on.neighborhood, padding };
    assert_kernels(
        &vars,
        |x| cluster_attention(&named(x), &geometry),
        |x| reference::cluster_attention(&named(x), &geometry),
        2e-5,
    );
}

fn named(x: &[Tensor]) -> ClusterAttention<'_> {
    ClusterAttention {
        query: &x[0],
        key_value: &x[1],
        position_weight: &x[2],
        position_bias: &x[3],
        blank_key: &x[4],
        blank_value: &x[5],
    }
}

#[test]
fn heads_of_every_width() {
    // 53 tokens: the last cluster and the last tile are not full.
    let on = clustered(2, 53, [11, 9], 8, 3);
    for width in [16, 32, 64] {
        check(&on, [2, width], PaddingSlots::LeftOut);
    }
}

#[test]
fn clusters_of_other_sizes_than_a_block() {
    for (cluster_size, tokens) in [(24, 61), (5, 40), (8, 48), (1, 9)] {
        check(&clustered(2, tokens, [11, 9], cluster_size, 2), [1, 16], PaddingSlots::LeftOut);
    }
}

#[test]
fn fewer_tokens_than_a_cluster() {
    for tokens in [1, 3, 8] {
        check(&clustered(1, tokens, [4, 3], 8, 3), [2, 16], PaddingSlots::LeftOut);
    }
}

#[test]
fn padding_slots_of_the_first_token() {
    for (cluster_size, tokens) in [(8, 53), (24, 61), (8, 3), (8, 48)] {
        check(&clustered(2, tokens, [11, 9], cluster_size, 2), [2, 16], PaddingSlots::FirstToken);
    }
}

#[test]
fn all_keys_of_an_image() {
    check(&all_keys(&clustered(2, 21, [6, 5], 8, 2)), [3, 32], PaddingSlots::LeftOut);
}

#[test]
fn padding_slots_that_win() {
    // A logit of 30 for each pixel of distance: far from the first token its padding slots outweigh all members.
    let on = clustered(1, 53, [40, 9], 8, 2);
    let channels = 16;
    let shapes: [&[usize]; 3] = [&[1, 53, channels], &[1, 53, 2 * channels], &[channels]];
    let [query, key_value, blank] = shapes.map(|shape| random(shape, 5, DType::F32));
    let weight = Tensor::new(&[[0_f32, 0.0, 30.0, 0.0, 0.0]], blank.device()).unwrap();
    let bias = random(&[1], 6, DType::F32);
    let inputs = ClusterAttention {
        query: &query,
        key_value: &key_value,
        position_weight: &weight,
        position_bias: &bias,
        blank_key: &blank,
        blank_value: &blank,
    };
    let with = |padding| {
        let geometry =
            AttentionGeometry { positions: &on.positions, neighborhood: &on.neighborhood, padding };
        let found = emulate(4, || cluster_attention(&inputs, &geometry)).unwrap();
        let expected = reference::cluster_attention(&inputs, &geometry).unwrap();
        super::common::assert_close("out", &found, &expected, 1e-4);
        found
    };
    let [out, without] = [PaddingSlots::FirstToken, PaddingSlots::LeftOut].map(with);
    let difference = (out - without).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() > 0.1, "the padding slots do not matter here");
}

#[test]
fn an_image_does_not_depend_on_its_batch_mates() {
    // The first image of two is that of one.
    let [alone, both] = [1, 2].map(|batch| clustered(batch, 53, [11, 9], 8, 3));
    let heads = 2;
    let [query, key_value] = [32, 64].map(|width| random(&[2, 53, width], 7, DType::F32));
    let [weight, bias, blank] =
        [vec![heads, 5], vec![heads], vec![32]].map(|shape| random(&shape, 8, DType::F32));
    let attend = |on: &Clustered, seed: u32| {
        let batch = on.positions.batch();
        let inputs = ClusterAttention {
            query: &query.narrow(0, 0, batch).unwrap(),
            key_value: &key_value.narrow(0, 0, batch).unwrap(),
            position_weight: &weight,
            position_bias: &bias,
            blank_key: &blank,
            blank_value: &blank,
        };
        let padding = PaddingSlots::FirstToken;
        let geometry =
            AttentionGeometry { positions: &on.positions, neighborhood: &on.neighborhood, padding };
        emulate(seed, || cluster_attention(&inputs, &geometry)).unwrap().get(0).unwrap()
    };
    assert_eq!(bits(&attend(&alone, 1)), bits(&attend(&both, 2)));
}
