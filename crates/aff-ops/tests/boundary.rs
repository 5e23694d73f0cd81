//! Where tensors meet kernels: gradients of gradients are refused, and nothing moves between devices.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use aff_geometry::k_nearest;
use aff_ops::{
    AttentionGeometry, CanvasLookup, ClusterAttention, DeformableGather, MergeGeometry, NeighborLists,
    NeighborhoodMerge, Offset, PaddingSlots, cluster_attention, deformable_gather, gelu, layer_norm, linear,
    neighborhood_merge, softmax_last_dim, weighted_gather,
};
use candle_core::{DType, Result, Tensor, Var};
use common::{clustered, random, vars};

/// Makes Candle keep track of what gradients are computed from. By default it forgets that from one operator to the next, so that only
/// the gradients of tensors that one of our operators takes as they are can be refused.
const KEEP_TRACK: &str = "CANDLE_GRAD_DO_NOT_DETACH";

/// Fails unless the gradient of each input of `operator` refuses to be differentiated, whichever of the inputs is a variable. Where
/// Candle does not keep track, only the first `direct` inputs are looked at, which the operator does not pack together.
fn assert_refused(
    name: &str,
    shapes: &[(&'static str, Vec<usize>)],
    direct: usize,
    operator: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let vars = vars(shapes, 1, DType::F32);
    let looked_at = if std::env::var_os(KEEP_TRACK).is_some() { shapes.len() } else { direct };
    for variable in 0..vars.len() {
        let own = |(at, (_, var)): (usize, &(&str, Var))| {
            if at == variable { var.as_tensor().clone() } else { var.as_detached_tensor() }
        };
        let inputs: Vec<Tensor> = vars.iter().enumerate().map(own).collect();
        let first = operator(&inputs).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(first.get(&inputs[variable]).is_some(), "{name}: no gradient of variable {variable}");
        for (input, (input_name, _)) in inputs.iter().zip(shapes).take(looked_at) {
            let Some(gradient) = first.get(input) else { continue };
            let Err(error) = gradient.sqr().unwrap().sum_all().unwrap().backward() else {
                panic!("{name}: the gradient of `{input_name}` was differentiated in silence")
            };
            let error = error.to_string();
            assert!(error.contains("second derivatives are not supported"), "{name}: {error}");
        }
    }
}

/// Candle reads the setting once a thread, from the environment: the other half of the test is a process of its own.
#[test]
fn second_derivatives_are_refused_where_candle_keeps_track() {
    let test = std::env::current_exe().unwrap();
    let run = std::process::Command::new(test)
        .args(["--exact", "second_derivatives_are_refused"])
        .env(KEEP_TRACK, "1")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && out.contains("1 passed"), "{out}");
}

#[test]
fn second_derivatives_are_refused() {
    assert_refused("gelu", &[("x", vec![5])], 1, |t| gelu(&t[0]));
    assert_refused("softmax_last_dim", &[("x", vec![2, 5])], 1, |t| softmax_last_dim(&t[0]));
    let norm = [("x", vec![3, 9]), ("weight", vec![9]), ("bias", vec![9])];
    assert_refused("layer_norm", &norm, 3, |t| layer_norm(&t[0], &t[1], &t[2], 1e-5));
    let layer = [("x", vec![3, 4]), ("weight", vec![2, 4]), ("bias", vec![2])];
    assert_refused("linear", &layer, 3, |t| linear(&t[0], &t[1], Some(&t[2])));
    assert_refused("linear", &layer[..2], 2, |t| linear(&t[0], &t[1], None));

    let on = clustered(1, 20, [5, 4], 4, 2);
    let nearest = k_nearest(on.positions.image(0), on.positions.image(0), 3).unwrap();
    let neighbors = NeighborLists::from_nearest_points(20, &[nearest]).unwrap();
    let sums = [("feat", vec![1, 20, 3]), ("weights", vec![1, 20, 3])];
    assert_refused("weighted_gather", &sums, 2, |t| weighted_gather(&t[0], &t[1], &neighbors));

    let attention = [
        ("query", vec![1, 20, 6]),
        ("key_value", vec![1, 20, 12]),
        ("position_weight", vec![2, 5]),
        ("position_bias", vec![2]),
        ("blank_key", vec![6]),
        ("blank_value", vec![6]),
    ];
    assert_refused("cluster_attention", &attention, 2, |t| {
        let inputs = ClusterAttention {
            query: &t[0],
            key_value: &t[1],
            position_weight: &t[2],
            position_bias: &t[3],
            blank_key: &t[4],
            blank_value: &t[5],
        };
        let padding = PaddingSlots::FirstToken;
        let (positions, neighborhood) = (&on.positions, &on.neighborhood);
        cluster_attention(&inputs, &AttentionGeometry { positions, neighborhood, padding })
    });

    let neighborhood = on.neighborhood.clone().into();
    let merge = [
        ("feat", vec![1, 20, 3]),
        ("score", vec![1, 20]),
        ("linear_weight", vec![4, 5]),
        ("linear_bias", vec![4]),
        ("norm_weight", vec![4]),
        ("norm_bias", vec![4]),
    ];
    assert_refused("neighborhood_merge", &merge, 2, |t| {
        let inputs = NeighborhoodMerge {
            feat: &t[0],
            score: Some(&t[1]),
            linear_weight: &t[2],
            linear_bias: &t[3],
            norm_weight: &t[4],
            norm_bias: &t[5],
        };
        let geometry = MergeGeometry {
            queries: &on.positions,
            keys: &on.positions,
            neighborhood: &neighborhood,
            offset: Offset::ToNeighbor,
        };
        neighborhood_merge(&inputs, &geometry)
    });

    let levels = [CanvasLookup::new(&on.positions, 4).unwrap()];
    let gather = [
        ("value", vec![1, 20, 4]),
        ("power", vec![1]),
        ("locations", vec![1, 3, 2, 1, 2, 2]),
        ("weights", vec![1, 3, 2, 1, 2]),
    ];
    assert_refused("deformable_gather", &gather, 2, |t| {
        let inputs = DeformableGather { value: &t[0], power: &t[1], locations: &t[2], weights: &t[3] };
        deformable_gather(&inputs, &levels)
    });
}

/// A strided gradient, as sums over an axis make them, is read in its own order.
#[test]
fn gradients_that_are_strided_are_read_in_their_order() {
    let shapes = [("x", vec![3, 4]), ("weight", vec![5, 4])];
    let vars = vars(&shapes, 3, DType::F64);
    let factor = random(&[5, 3], 4, DType::F64);
    let gradients = |layer: &dyn Fn() -> Result<Tensor>| {
        let turned = layer().unwrap().t().unwrap();
        let gradients = (turned * &factor).unwrap().sum_all().unwrap().backward().unwrap();
        vars.iter().map(|(_, var)| gradients.get(var).unwrap().clone()).collect::<Vec<_>>()
    };
    let (x, weight) = (vars[0].1.as_tensor(), vars[1].1.as_tensor());
    let fast = gradients(&|| linear(x, weight, None));
    let slow = gradients(&|| aff_ops::layers::reference::linear(x, weight, None));
    for (fast, slow) in fast.iter().zip(&slow) {
        common::assert_close("gradient", fast, slow, 1e-12);
    }
}

/// No operator copies a tensor to the host or to another device: what does so has one of these names.
#[test]
fn no_operator_moves_a_tensor_between_devices() {
    const MOVES: [&str; 8] =
        ["to_vec0", "to_vec1", "to_vec2", "to_vec3", "to_scalar", "to_device", "clone_dtoh", "memcpy_dtoh"];
    let mut files = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Tests look at what kernels made.
                if !path.ends_with("src/emulation") {
                    folders.push(path);
                }
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for (number, line) in
                text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                let found = MOVES.iter().find(|name| line.contains(*name));
                assert!(found.is_none(), "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    assert!(files > 20, "{files} source files");
}
