//! Layers with prepared weights: equal to the operators that they stand for, of the same bits in any batch and on any number of
//! threads, and never of weights that have changed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_ops::layers::reference;
use aff_ops::{Activation, Epilogue, PreparedLinear};
use candle_core::{DType, Device, Result, Tensor, Var};
use common::{assert_close, on_threads, random};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Relu, Activation::Gelu];

/// `residual + scale * activation(x weight^T + bias)`, operator by operator.
fn twin(layer: &PreparedLinear, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
    let mut y = reference::linear(x, layer.weight(), layer.bias())?;
    y = match epilogue.activation {
        Activation::Relu => y.relu()?,
        Activation::Gelu => reference::gelu(&y)?,
        _ => y,
    };
    if let Some(scale) = epilogue.scale {
        y = y.broadcast_mul(scale)?;
    }
    if let Some(residual) = epilogue.residual {
        y = (y + residual)?;
    }
    Ok(y)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_equals_the_twin(
        rows in 0..120_usize,
        inputs in 0..70_usize,
        outputs in 1..70_usize,
        activation in 0..3_usize,
        parts in 0..8_u8,
        seed in 0..1_000_000_u64,
    ) {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
            let given = |bit: u8, shape: &[usize]| (parts >> bit & 1 == 1).then(|| random(shape, seed + u64::from(bit), dtype));
            let (bias, scale) = (given(0, &[outputs]), given(1, &[outputs]));
            let residual = given(2, &[2, rows, outputs]);
            let x = random(&[2, rows, inputs], seed + 10, dtype);
            let layer = PreparedLinear::new(random(&[outputs, inputs], seed + 11, dtype), bias).unwrap();
            let activation = ACTIVATIONS[activation];
            let epilogue = Epilogue { activation, scale: scale.as_ref(), residual: residual.as_ref() };
            let found = layer.forward(&x, epilogue).unwrap();
            assert_close("prepared", &found, &twin(&layer, &x, epilogue).unwrap(), tolerance);
        }
    }
}

#[test]
fn neither_batch_mates_nor_threads_nor_rows_change_a_bit() {
    let layer =
        PreparedLinear::new(random(&[83, 300], 1, DType::F32), Some(random(&[83], 2, DType::F32))).unwrap();
    let x = random(&[3, 101, 300], 3, DType::F32);
    let epilogue = Epilogue { activation: Activation::Gelu, ..Epilogue::default() };
    let runs = on_threads(|| values(&layer.forward(&x, epilogue).unwrap()));
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]));
    for image in 0..3 {
        let alone = x.narrow(0, image, 1).unwrap();
        assert_eq!(
            values(&layer.forward(&alone, epilogue).unwrap()),
            runs[0][image * 101 * 83..][..101 * 83]
        );
        let row = alone.narrow(1, 100, 1).unwrap();
        assert_eq!(
            values(&layer.forward(&row, epilogue).unwrap()),
            runs[0][(image * 101 + 100) * 83..][..83]
        );
    }
}

/// A sum of nothing is zero: what is left is the bias.
#[test]
fn without_inputs_the_bias_is_left() {
    let (x, weight) = (random(&[2, 3, 0], 1, DType::F32), random(&[2, 0], 2, DType::F32));
    let bias = Tensor::new(&[5_f32, -7.0], &Device::Cpu).unwrap();
    let layer = PreparedLinear::new(weight.clone(), Some(bias.clone())).unwrap();
    for y in [
        layer.forward(&x, Epilogue::default()),
        aff_ops::linear(&x, &weight, Some(&bias)),
        reference::linear(&x, &weight, Some(&bias)),
    ] {
        let y = y.unwrap();
        assert_eq!(y.dims(), [2, 3, 2]);
        assert_eq!(values(&y), [5.0, -7.0].repeat(6));
    }
}

/// A variable is updated in place, under the layer: the next product is that of the new weights, and so it is for what is
/// computed from a variable.
#[test]
fn updates_of_variables_are_seen() {
    let var = Var::from_tensor(&Tensor::new(&[[1_f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap()).unwrap();
    let x = Tensor::new(&[[1_f32, 10.0]], &Device::Cpu).unwrap();
    let whole = PreparedLinear::new(var.as_tensor().clone(), None).unwrap();
    let part = PreparedLinear::new(var.narrow(0, 1, 1).unwrap(), None).unwrap();
    let products = || [&whole, &part].map(|layer| values(&layer.forward(&x, Epilogue::default()).unwrap()));
    assert_eq!(products(), [vec![21.0, 43.0], vec![43.0]]);
    var.set(&Tensor::new(&[[0_f32, 1.0], [1.0, 1.0]], &Device::Cpu).unwrap()).unwrap();
    assert_eq!(products(), [vec![10.0, 11.0], vec![11.0]]);
}

/// Whichever of the tensors is a variable, its gradient is that of the twin.
#[test]
fn gradients_are_those_of_the_twin() {
    let shapes: [&[usize]; 5] = [&[4, 6], &[5, 6], &[5], &[5], &[4, 5]];
    for variable in 0..shapes.len() {
        let tensors: Vec<Tensor> =
            (0..shapes.len()).map(|i| random(shapes[i], i as u64, DType::F64)).collect();
        let var = Var::from_tensor(&tensors[variable]).unwrap();
        let of = |at: usize| if at == variable { var.as_tensor().clone() } else { tensors[at].clone() };
        let layer = PreparedLinear::new(of(1), Some(of(2))).unwrap();
        let (x, scale, residual) = (of(0), of(3), of(4));
        let activation = Activation::Gelu;
        let epilogue = Epilogue { activation, scale: Some(&scale), residual: Some(&residual) };
        let gradient = |y: Tensor| {
            let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            gradients.get(var.as_tensor()).unwrap().clone()
        };
        let found = gradient(layer.forward(&x, epilogue).unwrap());
        assert_close("gradient", &found, &gradient(twin(&layer, &x, epilogue).unwrap()), 1e-10);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let layer = PreparedLinear::new(random(&[3, 4], 1, DType::F32), None).unwrap();
    let x = random(&[2, 4], 2, DType::F32);
    let refused = |x: &Tensor, epilogue| layer.forward(x, epilogue).unwrap_err().to_string();
    let error = refused(&random(&[2, 5], 3, DType::F32), Epilogue::default());
    assert!(error.contains("`x` has shape [2, 5]; expected [..,4]"), "{error}");
    let wrong = random(&[2, 4], 4, DType::F32);
    let error = refused(&x, Epilogue { residual: Some(&wrong), ..Epilogue::default() });
    assert!(error.contains("`residual` has shape [2, 4]; expected [2, 3]"), "{error}");
    let error = refused(&x, Epilogue { scale: Some(&wrong), ..Epilogue::default() });
    assert!(error.contains("`scale` has shape"), "{error}");
    let error = refused(&x.to_dtype(DType::F64).unwrap(), Epilogue::default());
    assert!(error.contains("`x` is F64"), "{error}");
    assert!(PreparedLinear::new(x, Some(wrong)).is_err());
}
