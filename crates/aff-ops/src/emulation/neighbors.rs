//! Merging and gathering of neighbours.

use candle_core::{DType, Tensor};

use super::assert_kernels;
use super::common::{Clustered, all_keys, clustered, vars};
use crate::neighborhood_merge::reference;
use crate::weighted_gather::reference as gather_reference;
use crate::{
    MergeGeometry, NeighborLists, Neighborhood, NeighborhoodMerge, Offset, neighborhood_merge,
    weighted_gather,
};

/// Every third token merges its neighbours.
fn check_merge(on: &Clustered, neighborhood: Option<Neighborhood>, channels: usize, offset: Offset) {
    let (batch, tokens) = (on.positions.batch(), on.positions.tokens());
    let kept: Vec<u32> = (0..batch).flat_map(|_| (0..tokens as u32).step_by(3)).collect();
    let queries = on.positions.select(&kept).unwrap();
    let neighborhood = neighborhood.unwrap_or_else(|| on.neighborhood.select_queries(&kept).unwrap().into());
    let geometry =
        MergeGeometry { queries: &queries, keys: &on.positions, neighborhood: &neighborhood, offset };
    let vars = vars(
        &[
            ("feat", vec![batch, tokens, channels]),
            ("score", vec![batch, tokens]),
            ("linear_weight", vec![4, 5]),
            ("linear_bias", vec![4]),
            ("norm_weight", vec![4]),
            ("norm_bias", vec![4]),
        ],
        channels as u64,
        DType::F32,
    );
    assert_kernels(
        &vars,
        |x| neighborhood_merge(&named(x), &geometry),
        |x| reference::neighborhood_merge(&named(x), &geometry),
        5e-5,
    );
}

fn named(x: &[Tensor]) -> NeighborhoodMerge<'_> {
    NeighborhoodMerge {
        feat: &x[0],
        score: Some(&x[1]),
        linear_weight: &x[2],
        linear_bias: &x[3],
        norm_weight: &x[4],
        norm_bias: &x[5],
    }
}

/// `per_query` neighbours of `queries` queries, some of them of many and some keys of nobody.
fn lists(batch: usize, keys: usize, queries: usize, per_query: usize) -> NeighborLists {
    let index = |i: usize| ((i * i + 3 * i) % keys.div_ceil(2)) as u32;
    let indices = (0..batch * queries * per_query).map(index).collect();
    NeighborLists::from_indices(batch, keys, per_query, indices).unwrap()
}

#[test]
fn merging_of_clusters() {
    // Clusters of 8 and of 24, the last of them not full; one channel, and more than a warp has.
    check_merge(&clustered(2, 53, [11, 9], 8, 3), None, 70, Offset::ToNeighbor);
    check_merge(&clustered(2, 61, [11, 9], 24, 2), None, 16, Offset::ToNeighbor);
    check_merge(&clustered(1, 3, [4, 3], 8, 3), None, 1, Offset::ToQuery);
}

#[test]
fn merging_of_all_keys_and_of_lists() {
    check_merge(&all_keys(&clustered(2, 14, [6, 5], 8, 2)), None, 32, Offset::ToNeighbor);
    let on = clustered(2, 31, [8, 6], 8, 2);
    let queries = 31_usize.div_ceil(3);
    check_merge(&on, Some(lists(2, 31, queries, 9).into()), 130, Offset::ToQuery);
}

#[test]
fn gathering_of_lists() {
    for (batch, keys, queries, per_query, channels) in
        [(2, 17, 23, 4, 70), (1, 5, 3, 40, 16), (1, 1, 1, 1, 1)]
    {
        let neighbors = lists(batch, keys, queries, per_query);
        let vars = vars(
            &[("feat", vec![batch, keys, channels]), ("weights", vec![batch, queries, per_query])],
            7,
            DType::F32,
        );
        assert_kernels(
            &vars,
            |x| weighted_gather(&x[0], &x[1], &neighbors),
            |x| gather_reference::weighted_gather(&x[0], &x[1], &neighbors),
            1e-5,
        );
    }
}
