//! Checkpoints and model folders that want to do harm, or are merely damaged: read or refused, never a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Cursor;
use std::path::{Path, PathBuf};

use aff_weights::{Checkpoint, CheckpointError, ModelFolder};
use candle_core::{DType, Device};
use proptest::prelude::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn seed(name: &str) -> Vec<u8> {
    std::fs::read(root().join("fuzz/seeds/checkpoint").join(name)).unwrap()
}

fn read(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::read_from(Cursor::new(bytes))
}

#[test]
fn valid_seeds_are_read_with_all_their_layouts() {
    let torch = read(&seed("valid.pth")).unwrap();
    let of = |name: &str| torch.tensors[name].to_f32();
    assert_eq!(of("a.weight"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(torch.tensors["t"].shape(), [3, 2]);
    assert_eq!(of("t"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], "a transposed tensor");
    assert_eq!(of("b"), [1.0; 4], "half precision");
    let numpy = read(&seed("valid.pkl")).unwrap();
    assert_eq!(numpy.tensors["f"].to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "Fortran order");
    assert_eq!(numpy.tensors["h"].to_f32(), [1.0; 3]);
}

#[test]
fn hostile_seeds_are_refused_for_what_they_are() {
    for (name, part) in [
        ("compressed.pth", "compress"),
        ("short_storage.pth", "storage"),
        ("twice.pth", "two entries are named"),
        ("overlap.pth", "overlap"),
        ("stride_outside.pth", "storage"),
        ("long_string.pkl", "ends"),
        ("deep.pkl", ""),
        ("memo_bomb.pkl", ""),
    ] {
        let error = read(&seed(name)).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn nothing_is_executed() {
    for name in ["calls_system.pkl", "calls_system.pth"] {
        // What is no tensor is no weight: the call is data that nobody needs, or an error.
        if let Ok(checkpoint) = read(&seed(name)) {
            assert!(!checkpoint.tensors.contains_key("x"), "{name}");
        }
        assert!(!Path::new("aff-was-here").exists() && !root().join("aff-was-here").exists());
    }
    // A name that leads elsewhere is but a name: nothing is unpacked.
    assert!(read(&seed("traversal.pth")).is_ok());
}

#[test]
fn cut_files_are_errors() {
    for name in ["valid.pth", "valid.pkl"] {
        let bytes = seed(name);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{name} cut at {length}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_bytes_never_panic(
        torch: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = seed(if torch { "valid.pth" } else { "valid.pkl" });
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn any_pickle_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&[&b"\x80\x02"[..], &body].concat());
    }
}

#[test]
fn damaged_model_folders_are_errors() {
    for entry in std::fs::read_dir(root().join("fuzz/seeds/model_folder")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), &bytes[2..2 + length]).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), &bytes[2 + length..]).unwrap();
        let result =
            ModelFolder::open(folder.path()).and_then(|folder| folder.tensors(DType::F32, &Device::Cpu));
        match name.as_str() {
            "valid" => assert_eq!(result.unwrap()["w"].dims(), [2, 3]),
            "unknown_field" => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("unknown_field") && error.contains("config.json"), "{error}");
            }
            _ => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("model.safetensors"), "{name}: {error}");
            }
        }
    }
}
