//! The operators, as users call them, against golden files of the published reference implementation (`fixtures/ops`), made in float32.
//!
//! Tolerances: outputs within 1e-5 absolute + 1e-5 relative, a few units in the last place of sums of tens of terms of
//! order one; gradients within 1e-4 of the largest entry of their tensor, as they sum over all queries of a key in an
//! order that differs from the reference's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::path::Path;

use aff_geometry::Canvas;
use aff_ops::{
    AttentionGeometry, CanvasLookup, ClusterAttention, ClusterNeighborhood, DeformableGather, MergeGeometry,
    NeighborLists, NeighborhoodMerge, Offset, PaddingSlots, Positions, ShepardInterpolation,
    sine_position_embedding,
};
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

/// Logit of a token that is none of a query's neighbours: its weight vanishes in f32.
const FAR_BELOW: f64 = -1e4;

/// The file has a bias for every slot, which the operator has not: it computes one from positions. So each head gets a channel more
/// for every token: the key has 1 in the token's own channel, the query has its bias to that token there. Values and the output
/// have 0 in these channels, the position weights are 0, and every query sees all tokens.
fn attention_golden(name: &str) {
    let golden = Golden::open(name);
    let vars = ["q", "k", "v", "bias", "blank_k", "blank_v"].map(|name| (name, golden.var(name)));
    let [q, k, v, bias, blank_k, blank_v] = vars.each_ref().map(|(_, var)| var.as_tensor());
    let (batch, heads, tokens, width) = q.dims4().unwrap();
    let wide = width + tokens;

    // Brings the biases of the slots to the tokens, [B,H,Q,M] -> [B,H,Q,N], by a 1 where a slot holds a token.
    let slots = bias.dim(3).unwrap();
    let one_hot = |token: u32| (0..tokens as u32).map(move |other| if other == token { 1_f32 } else { 0.0 });
    let held: Vec<f32> = golden.indices().into_iter().flat_map(one_hot).collect();
    let held = Tensor::from_vec(held, (batch, 1, tokens, slots, tokens), CPU).unwrap();
    // A masked slot is one whose logit is lowered by 100.
    let biased = match golden.tensors.get("neighbor_mask") {
        Some(mask) => {
            let masked = mask.to_dtype(DType::F32).unwrap().affine(100.0, -100.0).unwrap();
            bias.broadcast_add(&masked.unsqueeze(1).unwrap()).unwrap()
        }
        None => bias.clone(),
    };
    let unseen = held.sum(3).unwrap().affine(-FAR_BELOW, FAR_BELOW).unwrap();
    let to_tokens = biased.unsqueeze(4).unwrap().broadcast_mul(&held).unwrap().sum(3).unwrap();
    let to_tokens = to_tokens.broadcast_add(&unseen).unwrap();

    // The operator scales queries by the square root of the width it sees.
    let scale = (wide as f64).sqrt();
    let q = (q * (scale * (width as f64).powf(-0.5))).unwrap();
    let query = Tensor::cat(&[&q, &(to_tokens * scale).unwrap()], 3).unwrap();
    let own = Tensor::eye(tokens, DType::F32, CPU).unwrap();
    let own = own.broadcast_as((batch, heads, tokens, tokens)).unwrap();
    let key = Tensor::cat(&[k, &own], 3).unwrap();
    let none = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU).unwrap();
    let value = Tensor::cat(&[v, &none(&[batch, heads, tokens, tokens])], 3).unwrap();
    let blank = |x: &Tensor| Tensor::cat(&[x, &none(&[heads, tokens])], 1).unwrap().flatten_all().unwrap();
    let by_token = |x: &Tensor| x.transpose(1, 2).unwrap().contiguous().unwrap();
    let key_value = Tensor::stack(&[by_token(&key), by_token(&value)], 3).unwrap();
    let inputs = ClusterAttention {
        query: &by_token(&query).reshape((batch, tokens, heads * wide)).unwrap(),
        key_value: &key_value.reshape((batch, tokens, 2 * heads * wide)).unwrap(),
        position_weight: &none(&[heads, 5]),
        position_bias: &none(&[heads]),
        blank_key: &blank(blank_k),
        blank_value: &blank(blank_v),
    };
    let canvas = Canvas::new(tokens as u32, 1).unwrap();
    let geometry = AttentionGeometry {
        positions: &Positions::full_grid(batch, canvas),
        neighborhood: &ClusterNeighborhood::all_keys(batch, tokens, tokens).unwrap(),
        padding: PaddingSlots::LeftOut,
    };
    let out = aff_ops::cluster_attention(&inputs, &geometry).unwrap();
    let out = out.reshape((batch, tokens, heads, wide)).unwrap().narrow(3, 0, width).unwrap();
    let out = out.transpose(1, 2).unwrap();
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

/// The file has the weights given, where the operator computes them from positions and scores. So each query becomes an image of its
/// own whose keys are its neighbours and whose scores are the weights of one weight channel, which the norm's bias singles out.
#[test]
fn neighborhood_merge() {
    /// What GELU leaves as it is.
    const LARGE: f64 = 16.0;
    let golden = Golden::open("neighborhood_merge");
    let (feat, weights) = (golden.var("feat"), golden.var("weights"));
    let (batch, keys, channels) = feat.dims3().unwrap();
    let (_, queries, slots, width) = weights.dims4().unwrap();
    let images = batch * queries;

    let first_key = |slot: usize| (slot / (queries * slots) * keys) as u32;
    let rows = golden.indices().into_iter().enumerate().map(|(slot, key)| first_key(slot) + key);
    let rows = Tensor::from_iter(rows, CPU).unwrap();
    let neighbors = feat.reshape((batch * keys, channels)).unwrap().index_select(&rows, 0).unwrap();
    let neighbors = neighbors.reshape((images, slots, channels)).unwrap();
    let positions = Positions::full_grid(images, Canvas::new(slots as u32, 1).unwrap());
    let first: Vec<u32> = vec![0; images];
    let geometry = MergeGeometry {
        queries: &positions.select(&first).unwrap(),
        keys: &positions,
        neighborhood: &ClusterNeighborhood::all_keys(images, 1, slots).unwrap().into(),
        offset: Offset::ToNeighbor,
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU).unwrap();
    let mut out = zeros(&[images, 1, width * channels]);
    for channel in 0..width {
        let score = weights.narrow(3, channel, 1).unwrap().reshape((images, slots)).unwrap();
        let bias: Vec<f32> = (0..width).map(|w| if w == channel { LARGE as f32 } else { 0.0 }).collect();
        let inputs = NeighborhoodMerge {
            feat: &neighbors,
            score: Some(&(score * LARGE.recip()).unwrap()),
            linear_weight: &zeros(&[width, 5]),
            linear_bias: &zeros(&[width]),
            norm_weight: &zeros(&[width]),
            norm_bias: &Tensor::new(bias, CPU).unwrap(),
        };
        out = (out + aff_ops::neighborhood_merge(&inputs, &geometry).unwrap()).unwrap();
    }
    let out = out.reshape((batch, queries, width, channels)).unwrap();
    golden.check(&out, &[("feat", &feat), ("weights", &weights)]);
}

#[test]
fn weighted_gather() {
    let golden = Golden::open("weighted_gather");
    let (feat, weights) = (golden.var("feat"), golden.var("weights"));
    let (batch, keys, _) = feat.dims3().unwrap();
    let neighbors = NeighborLists::from_indices(batch, keys, 4, golden.indices()).unwrap();
    let out = aff_ops::weighted_gather(&feat, &weights, &neighbors).unwrap();
    golden.check(&out, &[("feat", &feat), ("weights", &weights)]);
}

/// The file has the heads of an image as images of their own and the interpolation weights given. A location on a token reads just
/// that token where one nearest is looked up, so that each neighbour of a sampled location becomes a location of its own.
#[test]
fn deformable_gather() {
    let golden = Golden::open("deformable_gather");
    let (value, attention) = (golden.var("value"), golden.var("attention"));
    let interpolation = golden.var("interp_weights");
    let (batch, queries, points, neighbors) = interpolation.dims4().unwrap();
    let (_, tokens, _) = value.dims3().unwrap();
    let slots = points * neighbors;
    let weights = interpolation
        .broadcast_mul(&attention.unsqueeze(3).unwrap())
        .unwrap()
        .reshape((batch, queries, 1, 1, slots))
        .unwrap();
    let level =
        CanvasLookup::new(&Positions::full_grid(batch, Canvas::new(tokens as u32, 1).unwrap()), 1).unwrap();
    let locations: Vec<f32> = golden.indices().into_iter().flat_map(|token| [token as f32, 0.0]).collect();
    let inputs = DeformableGather {
        value: &value,
        locations: &Tensor::from_vec(locations, (batch, queries, 1, 1, slots, 2), CPU).unwrap(),
        weights: &weights,
        power: &Tensor::new(&[3_f32], CPU).unwrap(),
    };
    let out = aff_ops::deformable_gather(&inputs, &[level]).unwrap();
    golden.check(&out, &[("value", &value), ("attention", &attention), ("interp_weights", &interpolation)]);
}

#[test]
fn shepard_upsample() {
    let golden = Golden::open("shepard_upsample");
    let (points, queries) = (golden.positions("database"), golden.positions("query"));
    let points: Vec<&[[f32; 2]]> = points.iter().map(Vec::as_slice).collect();
    let queries: Vec<&[[f32; 2]]> = queries.iter().map(Vec::as_slice).collect();
    let shepard = ShepardInterpolation::new(&points, &queries, 4, 3.0, golden.get("feat")).unwrap();
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
    let out = sine_position_embedding(&images, 64, golden.get("out")).unwrap();
    let out = out.narrow(1, 0, tokens).unwrap();
    assert_close("out", &out, golden.get("out"), 1e-5, 1e-5);
}
