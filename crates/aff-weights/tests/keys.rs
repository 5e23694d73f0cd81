//! Names and shapes of every parameter of the published models, against `fixtures/keys`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use aff_model::Network;
use aff_model::config::ModelConfig;
use aff_weights::{Preset, TensorShapes, published_models};

fn shapes_of(config: &ModelConfig) -> TensorShapes {
    Network::expected_tensors(config).unwrap()
}

/// What the published checkpoint of a model has, without what no computation reads.
fn published(file: &str) -> TensorShapes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/keys").join(file);
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let unused =
        |name: &str| name.ends_with("num_batches_tracked") || name.ends_with("criterion.empty_weight");
    shapes.into_iter().filter(|(name, _)| !unused(name)).collect()
}

fn model(name: &str) -> Preset {
    published_models()
        .into_iter()
        .find(|preset| preset.name == name)
        .unwrap_or_else(|| panic!("no preset {name}"))
}

#[test]
fn classifiers() {
    let same_keys = [
        ("aff-mini", "aff-mini"),
        ("aff-mini-1-5", "aff-mini"),
        ("aff-tiny", "aff-tiny"),
        ("aff-tiny-1-5", "aff-tiny"),
        ("aff-small", "aff-small"),
        ("aff-small-1-5", "aff-small"),
        ("aff-base-384", "aff-base"),
    ];
    for (name, file) in same_keys {
        assert_eq!(shapes_of(&model(name).config), published(&format!("{file}.classifier.json")), "{name}");
    }
}

#[test]
fn the_classifier_of_22k_differs_in_its_head_alone() {
    let mut shapes = shapes_of(&model("aff-base-22k").config);
    assert_eq!(shapes["head.weight"], [21_841, 1024]);
    shapes.insert("head.weight".to_owned(), vec![1000, 1024]);
    shapes.insert("head.bias".to_owned(), vec![1000]);
    assert_eq!(shapes, published("aff-base.classifier.json"));
}

#[test]
fn parameter_counts_of_classifiers() {
    let counts = [
        ("aff-mini", 6_754_451),
        ("aff-tiny", 27_020_367),
        ("aff-small", 42_612_961),
        ("aff-base-384", 75_341_075),
    ];
    for (name, expected) in counts {
        let shapes = shapes_of(&model(name).config);
        // Statistics of batch norm are no parameters.
        let parameters = shapes.iter().filter(|(name, _)| !name.contains("running_"));
        let count: usize = parameters.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(count, expected, "{name}");
    }
}

#[test]
fn segmenters() {
    let mut compared = 0;
    for backbone in ["aff-mini", "aff-tiny", "aff-small", "aff-base"] {
        for data_set in ["ade20k-semantic", "cityscapes-panoptic", "coco-instance"] {
            let name = format!("{backbone}-{data_set}");
            let Some(preset) = published_models().into_iter().find(|preset| preset.name == name) else {
                continue;
            };
            let file = format!("{backbone}.mask2former.{data_set}.json");
            let (mut found, expected) = (shapes_of(&preset.config), published(&file));
            // Checkpoints of Base differ in their number of queries; conversion takes theirs.
            for key in
                ["sem_seg_head.predictor.query_feat.weight", "sem_seg_head.predictor.query_embed.weight"]
            {
                if backbone == "aff-base" {
                    found.insert(key.to_owned(), expected[key].clone());
                }
            }
            assert_eq!(found, expected, "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, 10, "every file of a published model");
}
