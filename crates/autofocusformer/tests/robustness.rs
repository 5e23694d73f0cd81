//! Every published model, any size of image, any batch, any number of threads.
#![allow(clippy::unwrap_used, clippy::panic)]

use aff_model::complexity::{InputSize, complexity};
use aff_model::config::{
    BackboneConfig, DecoderConfig, Downsampling, HcFormerConfig, Mask2FormerConfig, ModelConfig,
    SegmentationConfig, SegmentationTask,
};
use aff_model::{MaskOutput, Network, Phase};
use aff_weights::{published_models, random_weights};
use autofocusformer::{Device, Model, Tensor};
use candle_core::DType;
use candle_nn::{VarBuilder, VarMap};

fn noise(batch: usize, height: usize, width: usize) -> Tensor {
    Tensor::randn(0_f32, 1.0, (batch, 3, height, width), &Device::Cpu).unwrap()
}

fn assert_finite(name: &str, tensor: &Tensor) {
    let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!(values.iter().all(|value| value.is_finite()), "{name}");
}

#[test]
fn every_published_model_takes_the_smallest_an_odd_and_a_long_image() {
    for preset in published_models() {
        let model = Model::random(&preset.name, &Device::Cpu).unwrap();
        for (height, width) in [(1, 1), (45, 67), (24, 192)] {
            for (name, tensor) in model.features(&noise(1, height, width)).unwrap() {
                assert_finite(&format!("{}, {height} x {width}: {name}", preset.name), &tensor);
            }
        }
    }
}

fn backbone() -> BackboneConfig {
    let mut config = BackboneConfig::new([16, 24, 32, 40], [1, 2, 2, 1], [2, 2, 4, 4]);
    config.layer_scale_init = Some(0.5);
    config.drop_path_rate = 0.2;
    config
}

fn nano(decoder: impl Into<DecoderConfig>) -> ModelConfig {
    let mut segmentation = SegmentationConfig::new(SegmentationTask::Panoptic);
    segmentation.thing_ids = vec![0, 2];
    ModelConfig::segmenter(backbone(), decoder, 7, segmentation, ["a", "b", "c"].map(str::to_owned))
}

fn mask2former() -> Mask2FormerConfig {
    let mut config = Mask2FormerConfig::default();
    config.hidden_dim = 32;
    config.mask_feature_size = 24;
    config.num_attention_heads = 4;
    config.encoder_layers = 2;
    config.encoder_feedforward_dim = 48;
    config.decoder_layers = 3;
    config.decoder_feedforward_dim = 64;
    config
}

fn hcformer(encoder_layers: usize) -> HcFormerConfig {
    let mut config = HcFormerConfig::default();
    config.hidden_dim = 32;
    config.mask_feature_size = 24;
    config.num_attention_heads = 4;
    config.encoder_layers = encoder_layers;
    config.encoder_feedforward_dim = 48;
    config.decoder_layers = 2;
    config.decoder_feedforward_dim = 64;
    config.assignment_dim = 16;
    config
}

fn all_nano() -> [(&'static str, ModelConfig); 3] {
    [("Mask2Former", nano(mask2former())), ("HCFormer", nano(hcformer(0))), ("HCFormer+", nano(hcformer(2)))]
}

fn random_segmenter(config: &ModelConfig) -> Network {
    let vb = random_weights(DType::F32, &Device::Cpu, |vb| Network::new(config, &vb)).unwrap();
    Network::new(config, &vb).unwrap()
}

fn masks(segmenter: &Network, input: &Tensor, phase: Phase) -> MaskOutput {
    segmenter.forward(input, phase).unwrap().into_masks().unwrap()
}

fn outputs(segmenter: &Network, input: &Tensor) -> [Vec<f32>; 2] {
    let prediction = masks(segmenter, input, Phase::Inference).prediction;
    [prediction.class_logits, prediction.mask_logits].map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn an_image_alone_equals_the_image_in_a_batch() {
    for (name, config) in all_nano() {
        let segmenter = random_segmenter(&config);
        for (height, width) in [(64, 96), (37, 50), (16, 16)] {
            let batch = noise(3, height, width);
            let together = outputs(&segmenter, &batch);
            for image in 0..3 {
                let alone = outputs(&segmenter, &batch.narrow(0, image, 1).unwrap());
                for (alone, together) in alone.iter().zip(&together) {
                    let own = &together[image * alone.len()..][..alone.len()];
                    assert!(alone == own, "{name}, {height} x {width}, image {image}");
                }
            }
        }
    }
}

#[test]
fn plain_downsampling_keeps_a_regular_grid() {
    let mut config = nano(mask2former());
    config.backbone_config.downsampling = Downsampling::Grid;
    let json = config.to_json().unwrap();
    assert!(json.contains("\"downsampling\": \"grid\""));
    assert_eq!(ModelConfig::from_json(&json).unwrap(), config);
    let segmenter = random_segmenter(&config);
    for (height, width) in [(64, 96), (37, 50), (90, 124)] {
        let features = segmenter.features(&noise(2, height, width), Phase::Inference).unwrap();
        let expected = complexity(&config, InputSize { height, width }).unwrap().tokens;
        for (stage, tokens) in features.levels.unwrap().iter().enumerate() {
            assert_eq!(tokens.count(), expected[stage]);
            assert!(tokens.positions().as_slice().iter().flatten().all(|place| place % (1 << stage) == 0));
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for (name, config) in all_nano() {
        let segmenter = random_segmenter(&config);
        let input = noise(2, 100, 70);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| outputs(&segmenter, &input))
        };
        assert!(on(1) == on(2), "{name}");
    }
}

#[test]
fn every_parameter_of_every_head_learns() {
    for (name, mut config) in all_nano() {
        // A dropped branch learns nothing.
        config.backbone_config.drop_path_rate = 0.0;
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let segmenter = Network::new(&config, &vb).unwrap();
        let output = masks(&segmenter, &noise(2, 96, 64), Phase::Training { seed: 3 });
        assert!(!output.auxiliary.is_empty(), "{name}: predictions of every layer");
        let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        for prediction in output.auxiliary.iter().chain([&output.prediction]) {
            let class =
                candle_nn::ops::log_softmax(&prediction.class_logits, 2).unwrap().sqr().unwrap().mean_all();
            let mask = prediction.mask_logits.tanh().unwrap().sqr().unwrap().mean_all();
            loss = (loss + class.unwrap()).unwrap().add(&mask.unwrap()).unwrap();
        }
        let gradients = loss.backward().unwrap();
        let variables = variables.data().lock().unwrap();
        for (parameter, var) in variables.iter().filter(|(parameter, _)| !parameter.contains("running_")) {
            // HCFormer reads the tokens of the first three stages before their norms.
            let unread = ["backbone.norm0", "backbone.norm1", "backbone.norm2"];
            if name != "Mask2Former" && unread.iter().any(|norm| parameter.starts_with(norm)) {
                continue;
            }
            let gradient =
                gradients.get(var).unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
            assert_finite(&format!("{name}: {parameter}"), gradient);
            let size = gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size > 0.0, "{name}: {parameter} has a gradient of zero");
        }
    }
}

#[test]
fn training_updates_the_statistics_and_drops_what_the_seed_says() {
    let config = nano(mask2former());
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let segmenter = Network::new(&config, &vb).unwrap();
    let running_mean = || {
        let all = variables.data().lock().unwrap();
        all["backbone.patch_embed.bn.running_mean"].to_vec1::<f32>().unwrap()
    };
    let before = running_mean();
    let input = noise(8, 64, 64);
    let run = |seed| {
        let output = masks(&segmenter, &input, Phase::Training { seed });
        output.prediction.class_logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_ne!(running_mean(), before);
}

#[test]
fn wrong_inputs_are_errors() {
    let model = Model::random("aff-mini", &Device::Cpu).unwrap();
    for shape in [vec![1, 4, 32, 32], vec![3, 32, 32], vec![0, 3, 32, 32], vec![1, 3, 0, 32]] {
        let input = Tensor::zeros(shape.clone(), DType::F32, &Device::Cpu).unwrap();
        let error = model.features(&input).unwrap_err().to_string();
        assert!(error.contains(&format!("{shape:?}")), "{error}");
    }
    let error = Model::random("aff-huge", &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("aff-huge") && error.contains("aff-mini"), "{error}");
}
