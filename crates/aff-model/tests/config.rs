//! Configurations: what is written is read again, and what no model can have is refused by name.
#![allow(clippy::unwrap_used)]

use aff_model::config::{
    BackboneConfig, DecoderConfig, DeformableDetrConfig, HcFormerConfig, Mask2FormerConfig, ModelConfig,
    PaddingSlots, SegmentationConfig, SegmentationTask,
};
use aff_model::presets;
use serde_json::{Value, json};

fn backbone() -> BackboneConfig {
    BackboneConfig::new([32, 64, 96, 128], [1, 2, 2, 1], [1, 2, 3, 4])
}

fn segmenter(decoder: impl Into<DecoderConfig>) -> ModelConfig {
    let segmentation = SegmentationConfig::new(SegmentationTask::Semantic);
    ModelConfig::segmenter(backbone(), decoder, 20, segmentation, ["cat", "dog"].map(str::to_owned))
}

fn detector() -> ModelConfig {
    let mut config = DeformableDetrConfig::default();
    config.two_stage = true;
    ModelConfig::detector(backbone(), config, 300, ["cat", "dog"].map(str::to_owned))
}

/// The error for a configuration in which one value, named by its path, is another.
fn refusal(config: &ModelConfig, path: &str, value: Value) -> String {
    let mut json: Value = serde_json::from_str(&config.to_json().unwrap()).unwrap();
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match json.pointer_mut(&pointer) {
        Some(place) => *place = value,
        None => json.pointer_mut(parent).unwrap()[key] = value,
    }
    match ModelConfig::from_json(&json.to_string()) {
        Ok(_) => format!("nothing is wrong with {path}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_preset_is_valid_and_survives_a_round_trip() {
    let classifiers = presets::classifiers().into_iter().map(|preset| {
        ModelConfig::classifier(preset.backbone, (0..preset.num_classes).map(|class| class.to_string()))
    });
    let segmenters = presets::segmenters().into_iter().map(|preset| preset.config());
    let mut count = 0;
    let detectors = presets::detectors().into_iter().map(|preset| preset.config());
    for config in classifiers.chain(segmenters).chain(detectors) {
        assert_eq!(ModelConfig::from_json(&config.to_json().unwrap()).unwrap(), config);
        count += 1;
    }
    assert_eq!(count, 31);
}

#[test]
fn every_value_that_no_model_can_have_is_refused_by_its_key() {
    let mask2former = segmenter(Mask2FormerConfig::default());
    let hcformer = segmenter(HcFormerConfig::default());
    let detector = detector();
    let huge = 1_u64 << 20;
    let cases = [
        (&mask2former, "backbone_config.embed_dims[1]", json!(huge)),
        (&mask2former, "backbone_config.embed_dims[0]", json!(33)),
        (&mask2former, "backbone_config.depths[3]", json!(huge)),
        (&mask2former, "backbone_config.depths[0]", json!(0)),
        (&mask2former, "backbone_config.num_heads[2]", json!(5)),
        (&mask2former, "backbone_config.num_heads[2]", json!(0)),
        (&mask2former, "backbone_config.neighborhood_sizes[0]", json!(huge)),
        (&mask2former, "backbone_config.neighborhood_sizes[3]", json!(0)),
        (&mask2former, "backbone_config.cluster_size", json!(huge)),
        (&mask2former, "backbone_config.cluster_size", json!(0)),
        (&mask2former, "backbone_config.mlp_ratio", json!(1e9)),
        (&mask2former, "backbone_config.mlp_ratio", json!(1e-3)),
        (&mask2former, "backbone_config.mlp_ratio", json!(-1.0)),
        (&mask2former, "backbone_config.downsample_rate", json!(1.5)),
        (&mask2former, "backbone_config.downsample_rate", json!(0.0)),
        (&mask2former, "backbone_config.alpha", json!(-1.0)),
        (&mask2former, "backbone_config.drop_path_rate", json!(2.0)),
        (&mask2former, "backbone_config.layer_scale_init", json!(1e300)),
        (&mask2former, "decoder_config.hidden_dim", json!(huge)),
        (&mask2former, "decoder_config.hidden_dim", json!(258)),
        (&mask2former, "decoder_config.num_attention_heads", json!(7)),
        (&mask2former, "decoder_config.mask_feature_size", json!(huge)),
        (&mask2former, "decoder_config.encoder_layers", json!(huge)),
        (&mask2former, "decoder_config.encoder_layers", json!(0)),
        (&mask2former, "decoder_config.encoder_feedforward_dim", json!(huge)),
        (&mask2former, "decoder_config.num_sampling_points", json!(huge)),
        (&mask2former, "decoder_config.shepard_power_init", json!(-1.0)),
        (&mask2former, "decoder_config.decoder_layers", json!(huge)),
        (&mask2former, "decoder_config.decoder_feedforward_dim", json!(huge)),
        (&mask2former, "num_queries", json!(huge)),
        (&mask2former, "num_queries", json!(0)),
        (&mask2former, "segmentation_config.thing_ids", json!([2])),
        (&mask2former, "segmentation_config.threshold", json!(1.5)),
        (&mask2former, "segmentation_config.mask_threshold", json!(-0.5)),
        (&mask2former, "segmentation_config.overlap_threshold", json!(7)),
        (&mask2former, "segmentation_config.max_instances", json!(0)),
        (&mask2former, "id2label", json!({})),
        (&mask2former, "id2label", json!({"0": "cat", "2": "dog"})),
        (&mask2former, "architectures", json!([])),
        (&hcformer, "decoder_config.encoder_layers", json!(huge)),
        (&hcformer, "decoder_config.encoder_feedforward_dim", json!(0)),
        (&hcformer, "decoder_config.decoder_layers", json!(0)),
        (&hcformer, "decoder_config.assignment_dim", json!(huge)),
        (&hcformer, "decoder_config.assignment_neighbors", json!(huge)),
        (&detector, "num_queries", json!(huge)),
        (&detector, "decoder_config.hidden_dim", json!(30)),
        (&detector, "decoder_config.num_attention_heads", json!(7)),
        (&detector, "decoder_config.encoder_layers", json!(huge)),
        (&detector, "decoder_config.encoder_feedforward_dim", json!(huge)),
        (&detector, "decoder_config.num_sampling_points", json!(0)),
        (&detector, "decoder_config.shepard_power_init", json!(1e9)),
        (&detector, "decoder_config.decoder_layers", json!(0)),
        (&detector, "decoder_config.decoder_feedforward_dim", json!(0)),
    ];
    for (config, path, value) in cases {
        let error = refusal(config, path, value.clone());
        assert!(
            error.contains(&format!("`{path}`")) && error.contains("expected"),
            "{path} = {value}: {error}"
        );
    }
    // What only looks large is allowed.
    for (path, value) in [("backbone_config.neighborhood_sizes[3]", 4096), ("num_queries", 900)] {
        let error = refusal(&mask2former, path, json!(value));
        assert_eq!(error, format!("nothing is wrong with {path}"));
    }
}

#[test]
fn unknown_keys_and_those_of_another_kind_are_refused() {
    let segmenter = segmenter(Mask2FormerConfig::default());
    for path in ["surprise", "backbone_config.surprise", "decoder_config.surprise"] {
        assert!(refusal(&segmenter, path, json!(1)).contains("surprise"), "{path}");
    }
    let error = refusal(&segmenter, "decoder_config.type", json!("maskformer"));
    assert!(error.contains("maskformer"), "{error}");
    assert!(refusal(&segmenter, "decoder_config", json!(null)).contains("`decoder_config`"));
    let error = refusal(&detector(), "decoder_config.with_box_refine", json!(false));
    assert!(error.contains("`decoder_config.two_stage`"), "{error}");
    let architecture = |config, name| refusal(config, "architectures[0]", json!(name));
    let error = architecture(&segmenter, "AutoFocusFormerForObjectDetection");
    assert!(error.contains("`decoder_config.type`"), "{error}");
    let error = architecture(&detector(), "AutoFocusFormerForUniversalSegmentation");
    assert!(error.contains("`decoder_config.type`"), "{error}");
    let classifier = ModelConfig::classifier(backbone(), ["cat".to_owned()]);
    assert!(refusal(&classifier, "num_queries", json!(100)).contains("`num_queries`"));
    assert!(refusal(&classifier, "label2id", json!({"dog": 0})).contains("label2id"));
}

#[test]
fn settings_that_published_models_need_are_absent_where_they_are_the_default() {
    let text = segmenter(Mask2FormerConfig::default()).to_json().unwrap();
    assert!(!text.contains("padding_slots") && !text.contains("shepard_power_learnable"), "{text}");

    let presets = presets::segmenters();
    let coco = presets.iter().find(|preset| preset.name == "aff-tiny-coco-instance").unwrap().config();
    let text = coco.to_json().unwrap();
    assert!(text.contains(r#""padding_slots": "first_token""#), "{text}");
    assert!(text.contains(r#""shepard_power_init": 2.0"#), "{text}");
    assert!(text.contains(r#""shepard_power_learnable": false"#), "{text}");

    let ade = presets.iter().find(|preset| preset.name == "aff-tiny-ade20k-semantic").unwrap();
    assert_eq!(ade.backbone.padding_slots, PaddingSlots::FirstToken);
    assert!(ade.decoder.shepard_power_learnable && ade.decoder.shepard_power_init == 3.0);
}

/// Section 10 of the method.
#[test]
fn presets_have_the_stochastic_depth_of_their_training() {
    let classifier = |name: &str| presets::classifier(name).unwrap().backbone.drop_path_rate;
    let rates = ["aff-mini", "aff-tiny", "aff-small", "aff-base-384"].map(classifier);
    assert_eq!(rates, [0.0, 0.2, 0.3, 0.2]);
    for preset in presets::segmenters() {
        let expected = if preset.name.starts_with("aff-mini") { 0.0 } else { 0.3 };
        assert_eq!(preset.backbone.drop_path_rate, expected, "{}", preset.name);
    }
}
