//! The losses against PyTorch (`fixtures/detect-nano`), and their properties.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Var};
use proptest::prelude::*;

use super::*;

const TOLERANCE: f64 = 1e-5;

fn golden() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/detect-nano/losses.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(name: &str, found: &Tensor, expected: &Tensor) {
    let (found, expected) = (values(found), values(expected));
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < TOLERANCE, "{name}: {found} {expected}");
    }
}

fn targets(golden: &HashMap<String, Tensor>, case: &str, batch: usize) -> Vec<ImageBoxes> {
    let of_image = |image: usize| {
        let labels = values(&golden[&format!("{case}.labels.{image}")]);
        let boxes = values(&golden[&format!("{case}.boxes.{image}")]);
        let boxes = boxes.chunks_exact(4).map(|side| [side[0], side[1], side[2], side[3]]).collect();
        ImageBoxes::new(labels.into_iter().map(|label| label as u32).collect(), boxes).unwrap()
    };
    (0..batch).map(of_image).collect()
}

/// A layer's prediction as variables.
fn variables(golden: &HashMap<String, Tensor>, case: &str, layer: &str) -> Option<[Var; 2]> {
    let var = |kind: &str| Var::from_tensor(golden.get(&format!("{case}.pred_{kind}{layer}"))?).ok();
    Some([var("logits")?, var("boxes")?])
}

fn prediction([logits, boxes]: &[Var; 2]) -> BoxPrediction {
    BoxPrediction { class_logits: logits.as_tensor().clone(), boxes: boxes.as_tensor().clone() }
}

#[test]
fn matching_losses_and_gradients_are_those_of_pytorch() {
    let golden = golden();
    let criterion = BoxCriterion::new(LossOptions::default());
    for case in ["usual", "one-empty", "all-empty", "crowded", "two-stage"] {
        let layers: Vec<(String, [Var; 2])> = (0..)
            .map_while(|layer: usize| {
                Some((layer.to_string(), variables(&golden, case, &layer.to_string())?))
            })
            .collect();
        assert_eq!(layers.len(), 3, "{case}");
        let proposals = variables(&golden, case, "_enc");
        assert_eq!(proposals.is_some(), case == "two-stage");
        let targets = targets(&golden, case, layers[0].1[0].dims()[0]);
        let count = targets.iter().map(|image| image.boxes().len()).sum::<usize>().max(1) as f64;
        let one_class: Vec<_> = targets.iter().map(ImageBoxes::of_one_class).collect();

        let enc = proposals.iter().map(|vars| ("_enc".to_owned(), vars.clone()));
        for (layer, vars) in layers.iter().cloned().chain(enc) {
            let targets = if layer == "_enc" { &one_class } else { &targets };
            let found = criterion.layer(&prediction(&vars), targets, count).unwrap();
            for (kind, loss) in [("ce", &found.class), ("bbox", &found.l1), ("giou", &found.giou)] {
                let name = format!("{case}.loss_{kind}{layer}");
                assert_close(&name, loss, &golden[&name]);
            }
            let costs = criterion.costs(&prediction(&vars), targets).unwrap();
            for (image, costs) in costs.into_iter().enumerate() {
                let (name, objects) = (format!("{case}.cost{layer}.{image}"), targets[image].boxes().len());
                let queries = vars[0].dims()[1];
                let costs = Tensor::from_vec(costs, (objects, queries), &Device::Cpu).unwrap();
                assert_close(&name, &costs.t().unwrap(), &golden[&name]);
                let pairs = values(&golden[&format!("{case}.match{layer}.{image}")]);
                let mut expected: Vec<_> =
                    pairs.chunks_exact(2).map(|pair| (pair[1] as usize, pair[0] as usize)).collect();
                expected.sort_unstable();
                let matches: Vec<_> =
                    found.matches[image].iter().map(|matched| (matched.target, matched.query)).collect();
                assert_eq!(matches, expected, "{name}");
            }
        }

        let predictions = layers.iter().map(|(_, vars)| prediction(vars)).collect();
        let output = BoxOutput::new(predictions, proposals.as_ref().map(prediction)).unwrap();
        let total = criterion.losses(&output, &targets, count).unwrap().total().unwrap();
        assert_close(&format!("{case}.loss"), &total, &golden[&format!("{case}.loss")]);
        let gradients = total.backward().unwrap();
        let enc = proposals.map(|vars| ("_enc".to_owned(), vars));
        for (layer, vars) in layers.into_iter().chain(enc) {
            for (kind, var) in ["logits", "boxes"].into_iter().zip(&vars) {
                let name = format!("{case}.grad.pred_{kind}{layer}");
                assert_close(&name, gradients.get(var).unwrap(), &golden[&name]);
            }
        }
    }
}

/// Boxes, some of them without width or height, on a coarse grid so that edges meet.
fn bbox() -> impl Strategy<Value = [f64; 4]> {
    [0..9i32, 0..9i32, 0..5i32, 0..5i32].prop_map(|sides| sides.map(|side| f64::from(side) / 8.0))
}

proptest! {
    #[test]
    fn generalised_overlaps_are_bounded_symmetric_and_the_same_at_any_scale(
        a in bbox(), b in bbox(), scale in 0.01f64..100.0,
    ) {
        let found = overlap(corners(a), corners(b));
        prop_assert!((0.0..=1.0).contains(&found.iou) && found.generalized_iou <= found.iou);
        prop_assert!((-1.0..=1.0).contains(&found.generalized_iou));
        prop_assert_eq!(found, overlap(corners(b), corners(a)));
        let scaled = overlap(corners(a).map(|c| scale * c), corners(b).map(|c| scale * c));
        prop_assert!((scaled.generalized_iou - found.generalized_iou).abs() < 1e-9);
        let same = overlap(corners(a), corners(a)).generalized_iou;
        prop_assert_eq!(same, if a[2] * a[3] > 0.0 { 1.0 } else { 0.0 });
        // The one with gradients is the same number.
        let row = |bbox: [f64; 4]| Tensor::new(&[bbox], &Device::Cpu).unwrap();
        let with_gradients = values(&generalized_iou(&row(a), &row(b)).unwrap())[0];
        prop_assert!((with_gradients - found.generalized_iou).abs() < 1e-12);
    }

    /// Whatever is predicted and wanted, losses and gradients are finite.
    #[test]
    fn degenerate_boxes_have_finite_losses_and_gradients(
        found in proptest::collection::vec(bbox(), 3), wanted in proptest::collection::vec(bbox(), 0..5),
        logits in proptest::collection::vec(-60f32..60.0, 6),
    ) {
        let boxes = Var::new(&[[found[0], found[1], found[2]]], &Device::Cpu).unwrap();
        let logits = Var::from_vec(logits, (1, 3, 2), &Device::Cpu).unwrap();
        let classes = (0..wanted.len() as u32).map(|object| object % 2).collect();
        let count = wanted.len().max(1) as f64;
        let target = ImageBoxes::new(classes, wanted).unwrap();
        let prediction = prediction(&[logits.clone(), boxes.clone()]);
        let output = BoxOutput::new(vec![prediction], None).unwrap();
        let loss = BoxCriterion::new(LossOptions::default()).losses(&output, &[target], count).unwrap();
        let total = loss.total().unwrap();
        prop_assert!(values(&total)[0].is_finite() && values(&total)[0] >= 0.0);
        let gradients = total.backward().unwrap();
        for var in [&logits, &boxes] {
            prop_assert!(values(gradients.get(var).unwrap()).iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn more_objects_than_queries_match_as_many_as_there_are() {
    let prediction = BoxPrediction {
        class_logits: Tensor::zeros((1, 2, 1), DType::F32, &Device::Cpu).unwrap(),
        boxes: Tensor::new(&[[[0.2f32, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]]], &Device::Cpu).unwrap(),
    };
    let boxes = vec![[0.8, 0.8, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1]];
    let target = ImageBoxes::new(vec![0; 3], boxes).unwrap();
    let criterion = BoxCriterion::new(LossOptions::default());
    let found = criterion.layer(&prediction, &[target], 3.0).unwrap();
    assert_eq!(found.matches, [[Match { query: 1, target: 0 }, Match { query: 0, target: 2 }]]);
    assert!(values(&found.l1)[0] < 1e-6);
}

#[test]
fn targets_that_no_loss_can_have_are_refused_by_their_place() {
    let fine = [0.5, 0.5, 0.0, 0.2];
    for wrong in [[f64::NAN, 0.5, 0.1, 0.1], [0.5, f64::INFINITY, 0.1, 0.1], [0.5, 0.5, -0.1, 0.1]] {
        let error = ImageBoxes::new(vec![0, 0], vec![fine, wrong]).unwrap_err().to_string();
        assert!(error.contains("(number 1); expected finite numbers"), "{error}");
    }
    assert!(ImageBoxes::new(vec![0], vec![]).is_err());
    let prediction = BoxPrediction {
        class_logits: Tensor::zeros((1, 2, 3), DType::F32, &Device::Cpu).unwrap(),
        boxes: Tensor::zeros((1, 2, 4), DType::F32, &Device::Cpu).unwrap(),
    };
    let criterion = BoxCriterion::new(LossOptions::default());
    let target = ImageBoxes::new(vec![3], vec![fine]).unwrap();
    let error = criterion.layer(&prediction, std::slice::from_ref(&target), 1.0).unwrap_err().to_string();
    assert!(error.contains("class 3; the network knows 3"), "{error}");
    assert!(criterion.layer(&prediction, &[target.clone(), target], 1.0).is_err());
}
