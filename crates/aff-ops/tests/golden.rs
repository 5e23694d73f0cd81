//! The operators against golden files of the published reference implementation (`fixtures/ops`), made in float32.
//!
//! Tolerances: outputs within 1e-5 absolute + 1e-5 relative, a few units in the last place of sums of tens of terms of
//! order one; gradients within 1e-4 of the largest entry of their tensor, as they sum over all queries of a key in an
//! order that differs from the reference's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::path::Path;

use aff_ops::cluster_attention::reference::{LocalAttention, local_attention};
use aff_ops::weighted_gather::reference::multi_weighted_gather;
use aff_ops::{Neighborhood, ShepardInterpolation, sine_position_embedding, weighted_gather};
use candle_core::{DType, Device, Tensor, Var};

const CPU: &Device = &Device::Cpu;

struct Golden {
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ops").join(name);
        let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let words = view.data().chunks_exact(4).map(|b| <[u8; 4]>::try_from(b).unwrap());
            let tensor = match view.dtype() {
                safetensors::Dtype::F32 => {
                    Tensor::from_vec(words.map(f32::from_le_bytes).collect::<Vec<_>>(), view.shape(), CPU)
                }
                safetensors::Dtype::I32 => {
                    Tensor::from_vec(words.map(u32::from_le_bytes).collect::<Vec<_>>(), view.shape(), CPU)
                }
                safetensors::Dtype::U8 => Tensor::from_vec(view.data().to_vec(), view.shape(), CPU),
                other => panic!("{name}: {other:?}"),
            };
            (name, tensor.unwrap())
        };
        Self { tensors: file.tensors().into_iter().map(read).collect() }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    fn var(&self, name: &str) -> Var {
        Var::from_tensor(self.get(name)).unwrap()
    }

    fn indices(&self) -> Vec<u32> {
        self.get("neighbor_idx").flatten_all().unwrap().to_vec1().unwrap()
    }

    fn positions(&self, name: &str) -> Vec<Vec<[f32; 2]>> {
        let images = self.get(name).to_vec3::<f32>().unwrap();
        images.iter().map(|image| image.iter().map(|p| [p[0], p[1]]).collect()).collect()
    }

    /// Compares `out` with the golden output and the gradients of `inputs` with theirs.
    fn check(&self, out: &Tensor, inputs: &[(&str, &Var)]) {
        assert_close("out", out, self.get("out"), 1e-5, 1e-5);
        let loss = (out * self.get("grad_out")).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        assert!(!inputs.is_empty());
        for (name, input) in inputs {
            let expected = self.get(&format!("grad_{name}"));
            let largest = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let found = gradients.get(input).unwrap_or_else(|| panic!("no gradient for {name}"));
            assert_close(name, found, expected, 1e-4 * largest, 0.0);
        }
    }
}

fn assert_close(name: &str, found: &Tensor, expected: &Tensor, absolute: f32, relative: f32) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!((f - e).abs() <= absolute + relative * e.abs(), "{name}[{i}]: {f}, expected {e}");
    }
}

fn attention_golden(name: &str) {
    let golden = Golden::open(name);
    let vars = ["q", "k", "v", "bias", "blank_k", "blank_v"].map(|name| (name, golden.var(name)));
    let [q, k, v, bias, blank_k, blank_v] = vars.each_ref().map(|(_, var)| var.as_tensor());
    let (batch, _, keys, _) = k.dims4().unwrap();
    let slots = bias.dim(3).unwrap();
    let neighborhood = Neighborhood::from_indices(batch, keys, slots, golden.indices()).unwrap();

    // A masked slot is one whose logit is lowered by 100: the same as a bias.
    let masked = golden.tensors.get("neighbor_mask").map(|mask| {
        let empty = mask.eq(0u8).unwrap().to_dtype(DType::F32).unwrap();
        (empty * -100.0).unwrap().unsqueeze(1).unwrap()
    });
    let biased = match masked {
        Some(masked) => bias.broadcast_add(&masked).unwrap(),
        None => bias.clone(),
    };
    let scale = (q.dim(3).unwrap() as f64).powf(-0.5);
    let inputs = LocalAttention {
        query: &(q * scale).unwrap(),
        key: k,
        value: v,
        bias: &biased,
        blank_key: blank_k,
        blank_value: blank_v,
    };
    let out = local_attention(&inputs, &neighborhood).unwrap();
    golden.check(&out, &vars.each_ref().map(|(name, var)| (*name, var)));
}

#[test]
fn cluster_attention() {
    attention_golden("cluster_attention");
}

#[test]
fn cluster_attention_masked() {
    attention_golden("cluster_attention_masked");
}

#[test]
fn neighborhood_merge() {
    let golden = Golden::open("neighborhood_merge");
    let (feat, weights) = (golden.var("feat"), golden.var("weights"));
    let (batch, keys, _) = feat.dims3().unwrap();
    let slots = weights.dim(2).unwrap();
    let neighborhood = Neighborhood::from_indices(batch, keys, slots, golden.indices()).unwrap();
    let out = multi_weighted_gather(&feat, &weights, &neighborhood).unwrap();
    golden.check(&out, &[("feat", &feat), ("weights", &weights)]);
}

#[test]
fn weighted_gather_of_four() {
    let golden = Golden::open("weighted_gather");
    let (feat, weights) = (golden.var("feat"), golden.var("weights"));
    let (batch, keys, _) = feat.dims3().unwrap();
    let neighborhood = Neighborhood::from_indices(batch, keys, 4, golden.indices()).unwrap();
    let out = weighted_gather(&feat, &weights, &neighborhood).unwrap();
    golden.check(&out, &[("feat", &feat), ("weights", &weights)]);
}

/// The golden file has the heads of an image as images of their own and the interpolation weights given.
#[test]
fn deformable_gather() {
    let golden = Golden::open("deformable_gather");
    let (value, attention) = (golden.var("value"), golden.var("attention"));
    let interpolation = golden.var("interp_weights");
    let (batch, queries, points, neighbors) = interpolation.dims4().unwrap();
    let keys = value.dim(1).unwrap();
    let slots = points * neighbors;
    let neighborhood = Neighborhood::from_indices(batch, keys, slots, golden.indices()).unwrap();
    let weights = interpolation
        .broadcast_mul(&attention.unsqueeze(3).unwrap())
        .unwrap()
        .reshape((batch, queries, slots))
        .unwrap();
    let out = weighted_gather(&value, &weights, &neighborhood).unwrap();
    golden.check(&out, &[("value", &value), ("attention", &attention), ("interp_weights", &interpolation)]);
}

#[test]
fn shepard_upsample() {
    let golden = Golden::open("shepard_upsample");
    let (points, queries) = (golden.positions("database"), golden.positions("query"));
    let points: Vec<&[[f32; 2]]> = points.iter().map(Vec::as_slice).collect();
    let queries: Vec<&[[f32; 2]]> = queries.iter().map(Vec::as_slice).collect();
    let shepard = ShepardInterpolation::new(&points, &queries, 4, 3.0, (DType::F32, CPU)).unwrap();
    let out = shepard.interpolate(golden.get("feat")).unwrap();
    assert_close("out", &out, golden.get("out"), 1e-5, 1e-5);
}

/// The reference scales both images by the largest position of the batch, we scale each by its own: a last token at the
/// batch's largest x and y makes them the same.
#[test]
fn sine_embedding() {
    let golden = Golden::open("sine_position_embedding");
    let mut positions = golden.positions("pos");
    let tokens = positions[0].len();
    let max = |axis: usize| positions.iter().flatten().map(|p| p[axis]).fold(0.0, f32::max);
    let largest = [max(0), max(1)];
    positions.iter_mut().for_each(|image| image.push(largest));
    let images: Vec<&[[f32; 2]]> = positions.iter().map(Vec::as_slice).collect();
    let out = sine_position_embedding(&images, 64, (DType::F32, CPU)).unwrap();
    let out = out.narrow(1, 0, tokens).unwrap();
    assert_close("out", &out, golden.get("out"), 1e-5, 1e-5);
}
