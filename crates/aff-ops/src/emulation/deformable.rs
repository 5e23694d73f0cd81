//! Deformable gather.

use aff_geometry::Canvas;
use candle_core::{DType, Tensor, Var};

use super::common::{assert_close, clustered, vars};
use super::{assert_kernels, bits};
use crate::deformable_gather::reference;
use crate::kernel::gpu::emulated::emulate;
use crate::{CanvasLookup, DeformableGather, Positions, deformable_gather};

struct Case {
    batch: usize,
    queries: usize,
    heads: usize,
    width: usize,
    points: usize,
}

fn levels(batch: usize) -> Vec<CanvasLookup> {
    let scattered = clustered(batch, 37, [11, 9], 8, 2).positions;
    let one = Positions::full_grid(batch, Canvas::new(1, 1).unwrap());
    // Four nearest, three, and the one that there is.
    [(scattered.clone(), 4), (scattered, 3), (one, 4)]
        .map(|(positions, k)| CanvasLookup::new(&positions, k).unwrap())
        .into()
}

fn variables(case: &Case, levels: &[CanvasLookup]) -> Vec<(&'static str, Var)> {
    let &Case { batch, queries, heads, width, points } = case;
    let tokens = levels.iter().map(CanvasLookup::tokens).sum();
    let samples = vec![batch, queries, heads, levels.len(), points];
    let mut coordinates = samples.clone();
    coordinates.push(2);
    let vars = vars(
        &[
            ("value", vec![batch, tokens, heads * width]),
            ("locations", coordinates),
            ("weights", samples),
            ("power", vec![1]),
        ],
        width as u64,
        DType::F32,
    );
    // Locations on the canvas and somewhat around it, a power about 1.
    let locations = vars[1].1.affine(7.0, 4.5).unwrap();
    vars[1].1.set(&locations).unwrap();
    let power = vars[3].1.affine(0.2, 1.0).unwrap();
    vars[3].1.set(&power).unwrap();
    vars
}

fn named(x: &[Tensor]) -> DeformableGather<'_> {
    DeformableGather { value: &x[0], locations: &x[1], weights: &x[2], power: &x[3] }
}

#[test]
fn gathers_of_every_shape() {
    let cases = [
        Case { batch: 2, queries: 5, heads: 3, width: 16, points: 4 },
        Case { batch: 1, queries: 3, heads: 2, width: 32, points: 9 },
        Case { batch: 1, queries: 2, heads: 1, width: 64, points: 1 },
        Case { batch: 1, queries: 2, heads: 2, width: 5, points: 2 },
    ];
    for case in cases {
        let levels = levels(case.batch);
        let vars = variables(&case, &levels);
        assert_kernels(
            &vars,
            |x| deformable_gather(&named(x), &levels),
            |x| reference::deformable_gather(&named(x), &levels),
            2e-4,
        );
    }
}

fn gradient_of_value(vars: &[(&'static str, Var)], levels: &[CanvasLookup], factor: f64) -> Tensor {
    let inputs: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let out = emulate(1, || deformable_gather(&named(&inputs), levels)).unwrap();
    // As a tensor: Candle leaves out the gradient of a product with the number 0.
    let factor = Tensor::full(factor as f32, out.shape(), out.device()).unwrap();
    let loss = (out * factor).unwrap().sum_all().unwrap();
    emulate(1, || loss.backward()).unwrap().get(&vars[0].1).unwrap().clone()
}

#[test]
fn gradients_of_values_keep_their_digits_at_any_scale() {
    let case = Case { batch: 2, queries: 5, heads: 2, width: 16, points: 4 };
    let levels = levels(2);
    let vars = variables(&case, &levels);
    let plain = gradient_of_value(&vars, &levels, 1.0);
    for exponent in [-60, 60] {
        let factor = 2_f64.powi(exponent);
        let scaled = gradient_of_value(&vars, &levels, factor);
        assert_close("value", &scaled.affine(factor.recip(), 0.0).unwrap(), &plain, 1e-6);
    }
    // None at all, and one that is none.
    assert!(bits(&gradient_of_value(&vars, &levels, 0.0)).iter().all(|&bits| bits == 0));
    let infinite: Vec<f32> =
        gradient_of_value(&vars, &levels, f64::INFINITY).flatten_all().unwrap().to_vec1().unwrap();
    assert!(infinite.iter().all(|value| value.is_nan()));
}

#[test]
fn a_location_that_is_none_gives_nothing_that_looks_right() {
    let case = Case { batch: 2, queries: 3, heads: 1, width: 16, points: 2 };
    let levels = levels(2);
    let vars = variables(&case, &levels);
    let mut locations: Vec<f32> = vars[1].1.flatten_all().unwrap().to_vec1().unwrap();
    locations[0] = f32::NAN;
    vars[1].1.set(&Tensor::from_vec(locations, vars[1].1.shape(), vars[1].1.device()).unwrap()).unwrap();
    let inputs: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let out: Vec<Vec<Vec<f32>>> =
        emulate(1, || deformable_gather(&named(&inputs), &levels)).unwrap().to_vec3().unwrap();
    assert!(out[0][0].iter().all(|value| value.is_nan()));
    assert!(out[0][1..].iter().chain(&out[1]).flatten().all(|value| value.is_finite()));
    let gradient: Vec<Vec<Vec<f32>>> = gradient_of_value(&vars, &levels, 1.0).to_vec3().unwrap();
    assert!(gradient[0].iter().flatten().all(|value| value.is_nan()));
    assert!(gradient[1].iter().flatten().all(|value| value.is_finite()));
}
