//! The basic layers: equal to their twins, to finite differences, to themselves on any number of threads.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_ops::layers::reference;
use aff_ops::{gelu, layer_norm, linear, softmax_last_dim};
use candle_core::{DType, Device, Result, Tensor};
use common::{assert_close, assert_finite_differences, assert_same, on_threads, random, vars};
use proptest::prelude::*;

const EPS: f64 = 1e-5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn layer_norm_equals_the_twin(rows in 1..300_usize, channels in 1..70_usize, seed: u64) {
        let shapes = [("x", vec![1, rows, channels]), ("weight", vec![channels]), ("bias", vec![channels])];
        let fast = |t: &[Tensor]| layer_norm(&t[0], &t[1], &t[2], EPS);
        let slow = |t: &[Tensor]| reference::layer_norm(&t[0], &t[1], &t[2], EPS);
        assert_same(&vars(&shapes, seed, DType::F64), fast, slow, 1e-9);
        // A norm over few equal numbers divides by almost nothing, which magnifies the rounding.
        if channels > 8 {
            assert_same(&vars(&shapes, seed, DType::F32), fast, slow, 1e-5);
        }
    }

    #[test]
    fn softmax_equals_the_twin(rows in 1..300_usize, width in 1..70_usize, seed: u64) {
        let shapes = [("x", vec![rows, width])];
        let fast = |t: &[Tensor]| softmax_last_dim(&(&t[0] * 20.0)?);
        let slow = |t: &[Tensor]| reference::softmax_last_dim(&(&t[0] * 20.0)?);
        assert_same(&vars(&shapes, seed, DType::F32), fast, slow, 1e-5);
        assert_same(&vars(&shapes, seed, DType::F64), fast, slow, 1e-12);
    }

    #[test]
    fn gelu_equals_the_twin(count in 1..300_usize, seed: u64) {
        let fast = |t: &[Tensor]| gelu(&(&t[0] * 6.0)?);
        let slow = |t: &[Tensor]| reference::gelu(&(&t[0] * 6.0)?);
        assert_same(&vars(&[("x", vec![count])], seed, DType::F32), fast, slow, 2e-6);
        assert_same(&vars(&[("x", vec![count])], seed, DType::F64), fast, slow, 1e-12);
    }

    #[test]
    fn linear_equals_the_twin(rows in 1..300_usize, inputs in 1..40_usize, outputs in 1..40_usize, seed: u64) {
        let shapes = [("x", vec![1, rows, inputs]), ("weight", vec![outputs, inputs]), ("bias", vec![outputs])];
        let fast = |t: &[Tensor]| linear(&t[0], &t[1], Some(&t[2]));
        let slow = |t: &[Tensor]| reference::linear(&t[0], &t[1], Some(&t[2]));
        assert_same(&vars(&shapes, seed, DType::F32), fast, slow, 1e-5);
        let fast = |t: &[Tensor]| linear(&t[0], &t[1], None);
        let slow = |t: &[Tensor]| reference::linear(&t[0], &t[1], None);
        assert_same(&vars(&shapes[..2], seed, DType::F64), fast, slow, 1e-12);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let norm = [("x", vec![3, 11]), ("weight", vec![11]), ("bias", vec![11])];
    assert_finite_differences(&vars(&norm, 1, DType::F64), |t| layer_norm(&t[0], &t[1], &t[2], EPS));
    assert_finite_differences(&vars(&[("x", vec![3, 11])], 2, DType::F64), |t| softmax_last_dim(&t[0]));
    assert_finite_differences(&vars(&[("x", vec![37])], 3, DType::F64), |t| gelu(&t[0]));
    let product = [("x", vec![2, 3, 5]), ("weight", vec![4, 5]), ("bias", vec![4])];
    assert_finite_differences(&vars(&product, 4, DType::F64), |t| linear(&t[0], &t[1], Some(&t[2])));
}

#[test]
fn threads_change_nothing() {
    let shapes = [
        ("x", vec![700, 64]),
        ("weight", vec![96, 64]),
        ("bias", vec![96]),
        ("scale", vec![96]),
        ("shift", vec![96]),
    ];
    let vars = vars(&shapes, 5, DType::F32);
    let t: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let run = || -> Result<Vec<Vec<f32>>> {
        let y = layer_norm(&gelu(&linear(&t[0], &t[1], Some(&t[2]))?)?, &t[3], &t[4], EPS)?;
        let gradients = softmax_last_dim(&y)?.sqr()?.sum_all()?.backward()?;
        let all = vars.iter().map(|(_, var)| gradients.get(var).unwrap());
        std::iter::once(&y).chain(all).map(|tensor| tensor.flatten_all()?.to_vec1()).collect()
    };
    let runs = on_threads(|| run().unwrap());
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn rows_of_nothing_but_minus_infinity_are_nan_and_empty_tensors_stay_empty() {
    let x = Tensor::new(&[[f32::NEG_INFINITY; 3], [0.0; 3]], &Device::Cpu).unwrap();
    let y = softmax_last_dim(&x).unwrap().to_vec2::<f32>().unwrap();
    assert!(
        y[0].iter().all(|value| value.is_nan()) && y[1].iter().all(|value| (value - 1.0 / 3.0).abs() < 1e-6)
    );
    let empty = Tensor::zeros((0, 4), DType::F32, &Device::Cpu).unwrap();
    let four = Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(softmax_last_dim(&empty).unwrap().dims(), [0, 4]);
    assert_eq!(gelu(&empty).unwrap().dims(), [0, 4]);
    assert_eq!(layer_norm(&empty, &four, &four, EPS).unwrap().dims(), [0, 4]);
    let weight = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(linear(&empty, &weight, None).unwrap().dims(), [0, 2]);
}

#[test]
fn narrow_types_are_taken_and_integers_refused() {
    let x = random(&[5, 9], 1, DType::F32);
    for dtype in [DType::F16, DType::BF16] {
        let narrow = softmax_last_dim(&x.to_dtype(dtype).unwrap()).unwrap();
        assert_eq!(narrow.dtype(), dtype);
        assert_close("narrow", &narrow, &softmax_last_dim(&x).unwrap(), 0.01);
    }
    let error = gelu(&x.to_dtype(DType::U32).unwrap()).unwrap_err().to_string();
    assert!(error.contains("gelu: `x` is U32"), "{error}");
}

/// In release builds such products once wrapped to 0, and the matrix product read what was not there.
#[test]
fn sizes_whose_product_wraps_are_refused() {
    const HUGE: usize = 1 << 32;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let refused = |result: Result<Tensor>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("more numbers than can be addressed"), "{error}");
    };
    refused(linear(&zeros(&[HUGE, 0]), &zeros(&[HUGE, 0]), None));
}

#[test]
fn no_inputs_give_the_bias_and_no_rows_give_none() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let bias = Tensor::new(&[1_f32, 2.0], &Device::Cpu).unwrap();
    let y = linear(&zeros(&[3, 0]), &zeros(&[2, 0]), Some(&bias)).unwrap();
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[1.0, 2.0]; 3]);
    let y = linear(&zeros(&[3, 0]), &zeros(&[2, 0]), None).unwrap();
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[0.0, 0.0]; 3]);
    assert_eq!(linear(&zeros(&[0, 5, 4]), &zeros(&[2, 4]), None).unwrap().dims(), [0, 5, 2]);
}
