//! Pickles of torch tensors, written by PyTorch itself: see `fixtures/pickled-tensors/make.py`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_weights::checkpoint::{CheckpointFormat, ElementType};
use aff_weights::{
    Checkpoint, ConfigSource, ConvertOptions, Overwrite, TensorShapes, convert, read_tensor_file,
};
use candle_core::Device;
use common::{fixture, tiny_segmenter, write_torch};

#[test]
fn every_layout_is_read_in_both_protocols() {
    for file in ["layouts.pkl", "layouts-protocol2.pkl"] {
        let checkpoint = Checkpoint::read(&fixture("pickled-tensors").join(file)).unwrap();
        assert_eq!(checkpoint.format, CheckpointFormat::Detectron2);
        for (name, shape, values) in [
            ("plain", &[2, 3][..], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..]),
            ("transposed", &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
            ("part", &[3, 2], &[4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
            ("parameter", &[2], &[1.5, -2.0]),
            ("half", &[2], &[0.5, -0.25]),
            ("bfloat16", &[2], &[3.0, -1.0]),
            ("double", &[1], &[0.1]),
            ("scalar", &[], &[7.0]),
            ("empty", &[0, 4], &[]),
            ("num_batches_tracked", &[], &[3.0]),
        ] {
            let tensor = &checkpoint.tensors[name];
            assert_eq!((tensor.shape(), tensor.to_f32().as_slice()), (shape, values), "{file}: {name}");
        }
        assert_eq!(checkpoint.tensors.len(), 10);
        assert_eq!(checkpoint.tensors["half"].element_type(), ElementType::F16);
        assert_eq!(checkpoint.tensors["num_batches_tracked"].element_type(), ElementType::I64);
    }
}

#[test]
fn a_pickled_classifier_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("model.yaml");
    std::fs::write(&yaml, "MODEL: {AFF: {CLUSTER_SIZE: 8}, NUM_CLASSES: 2}\n").unwrap();
    let output = folder.path().join("model");
    let report = convert(&ConvertOptions {
        checkpoint: fixture("pickled-tensors/classifier.pkl"),
        backbone: None,
        output: output.clone(),
        config: ConfigSource::Yaml(yaml),
        overwrite: Overwrite::Refuse,
        verify: true,
    })
    .unwrap();
    assert_eq!(report.left_out, ["patch_embed.bn.num_batches_tracked"]);
    let tensors = read_tensor_file(&output.join("model.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(tensors["head.weight"].dims(), [2, 4]);
}

#[test]
fn a_pickled_classifier_is_a_backbone() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("segmenter.pth");
    let shapes: TensorShapes = tiny_segmenter(5, true);
    write_torch(&checkpoint, &shapes);
    let yaml = folder.path().join("model.yaml");
    std::fs::write(&yaml, "MODEL: {AFF: {CLUSTER_SIZE: 8}, MASK_FORMER: {NHEADS: 2}}\n").unwrap();
    let output = folder.path().join("model");
    convert(&ConvertOptions {
        checkpoint,
        backbone: Some(fixture("pickled-tensors/classifier.pkl")),
        output: output.clone(),
        config: ConfigSource::Yaml(yaml),
        overwrite: Overwrite::Refuse,
        verify: true,
    })
    .unwrap();

    let classifier = Checkpoint::read(&fixture("pickled-tensors/classifier.pkl")).unwrap().tensors;
    let converted = read_tensor_file(&output.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut grafted = 0;
    for (n, name) in classifier.keys().filter(|name| !name.ends_with("tracked")).enumerate() {
        let Some(tensor) = converted.get(&format!("backbone.{name}")) else {
            assert!(name.starts_with("head.") || name.starts_with("norm."), "{name}");
            continue;
        };
        // As `make.py` has it.
        let count = tensor.elem_count();
        let expected: Vec<f32> = (0..count).map(|k| n as f32 + k as f32 / 1024.0).collect();
        assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected, "{name}");
        grafted += 1;
    }
    assert_eq!(grafted, classifier.len() - 1 - 4, "all but the counter, the last norm and the head");
}
