//! Whole models of the published sizes: loaded strictly, converted within bounds of memory.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use aff_model::Network;
use aff_weights::{
    ConfigSource, ConvertOptions, ModelFolder, Overwrite, convert, published_models, write_tensor_file,
};
use candle_core::{DType, Device, Tensor};
use peak_alloc::PeakAlloc;

mod common;
use common::write_torch;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
/// Tests take turns, so that each measures its own memory.
static TURN: Mutex<()> = Mutex::new(());

/// The most memory that `run` takes beyond what there is.
fn peak<R>(run: impl FnOnce() -> R) -> (usize, R) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = run();
    (ALLOCATOR.peak_usage() - before, result)
}

fn key_lists() -> Vec<(String, BTreeMap<String, Vec<usize>>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/keys");
    let mut lists: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    lists.sort();
    lists
}

#[test]
fn checkpoints_of_every_key_list_load_strictly() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lists = key_lists();
    assert_eq!(lists.len(), 16);
    for (name, shapes) in lists {
        // aff-mini.classifier is aff-mini, aff-mini.mask2former.coco-instance is aff-mini-coco-instance.
        let name = name.replace(".classifier", "").replace(".mask2former.", "-");
        let name = if name == "aff-base" { "aff-base-384".to_owned() } else { name };
        let Some(preset) = published_models().into_iter().find(|preset| preset.name == name) else {
            // Lists of models that were never published.
            assert!(
                ["aff-base-ade20k-semantic", "aff-base-coco-instance"].contains(&name.as_str()),
                "{name}"
            );
            continue;
        };
        let mut config = preset.config;
        if let Some(shape) = shapes.get("sem_seg_head.predictor.query_feat.weight") {
            config.num_queries = Some(shape[0]);
        }
        let folder = tempfile::tempdir().unwrap();
        let unused = |name: &str| name.ends_with("num_batches_tracked") || name.ends_with("empty_weight");
        let tensors: BTreeMap<String, Tensor> = shapes
            .into_iter()
            .filter(|(name, _)| !unused(name))
            .map(|(name, shape)| (name, Tensor::zeros(shape, DType::F16, &Device::Cpu).unwrap()))
            .collect();
        write_tensor_file(&folder.path().join("model.safetensors"), &tensors).unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_json().unwrap()).unwrap();
        drop(tensors);
        let folder = ModelFolder::open(folder.path()).unwrap();
        folder
            .checked_var_builder(DType::F32, &Device::Cpu, |vb| Network::new(&config, &vb))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn conversion_takes_less_than_one_and_a_half_times_the_file() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_, shapes) = key_lists().into_iter().find(|(name, _)| name == "aff-tiny.classifier").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("aff-tiny.pth");
    let weights = shapes.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    write_torch(&checkpoint, &weights);
    let size = std::fs::metadata(&checkpoint).unwrap().len() as usize;
    assert!(size > 100 << 20, "{size}");
    for verify in [false, true] {
        let options = ConvertOptions {
            checkpoint: checkpoint.clone(),
            backbone: None,
            output: folder.path().join("model"),
            config: ConfigSource::Preset("aff-tiny".to_owned()),
            overwrite: Overwrite::Replace,
            verify,
        };
        let (peak, report) = peak(|| convert(&options));
        assert_eq!(report.unwrap().parameters / 1_000_000, 27);
        assert!(peak < size * 3 / 2, "verify {verify}: {peak} bytes for a file of {size}");
    }
}
