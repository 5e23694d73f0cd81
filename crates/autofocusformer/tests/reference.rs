//! The whole network against the published implementation, from the original checkpoint files.
//!
//! `fixtures/classify-nano`, `fixtures/segment-nano` and `fixtures/segment-ragged` hold small random models and what the
//! reference made of a random input in float32. Positions must be equal; features, logits and masks within 1e-4, some
//! hundred units in the last place after tens of layers; gradients within 1e-3 of their tensor's norm, as they sum over
//! thousands of tokens in another order.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aff_model::config::Architecture;
use aff_model::{Auxiliary, Head, Network, Phase};
use aff_weights::{ConfigSource, ConvertOptions, ModelFolder, Overwrite, convert, read_tensor_file};
use autofocusformer::{Device, Model};
use candle_core::{DType, Tensor, Var};
use candle_nn::VarBuilder;

const TOLERANCE: f32 = 1e-4;
const GRADIENT_TOLERANCE: f32 = 1e-3;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

fn expected(model: &str) -> BTreeMap<String, Tensor> {
    read_tensor_file(&fixture(model).join("expected.safetensors"), &Device::Cpu).unwrap()
}

/// Converts a checkpoint into a temporary folder.
fn converted(checkpoint: &str, config: ConfigSource) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let options = ConvertOptions {
        checkpoint: fixture(checkpoint),
        backbone: None,
        output: folder.path().join("model"),
        config,
        overwrite: Overwrite::Refuse,
        verify: true,
    };
    convert(&options).unwrap();
    folder
}

fn segment_nano() -> ConfigSource {
    ConfigSource::Yaml(fixture("segment-nano/model.yaml"))
}

fn assert_close(name: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
    let largest = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(largest <= TOLERANCE, "{name}: differs by {largest}");
}

fn assert_equal_positions(name: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<i32>().unwrap();
    assert_eq!(flat(found), flat(expected), "{name}");
}

/// Compares every feature with its golden counterpart: positions exactly, all else closely.
fn assert_features(model: &str, folder: &Path, count: usize) {
    let golden = expected(model);
    let features = Model::load(folder, &Device::Cpu).unwrap().features(&golden["pixel_values"]).unwrap();
    assert_eq!(features.len(), count);
    for (name, found) in &features {
        if name.ends_with(".pos") {
            assert_equal_positions(name, found, &golden[name]);
        } else {
            assert_close(name, found, &golden[name]);
        }
    }
}

#[test]
fn classifier_outputs() {
    let folder = converted("classify-nano/checkpoint.pth", ConfigSource::Checkpoint);
    assert_features("classify-nano", &folder.path().join("model"), 1 + 4 * 2);
}

#[test]
fn segmenter_outputs() {
    let folder = converted("segment-nano/model_final.pth", segment_nano());
    assert_features("segment-nano", &folder.path().join("model"), 2 + 4 * 2);
}

#[test]
fn segmenter_outputs_from_the_detectron2_pickle() {
    let folder = converted("segment-nano/model_final.pkl", segment_nano());
    assert_features("segment-nano", &folder.path().join("model"), 2 + 4 * 2);
}

/// A constant Shepard power, and clusters that do not divide the tokens: the slots that the last one leaves empty matter.
///
/// The published code scales the sine embeddings of a level by the largest position in the batch, this project by that of each image.
/// The tokens of `res5` reach as far as the batch does in the first image only; class and mask logits can be equal there alone.
#[test]
fn segmenter_outputs_at_a_ragged_size() {
    let config = ConfigSource::Yaml(fixture("segment-ragged/model.yaml"));
    let folder = converted("segment-ragged/model_final.pth", config);
    let golden = expected("segment-ragged");
    let model = Model::load(folder.path().join("model"), &Device::Cpu).unwrap();
    let features = model.features(&golden["pixel_values"]).unwrap();

    let farthest = |level: &str| golden[level].max(1).unwrap().to_vec2::<i32>().unwrap();
    for level in ["res3.pos", "res4.pos"] {
        assert_eq!(farthest(level)[0], farthest(level)[1], "{level}");
    }
    assert_eq!(farthest("res5.pos"), [[36, 32], [32, 32]]);
    let first_image = |x: &Tensor| x.narrow(0, 0, 1).unwrap();
    for (name, found) in &features {
        match name.as_str() {
            "pred_logits" | "pred_masks" => {
                assert_close(name, &first_image(found), &first_image(&golden[name]));
            }
            _ if name.ends_with(".pos") => assert_equal_positions(name, found, &golden[name]),
            _ => assert_close(name, found, &golden[name]),
        }
    }
    assert_eq!(features.len(), 2 + 4 * 2);
}

#[test]
fn segmenter_inner_results() {
    let folder = converted("segment-nano/model_final.pth", segment_nano());
    let folder = ModelFolder::open(folder.path().join("model")).unwrap();
    let config = folder.config();
    let vb = folder.checked_var_builder(DType::F32, &Device::Cpu, |vb| Network::new(config, &vb)).unwrap();
    let segmenter = Network::new(config, &vb).unwrap();
    let golden = expected("segment-nano");

    let features = segmenter.features(&golden["pixel_values"], Phase::Inference).unwrap();
    let Head::Mask2Former(head) = segmenter.head() else { panic!("not a Mask2Former head") };
    let decoded = head.pixel_decoder().forward(features.levels.as_ref().unwrap()).unwrap();
    for (index, level) in decoded.levels.iter().enumerate() {
        let name = format!("multi_scale{index}.feat");
        assert_close(&name, &level.tokens.to_raster().unwrap().feat, &golden[&name]);
    }
    assert_close("mask_features", &decoded.mask_features.feat, &golden["mask_features"]);

    let output = segmenter.predict(&features, Auxiliary::Keep).unwrap().into_masks().unwrap();
    assert_eq!(output.auxiliary.len(), 3);
    assert_close("aux0.pred_logits", &output.auxiliary[0].class_logits, &golden["aux0.pred_logits"]);
    assert_close("aux0.pred_masks", &output.auxiliary[0].mask_logits, &golden["aux0.pred_masks"]);
}

/// Gradients of `loss(network)` for every parameter against the golden ones.
fn assert_gradients(
    folder: &Path,
    golden: &BTreeMap<String, Tensor>,
    loss: impl Fn(&VarBuilder<'_>) -> Tensor,
) {
    let tensors = ModelFolder::open(folder).unwrap().tensors(DType::F32, &Device::Cpu).unwrap();
    let variables: BTreeMap<_, _> =
        tensors.into_iter().map(|(name, tensor)| (name, Var::from_tensor(&tensor).unwrap())).collect();
    let tensors = variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let gradients = loss(&VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).backward().unwrap();

    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f32>().unwrap();
    let parameters = variables.iter().filter(|(name, _)| !name.contains("running_"));
    let mut compared = 0;
    for (name, var) in parameters {
        let expected = &golden[&format!("grad.{name}")];
        let found = gradients.get(var).unwrap_or_else(|| panic!("no gradient for {name}"));
        let relative = norm(&(found - expected).unwrap()) / norm(expected);
        assert!(relative <= GRADIENT_TOLERANCE, "{name}: gradient differs by {relative} of its norm");
        compared += 1;
    }
    assert_eq!(compared, golden.keys().filter(|name| name.starts_with("grad.")).count());
}

fn dot(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).unwrap().sum_all().unwrap()
}

#[test]
fn classifier_gradients() {
    let folder = converted("classify-nano/checkpoint.pth", ConfigSource::Checkpoint);
    let folder = folder.path().join("model");
    let config = ModelFolder::open(&folder).unwrap().config().clone();
    assert_eq!(config.architecture(), Architecture::ImageClassification);
    let golden = expected("classify-nano");
    assert_gradients(&folder, &golden, |vb| {
        let output =
            Network::new(&config, vb).unwrap().forward(&golden["pixel_values"], Phase::Inference).unwrap();
        dot(&output.into_classes().unwrap(), &golden["grad_logits"])
    });
}

#[test]
fn segmenter_gradients() {
    let folder = converted("segment-nano/model_final.pth", segment_nano());
    let folder = folder.path().join("model");
    let config = ModelFolder::open(&folder).unwrap().config().clone();
    let golden = expected("segment-nano");
    assert_gradients(&folder, &golden, |vb| {
        let segmenter = Network::new(&config, vb).unwrap();
        let output = segmenter.forward(&golden["pixel_values"], Phase::Inference).unwrap();
        let output = output.into_masks().unwrap().prediction;
        let classes = dot(&output.class_logits, &golden["grad_pred_logits"]);
        (classes + dot(&output.mask_logits, &golden["grad_pred_masks"])).unwrap()
    });
}
