//! What the tests of the operators share: random inputs, comparison of values and gradients, finite differences.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

use aff_geometry::{Canvas, ClusterOptions, cluster, nearest_clusters};
use aff_ops::{ClusterNeighborhood, Positions};
use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;

/// Numbers between -1 and 1 that depend on the seed alone.
pub(crate) fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Inputs of an operator, by name, as variables.
pub(crate) fn vars(
    shapes: &[(&'static str, Vec<usize>)],
    seed: u64,
    dtype: DType,
) -> Vec<(&'static str, Var)> {
    let var = |(i, (name, shape)): (usize, &(&'static str, Vec<usize>))| {
        (*name, Var::from_tensor(&random(shape, seed.wrapping_add(i as u64 * 7919), dtype)).unwrap())
    };
    shapes.iter().enumerate().map(var).collect()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Fails unless the greatest difference is within `tolerance` of the greatest value (or of 1).
pub(crate) fn assert_close(name: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    let (found, expected) = (flat(found), flat(expected));
    let largest = expected.iter().fold(1.0_f64, |largest, value| largest.max(value.abs()));
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!((f - e).abs() <= tolerance * largest, "{name}[{i}]: {f}, expected {e}");
    }
}

type Inputs<'a> = &'a [Tensor];

/// Fails unless two versions of an operator have the same output and the same gradients.
pub(crate) fn assert_same(
    vars: &[(&'static str, Var)],
    fast: impl Fn(Inputs<'_>) -> Result<Tensor>,
    slow: impl Fn(Inputs<'_>) -> Result<Tensor>,
    tolerance: f64,
) {
    let inputs: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let (fast, slow) = (fast(&inputs).unwrap(), slow(&inputs).unwrap());
    assert_close("out", &fast, &slow, tolerance);
    let weight = random(fast.dims(), 99, fast.dtype());
    let gradients = |out: &Tensor| (out * &weight).unwrap().sum_all().unwrap().backward().unwrap();
    let (fast, slow) = (gradients(&fast), gradients(&slow));
    for (name, var) in vars {
        let (fast, slow) = (fast.get(var), slow.get(var));
        let fast = fast.unwrap_or_else(|| panic!("no gradient for {name}"));
        assert_close(
            name,
            fast,
            slow.unwrap_or_else(|| panic!("the twin has no gradient for {name}")),
            tolerance,
        );
    }
}

/// Fails unless the gradients of an operator (in f64) equal central differences.
pub(crate) fn assert_finite_differences(
    vars: &[(&'static str, Var)],
    operator: impl Fn(Inputs<'_>) -> Result<Tensor>,
) {
    const STEP: f64 = 1e-5;
    let inputs: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let out = operator(&inputs).unwrap();
    let weight = random(out.dims(), 98, DType::F64);
    let loss = |inputs: Inputs<'_>| {
        let out = operator(inputs).unwrap();
        (out * &weight).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    let gradients = (out * &weight).unwrap().sum_all().unwrap().backward().unwrap();
    for (index, (name, var)) in vars.iter().enumerate() {
        let found = flat(gradients.get(var).unwrap_or_else(|| panic!("no gradient for {name}")));
        let values = flat(var);
        // All numbers of small inputs, a sample of large ones.
        for at in (0..values.len()).step_by(values.len().div_ceil(24).max(1)) {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[at] += by;
                let mut inputs: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
                inputs[index] = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
                loss(&inputs)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let tolerance = 1e-6 * expected.abs().max(1.0);
            assert!(
                (found[at] - expected).abs() < tolerance,
                "{name}[{at}]: {}, expected {expected}",
                found[at]
            );
        }
    }
}

/// Tokens in the order of their clusters, and who sees whom.
#[derive(Debug, Clone)]
pub(crate) struct Clustered {
    pub(crate) positions: Positions,
    pub(crate) neighborhood: ClusterNeighborhood,
}

/// The first `tokens` cells of a scattered order of the canvas, for each image another order.
pub(crate) fn clustered(
    batch: usize,
    tokens: usize,
    [width, height]: [u32; 2],
    cluster_size: usize,
    r: usize,
) -> Clustered {
    let canvas = Canvas::new(width, height).unwrap();
    let (mut xy, mut all_clusters, mut all_nearest) = (Vec::new(), Vec::new(), Vec::new());
    for image in 0..batch {
        let mut pos: Vec<[i32; 2]> =
            (0..width * height).map(|i| [(i % width) as i32, (i / width) as i32]).collect();
        pos.sort_by_key(|&[x, y]| ((x + 3 * image as i32 + 1) * 7919 + (y + 5) * 104_729) % 1009);
        pos.truncate(tokens);
        let clusters = cluster(&pos, canvas, &ClusterOptions::new(cluster_size)).unwrap();
        let sorted: Vec<[i32; 2]> = clusters.order().iter().map(|&token| pos[token as usize]).collect();
        all_nearest.push(nearest_clusters(&sorted, &clusters, r).unwrap());
        all_clusters.push(clusters);
        xy.extend(sorted);
    }
    Clustered {
        positions: Positions::new(xy, batch, canvas).unwrap(),
        neighborhood: ClusterNeighborhood::from_clusters(&all_clusters, &all_nearest).unwrap(),
    }
}

/// The same tokens, each of which sees all of them.
pub(crate) fn all_keys(on: &Clustered) -> Clustered {
    let (batch, tokens) = (on.positions.batch(), on.positions.tokens());
    Clustered {
        positions: on.positions.clone(),
        neighborhood: ClusterNeighborhood::all_keys(batch, tokens, tokens).unwrap(),
    }
}

/// Any small clustering, among them one token, one cluster, and clusters that are no multiple of a vector.
pub(crate) fn any_clustered() -> impl Strategy<Value = Clustered> {
    (1..3_usize, 1..13_u32, 1..9_u32, 1..20_usize, 1..6_usize, 1..100_usize).prop_map(
        |(batch, width, height, cluster_size, r, tokens)| {
            let tokens = tokens.min((width * height) as usize);
            clustered(batch, tokens, [width, height], cluster_size, r)
        },
    )
}

/// What `run` makes on one thread, two and five.
pub(crate) fn on_threads<R: Send>(run: impl Fn() -> R + Sync) -> Vec<R> {
    let on =
        |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&run);
    [1, 2, 5].map(on).into_iter().collect()
}
