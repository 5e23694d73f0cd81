//! Merging and weighted sums: equal to their twins, to finite differences, to themselves on any number of threads.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_geometry::k_nearest;
use aff_ops::{
    MergeGeometry, NeighborLists, Neighborhood, NeighborhoodMerge, Offset, Positions, neighborhood_merge,
    weighted_gather,
};
use candle_core::{DType, Result, Tensor, Var};
use common::{
    Clustered, all_keys, any_clustered, assert_finite_differences, assert_same, clustered, on_threads, vars,
};
use proptest::prelude::*;

/// Where neighbours come from.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Clusters,
    All,
    Lists,
}

fn nearest(keys: &Positions, queries: &Positions, k: usize) -> NeighborLists {
    let images = keys.images().zip(queries.images());
    let nearest: Vec<_> = images.map(|(keys, queries)| k_nearest(keys, queries, k).unwrap()).collect();
    NeighborLists::from_nearest_points(keys.tokens(), &nearest).unwrap()
}

/// Every third token merges its neighbours.
struct Merge {
    queries: Positions,
    keys: Positions,
    neighborhood: Neighborhood,
    offset: Offset,
}

impl Merge {
    fn new(on: &Clustered, kind: Kind, offset: Offset) -> Self {
        let (batch, tokens) = (on.positions.batch(), on.positions.tokens());
        let kept: Vec<u32> = (0..batch).flat_map(|_| (0..tokens as u32).step_by(3)).collect();
        let queries = on.positions.select(&kept).unwrap();
        let neighborhood = match kind {
            Kind::Clusters => on.neighborhood.select_queries(&kept).unwrap().into(),
            Kind::All => all_keys(on).neighborhood.select_queries(&kept).unwrap().into(),
            Kind::Lists => nearest(&on.positions, &queries, 9).into(),
        };
        Self { queries, keys: on.positions.clone(), neighborhood, offset }
    }

    fn geometry(&self) -> MergeGeometry<'_> {
        let Self { queries, keys, neighborhood, offset } = self;
        MergeGeometry { queries, keys, neighborhood, offset: *offset }
    }

    fn inputs(&self, channels: usize, weights: usize, seed: u64, dtype: DType) -> Vec<(&'static str, Var)> {
        let (batch, keys) = (self.keys.batch(), self.keys.tokens());
        let shapes = [
            ("feat", vec![batch, keys, channels]),
            ("score", vec![batch, keys]),
            ("linear_weight", vec![weights, 5]),
            ("linear_bias", vec![weights]),
            ("norm_weight", vec![weights]),
            ("norm_bias", vec![weights]),
        ];
        vars(&shapes, seed, dtype)
    }

    fn fast(&self) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        |inputs| neighborhood_merge(&named(inputs), &self.geometry())
    }

    fn slow(&self) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        |inputs| neighborhood_merge::reference::neighborhood_merge(&named(inputs), &self.geometry())
    }
}

fn named(inputs: &[Tensor]) -> NeighborhoodMerge<'_> {
    NeighborhoodMerge {
        feat: &inputs[0],
        score: Some(&inputs[1]),
        linear_weight: &inputs[2],
        linear_bias: &inputs[3],
        norm_weight: &inputs[4],
        norm_bias: &inputs[5],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merging_equals_the_twin(
        on in any_clustered(), channels in 1..40_usize, weights in 1..6_usize, seed: u64, back: bool,
        kind in prop_oneof![Just(Kind::Clusters), Just(Kind::All), Just(Kind::Lists)],
    ) {
        let merge = Merge::new(&on, kind, if back { Offset::ToQuery } else { Offset::ToNeighbor });
        // The layer norm over a few numbers, which may be nearly equal, magnifies the rounding.
        assert_same(&merge.inputs(channels, weights, seed, DType::F64), merge.fast(), merge.slow(), 1e-8);
    }

    #[test]
    fn weighted_sums_equal_the_twin(on in any_clustered(), k in 1..12_usize, channels in 1..80_usize, seed: u64) {
        let (batch, tokens) = (on.positions.batch(), on.positions.tokens());
        let neighbors = nearest(&on.positions, &on.positions, k);
        let shapes = [
            ("feat", vec![batch, tokens, channels]),
            ("weights", vec![batch, tokens, neighbors.per_query()]),
        ];
        let fast = |t: &[Tensor]| weighted_gather(&t[0], &t[1], &neighbors);
        let slow = |t: &[Tensor]| weighted_gather::reference::weighted_gather(&t[0], &t[1], &neighbors);
        assert_same(&vars(&shapes, seed, DType::F32), fast, slow, 1e-5);
        assert_same(&vars(&shapes, seed, DType::F64), fast, slow, 1e-12);
    }
}

#[test]
fn merging_at_the_width_of_the_network_equals_the_twin_in_f32() {
    for (channels, cluster_size) in [(32, 8), (40, 8), (128, 24)] {
        let merge =
            Merge::new(&clustered(2, 190, [16, 12], cluster_size, 6), Kind::Clusters, Offset::ToNeighbor);
        assert_same(&merge.inputs(channels, 4, 7, DType::F32), merge.fast(), merge.slow(), 2e-4);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for kind in [Kind::Clusters, Kind::All, Kind::Lists] {
        let merge = Merge::new(&clustered(2, 21, [6, 5], 4, 2), kind, Offset::ToNeighbor);
        assert_finite_differences(&merge.inputs(5, 4, 11, DType::F64), merge.fast());
    }
    let on = clustered(2, 21, [6, 5], 4, 2);
    let neighbors = nearest(&on.positions, &on.positions, 4);
    let shapes = [("feat", vec![2, 21, 3]), ("weights", vec![2, 21, 4])];
    assert_finite_differences(&vars(&shapes, 3, DType::F64), |t| weighted_gather(&t[0], &t[1], &neighbors));
}

#[test]
fn without_scores_they_are_one() {
    let merge = Merge::new(&clustered(1, 60, [8, 8], 8, 3), Kind::Clusters, Offset::ToQuery);
    let inputs = merge.inputs(8, 4, 2, DType::F32);
    let mut inputs: Vec<Tensor> = inputs.iter().map(|(_, var)| var.as_tensor().detach()).collect();
    inputs[1] = inputs[1].ones_like().unwrap();
    let with = merge.fast()(&inputs).unwrap();
    let without = NeighborhoodMerge { score: None, ..named(&inputs) };
    let without = neighborhood_merge(&without, &merge.geometry()).unwrap();
    assert_eq!(with.to_vec3::<f32>().unwrap(), without.to_vec3::<f32>().unwrap());
}

#[test]
fn threads_change_nothing() {
    let merge = Merge::new(&clustered(2, 900, [40, 40], 8, 6), Kind::Clusters, Offset::ToNeighbor);
    let vars = merge.inputs(48, 4, 3, DType::F32);
    let tensors: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let runs = on_threads(|| {
        let out = merge.fast()(&tensors).unwrap();
        let gradients = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let all = vars.iter().map(|(_, var)| gradients.get(var).unwrap());
        std::iter::once(&out)
            .chain(all)
            .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
            .collect::<Vec<Vec<f32>>>()
    });
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let refused = |batch, keys, per_query, indices: Vec<u32>| {
        NeighborLists::from_indices(batch, keys, per_query, indices).unwrap_err().to_string()
    };
    assert!(refused(1, 3, 2, vec![0, 1, 2]).contains("3 indices"));
    assert!(refused(0, 3, 2, vec![]).contains("0 images"));
    assert!(refused(1, 3, 0, vec![]).contains("rows of 0"));
    assert!(refused(1, 3, 2, vec![0, 3]).contains("index 3"));
    assert!(refused(usize::MAX, 3, 2, vec![0, 1]).contains("2 indices"));
    assert!(refused(1, u32::MAX as usize, 1, vec![0]).contains("expected fewer"));

    let points = [[0, 0], [1, 0], [2, 0]];
    let two = k_nearest(&points, &points, 2).unwrap();
    let others = [k_nearest(&points, &points, 3).unwrap(), k_nearest(&points, &points[..2], 2).unwrap()];
    for other in others {
        let error = NeighborLists::from_nearest_points(3, &[two.clone(), other]).unwrap_err().to_string();
        assert!(error.contains("image 1"), "{error}");
    }
}
