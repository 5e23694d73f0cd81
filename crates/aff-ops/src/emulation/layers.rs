//! Layer norm, softmax and GELU.

use candle_core::{DType, Device, Tensor};

use super::assert_kernels;
use super::common::{assert_close, vars};
use crate::kernel::gpu::column_sums;
use crate::kernel::gpu::emulated::{Emulated, download, emulate, upload};
use crate::layers::reference;
use crate::{gelu, layer_norm, softmax_last_dim};

#[test]
fn layer_norms() {
    // More rows than a thread adds, channels that are no multiple of a warp.
    for (rows, channels) in [(150, 33), (5, 130), (1, 1)] {
        let vars = vars(
            &[("x", vec![rows, channels]), ("weight", vec![channels]), ("bias", vec![channels])],
            3,
            DType::F32,
        );
        assert_kernels(
            &vars,
            |x| layer_norm(&x[0], &x[1], &x[2], 1e-5),
            |x| reference::layer_norm(&x[0], &x[1], &x[2], 1e-5),
            2e-5,
        );
    }
}

#[test]
fn softmaxes() {
    for (rows, width) in [(9, 70), (3, 1), (5, 8)] {
        let vars = vars(&[("x", vec![rows, width])], 4, DType::F32);
        assert_kernels(&vars, |x| softmax_last_dim(&x[0]), |x| reference::softmax_last_dim(&x[0]), 1e-6);
    }
}

#[test]
fn softmax_of_masked_rows() {
    let inf = f32::NEG_INFINITY;
    let x = Tensor::new(&[[inf, 2.0, inf], [inf, inf, inf]], &Device::Cpu).unwrap();
    let out = emulate(1, || softmax_last_dim(&x)).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(out[0], [0.0, 1.0, 0.0]);
    assert!(out[1].iter().all(|value| value.is_nan()));
}

#[test]
fn gelus() {
    let vars = vars(&[("x", vec![5, 61])], 5, DType::F32);
    let wide = |x: &[Tensor]| x[0].affine(6.0, 0.0);
    assert_kernels(&vars, |x| gelu(&wide(x)?), |x| reference::gelu(&wide(x)?), 2e-6);
}

#[test]
fn sums_of_columns() {
    let gpu = Emulated { seed: 5 };
    // More rows than a block sums, and more than those of 512 blocks would be; a lone column; no row.
    for (rows, columns) in [(1200, 70), (3, 1), (0, 5), (513 * 512, 1)] {
        let x = super::common::random(&[rows, columns], 8, DType::F32);
        let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        let sums = column_sums(&gpu, &upload(&gpu, &values).unwrap(), rows, columns).unwrap();
        let found = Tensor::new(download(&sums), &Device::Cpu).unwrap();
        let expected = x.to_dtype(DType::F64).unwrap().sum(0).unwrap();
        assert_close("sums", &found, &expected, 1e-4);
    }
}
