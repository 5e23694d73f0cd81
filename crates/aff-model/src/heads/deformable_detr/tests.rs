//! The head against `fixtures/detect-nano`: PyTorch in float64, three variants (see its README).

use std::collections::BTreeMap;

use aff_geometry::Canvas;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};

use super::{DeformableDetrHead, name_in_detector};
use crate::boxes::overlap;
use crate::config::{
    BackboneConfig, DeformableDetrConfig, Mask2FormerConfig, ModelConfig, SegmentationConfig,
    SegmentationTask,
};
use crate::golden::{Golden, builder};
use crate::heads::HeadSizes;
use crate::tokens::{TokenLayout, Tokens};
use crate::{Network, Phase};

const QUERIES: usize = 12;
const CLASSES: usize = 5;
/// Of values; their magnitudes are a few units.
const TOLERANCE: f32 = 1e-4;
/// Of gradients, in units of their norm.
const GRADIENT_TOLERANCE: f32 = 1e-3;

fn config(suffix: &str) -> DeformableDetrConfig {
    DeformableDetrConfig {
        hidden_dim: 32,
        num_attention_heads: 4,
        encoder_layers: 2,
        encoder_feedforward_dim: 64,
        decoder_layers: 3,
        decoder_feedforward_dim: 64,
        with_box_refine: suffix != "-plain",
        two_stage: suffix == "-two-stage",
        ..DeformableDetrConfig::default()
    }
}

/// res5, res4, res3 of the golden file, with the variables of their features by name.
fn levels(golden: &Golden) -> ([Tokens; 3], Vec<(String, Var)>) {
    let canvas = Canvas::new(21, 17).unwrap();
    let mut vars = Vec::new();
    let levels = [5, 4, 3].map(|level| {
        let name = format!("res{level}.feat");
        let layout = TokenLayout::raster(golden.positions(&format!("res{level}.pos"), canvas)).unwrap();
        let var = golden.var(&name);
        let tokens = Tokens::new(var.as_tensor().clone(), layout).unwrap();
        vars.push((name, var));
        tokens
    });
    (levels, vars)
}

fn compare(suffix: &str) {
    let golden = Golden::read(&format!("detect-nano/expected{suffix}.safetensors"));
    let model = Golden::read(&format!("detect-nano/model{suffix}.safetensors"));
    let parameters = model.vars("");
    let sizes = HeadSizes { embed_dims: &[1, 24, 40, 56], queries: QUERIES, classes: CLASSES };
    let head = DeformableDetrHead::new(&config(suffix), sizes, &builder(&parameters)).unwrap();
    let (levels, inputs) = levels(&golden);

    let trace = head.trace([&levels[0], &levels[1], &levels[2]]).unwrap();
    for (level, memory) in trace.memory.iter().enumerate() {
        golden.assert_close(&format!("memory{level}"), memory, TOLERANCE);
    }
    golden.assert_close("reference", &trace.reference, TOLERANCE);
    assert_eq!((trace.hidden.len(), trace.predictions.len()), (3, 3));

    let mut outputs = Vec::new();
    for (layer, (hidden, prediction)) in trace.hidden.iter().zip(&trace.predictions).enumerate() {
        golden.assert_close(&format!("hidden{layer}"), hidden, TOLERANCE);
        outputs.push((layer.to_string(), prediction));
    }
    if let Some(proposals) = &trace.proposals {
        let expected = golden.get("topk").to_vec2::<i32>().unwrap();
        let narrow = |image: &Vec<u32>| image.iter().map(|&token| token as i32).collect();
        let chosen: Vec<Vec<i32>> = proposals.chosen.iter().map(narrow).collect();
        assert_eq!(chosen, expected);
        outputs.push(("_enc".to_owned(), &proposals.prediction));
    }
    assert_eq!(outputs.len() == 4, suffix == "-two-stage");
    let mut loss: Option<Tensor> = None;
    for (layer, prediction) in outputs {
        for (kind, tensor) in [("logits", &prediction.class_logits), ("boxes", &prediction.boxes)] {
            let name = format!("pred_{kind}{layer}");
            golden.assert_close(&name, tensor, TOLERANCE);
            let product = (tensor * golden.get(&format!("grad_{name}"))).unwrap().sum_all().unwrap();
            loss = Some(loss.map_or(product.clone(), |loss| (loss + product).unwrap()));
        }
    }
    let gradients = loss.unwrap().backward().unwrap();
    for (name, var) in parameters.iter().chain(&inputs) {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient for {name}"));
        golden.assert_gradient(name, gradient, GRADIENT_TOLERANCE);
    }
    assert_eq!(parameters.len() + inputs.len(), golden.names("grad.").len());
}

#[test]
fn refined() {
    compare("");
}

#[test]
fn plain() {
    compare("-plain");
}

#[test]
fn two_stages() {
    compare("-two-stage");
}

#[test]
fn overlaps_of_boxes() {
    let golden = Golden::read("detect-nano/losses.safetensors");
    let rows = |name: &str| golden.get(name).to_vec2::<f32>().unwrap();
    let values = |name: &str| golden.get(name).to_vec1::<f32>().unwrap();
    let (a, b) = (rows("pairs.a"), rows("pairs.b"));
    let (iou, generalized) = (values("pairs.iou"), values("pairs.giou"));
    let corners = |row: &[f32]| -> [f64; 4] { [0, 1, 2, 3].map(|i| f64::from(row[i])) };
    assert!(a.len() > 150);
    for (pair, (a, b)) in a.iter().zip(&b).enumerate() {
        let found = overlap(corners(a), corners(b));
        assert!((found.iou - f64::from(iou[pair])).abs() < 1e-5, "pair {pair}: {found:?} {}", iou[pair]);
        let difference = (found.generalized_iou - f64::from(generalized[pair])).abs();
        assert!(difference < 1e-5, "pair {pair}: {found:?} {}", generalized[pair]);
        let back = overlap(corners(b), corners(a));
        assert!((back.generalized_iou - found.generalized_iou).abs() < 1e-12);
        assert!((-1.0..=1.0).contains(&found.generalized_iou) && (0.0..=1.0).contains(&found.iou));
        let scaled = overlap(corners(a).map(|c| 4.0 * c), corners(b).map(|c| 4.0 * c));
        assert!((scaled.generalized_iou - found.generalized_iou).abs() < 1e-9);
    }
}

/// Section 13 of the method: class biases of -log(99), boxes that begin at their references.
#[test]
fn first_values_are_named_as_the_parameters_are() {
    let labels = || ["a", "b"].map(str::to_owned);
    for (suffix, heads) in [("", 3), ("-plain", 1), ("-two-stage", 4)] {
        let backbone = BackboneConfig::new([8; 4], [1; 4], [1; 4]);
        let config = ModelConfig::detector(backbone, config(suffix), QUERIES, labels());
        let values = Network::initial_values(&config).unwrap();
        let shapes = Network::expected_tensors(&config).unwrap();
        assert_eq!(values.len(), 3 * heads);
        for (name, value) in &values {
            assert_eq!(value.dims(), shapes[name], "{name}");
        }
        let numbers = |name: &str| values[name].to_vec1::<f32>().unwrap();
        assert!(numbers("class_embed.0.bias").iter().all(|bias| (bias + 99f32.ln()).abs() < 1e-5));
        let size = if suffix == "-two-stage" { 0.0 } else { -2.0 };
        assert_eq!(numbers("bbox_embed.0.layers.2.bias"), [0.0, 0.0, size, size]);
        if heads > 1 {
            assert_eq!(numbers("bbox_embed.1.layers.2.bias"), [0.0; 4]);
        }
    }
}

/// An image with fewer tokens than queries has as many predictions as tokens in two stages.
#[test]
fn small_images_have_fewer_proposals_than_queries() {
    let backbone = BackboneConfig::new([8; 4], [1; 4], [1; 4]);
    for (suffix, expected) in [("", QUERIES), ("-two-stage", 3)] {
        let config =
            ModelConfig::detector(backbone.clone(), config(suffix), QUERIES, ["a", "b"].map(str::to_owned));
        let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
        let network = Network::new(&config, &vb).unwrap();
        let image = Tensor::randn(0f32, 1.0, (1, 3, 4, 4), &Device::Cpu).unwrap();
        let output = network.forward(&image, Phase::Training { seed: 1 }).unwrap().into_boxes().unwrap();
        assert_eq!(output.prediction.boxes.dims(), [1, expected, 4]);
        assert_eq!((output.auxiliary.len(), output.proposals.is_some()), (2, suffix == "-two-stage"));
    }
}

#[test]
fn a_detector_can_begin_from_the_encoder_of_mask2former() {
    let backbone = BackboneConfig::new([8; 4], [1; 4], [1; 4]);
    let labels = || ["a", "b"].map(str::to_owned);
    let segmentation = SegmentationConfig::new(SegmentationTask::Instance);
    let segmenter =
        ModelConfig::segmenter(backbone.clone(), Mask2FormerConfig::default(), 7, segmentation, labels());
    let detector = ModelConfig::detector(backbone, DeformableDetrConfig::default(), 7, labels());
    let detector = Network::expected_tensors(&detector).unwrap();
    let given: BTreeMap<String, Vec<usize>> = Network::expected_tensors(&segmenter)
        .unwrap()
        .into_iter()
        .filter_map(|(name, shape)| Some((name_in_detector(&name)?.to_owned(), shape)))
        .collect();
    for (name, shape) in &given {
        assert_eq!(detector.get(name), Some(shape), "{name}");
    }
    let own = [
        "transformer.decoder.",
        "transformer.reference_points.",
        "query_embed.",
        "class_embed.",
        "bbox_embed.",
    ];
    for name in detector.keys().filter(|name| !given.contains_key(*name)) {
        assert!(own.iter().any(|own| name.starts_with(own)), "{name} is not given");
    }
}
