//! Checkpoints and model folders that want to do harm, or are merely damaged: read or refused, never a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Cursor;
use std::path::{Path, PathBuf};

use aff_model::Network;
use aff_weights::{
    Checkpoint, CheckpointError, ConfigSource, ConvertOptions, KeyReport, ModelFolder, Overwrite,
    TensorShapes, convert, read_tensor_file, write_tensor_file,
};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

mod common;
use common::{fixture, pickle_text, torch_archive, write_torch_of};

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
        ("compressed.pth", "is compressed or encrypted"),
        ("short_storage.pth", "in a storage of"),
        ("twice.pth", "two entries are named alike"),
        ("overlap.pth", "entries overlap"),
        ("stride_outside.pth", "in a storage of"),
        ("long_string.pkl", "ends where 1152921504606846976 more bytes were announced"),
        ("deep.pkl", "nest more than 1000 deep"),
        ("memo_bomb.pkl", "expected a dictionary with an entry `model`"),
    ] {
        let error = read(&seed(name)).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}

/// What would be called is but a name in a message.
#[test]
fn calls_are_data() {
    for name in ["calls_system.pkl", "calls_system.pth"] {
        let error = read(&seed(name)).unwrap_err().to_string();
        let expected = "tensor `x`: is a call of posix.system; expected a dense tensor";
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// Nothing is unpacked: an entry that leads elsewhere is but a name.
#[test]
fn names_of_entries_lead_nowhere() {
    let (outside, valid) = (read(&seed("traversal.pth")).unwrap(), read(&seed("valid.pth")).unwrap());
    assert!(!outside.tensors.is_empty());
    for (name, tensor) in &outside.tensors {
        assert_eq!(valid.tensors.get(name), Some(tensor), "{name}");
    }
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

/// A folder with the given weights and a configuration that is read.
fn folder_with(weights: &[u8]) -> tempfile::TempDir {
    let valid = std::fs::read(root().join("fuzz/seeds/model_folder/valid")).unwrap();
    let length = usize::from(u16::from_le_bytes([valid[0], valid[1]]));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), &valid[2..2 + length]).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    folder
}

fn safetensors(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat()
}

#[test]
fn numbers_that_are_no_weights_are_refused() {
    for (dtype, size, shown) in
        [("I64", 8, "I64"), ("U8", 1, "U8"), ("F8_E4M3", 1, "F8E4M3"), ("F8_E5M2", 1, "F8_E5M2")]
    {
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{}]}}}}"#, 2 * size);
        let folder = folder_with(&safetensors(&header, 2 * size));
        let error = ModelFolder::open(folder.path()).unwrap().tensors(DType::F32, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains(&format!("tensor w has the type {shown}")), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("whole_numbers.pth");
    write_torch_of(
        "LongStorage",
        8,
        &checkpoint,
        &TensorShapes::from([("head.weight".to_owned(), vec![2, 4])]),
    );
    let error = convert(&ConvertOptions {
        checkpoint,
        backbone: None,
        output: folder.path().join("model"),
        config: ConfigSource::Preset("aff-mini".to_owned()),
        overwrite: Overwrite::Refuse,
        verify: false,
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("tensor head.weight has the type I64; expected F16"), "{error}");
}

/// What a bad disk or a careless script makes of a converted model.
#[test]
fn changed_weights_of_a_folder_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    convert(&ConvertOptions {
        checkpoint: fixture("classify-nano/checkpoint.pth"),
        backbone: None,
        output: output.clone(),
        config: ConfigSource::Checkpoint,
        overwrite: Overwrite::Refuse,
        verify: false,
    })
    .unwrap();
    let weights = output.join("model.safetensors");
    let load = || ModelFolder::open(&output).unwrap().tensors(DType::F32, &Device::Cpu);
    load().unwrap();

    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&weights, &bytes).unwrap();
    let error = load().unwrap_err().to_string();
    assert!(error.contains("not those that it was written with"), "{error}");
    bytes[middle] ^= 4;
    std::fs::write(&weights, &bytes).unwrap();

    let mut tensors = read_tensor_file(&weights, &Device::Cpu).unwrap();
    let norm = tensors.remove("norm.weight").unwrap();
    tensors.insert("norm.wieght".to_owned(), norm);
    write_tensor_file(&weights, &tensors).unwrap();
    let opened = ModelFolder::open(&output).unwrap();
    let config = opened.config();
    let error = opened
        .checked_var_builder(DType::F32, &Device::Cpu, |vb| Network::new(config, &vb))
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("1 missing, 1 unexpected") && error.contains("nearest: norm.wieght"), "{error}");
}

#[test]
fn messages_quote_the_beginning_of_what_is_long() {
    let long = "n".repeat(1 << 20);
    let is_short = |error: String| assert!(error.len() <= 2048 + 256, "{} bytes", error.len());

    let mut pickle = b"\x80\x02}".to_vec();
    pickle_text(&mut pickle, "model");
    pickle.extend(b"}");
    pickle_text(&mut pickle, &long);
    pickle.extend(b"c");
    pickle.extend(format!("{long}\n{long}\n)R").as_bytes());
    pickle.extend(b"ss.");
    is_short(read(&pickle).unwrap_err().to_string());
    is_short(read(&torch_archive(&pickle, &[])).unwrap_err().to_string());
    is_short(read("\u{80}".as_bytes()).unwrap_err().to_string());
    for opcode in [&b"I"[..], b"F", b"g", b"p"] {
        is_short(read(&[b"\x80\x02N", opcode, long.as_bytes(), b"\n"].concat()).unwrap_err().to_string());
    }
    let mut keys = b"\x80\x02}".to_vec();
    for index in 0..20 {
        pickle_text(&mut keys, &format!("{index}{long}"));
        keys.extend(b"Ns");
    }
    keys.push(b'.');
    is_short(read(&keys).unwrap_err().to_string());
    let names: Vec<String> = (0..3).map(|index| format!("{index}{}", &long[..60_000])).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    is_short(read(&torch_archive(b"\x80\x02}.", &entries)).unwrap_err().to_string());

    let header = format!(r#"{{"{long}":{{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}}}"#);
    for weights in
        [safetensors(&header, 8), safetensors(&header, 7), safetensors(&format!(r#"{{"{long}":3}}"#), 0)]
    {
        let folder = folder_with(&weights);
        is_short(
            ModelFolder::open(folder.path())
                .unwrap()
                .tensors(DType::F32, &Device::Cpu)
                .unwrap_err()
                .to_string(),
        );
    }
    let folder = folder_with(b"");
    for (file, text) in [
        ("config.json", format!(r#"{{"{long}":1}}"#)),
        ("preprocessor_config.json", format!(r#"{{"{long}":1}}"#)),
    ] {
        let path = folder.path().join(file);
        let before = std::fs::read(&path).ok();
        std::fs::write(&path, text).unwrap();
        is_short(ModelFolder::open(folder.path()).unwrap_err().to_string());
        if let Some(before) = before {
            std::fs::write(&path, before).unwrap();
        }
    }
    std::fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let index = format!(r#"{{"weight_map":{{"w":"{long}"}}}}"#);
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    is_short(ModelFolder::open(folder.path()).unwrap_err().to_string());

    let shapes = |start: &str| -> TensorShapes {
        (0..2000).map(|index| (format!("{start}{index}{}", &long[..5000]), vec![1])).collect()
    };
    is_short(KeyReport::compare(&shapes("a"), &shapes("b")).to_string());
}

#[test]
fn deep_configurations_are_errors() {
    let folder = folder_with(&safetensors("{}", 0));
    let config = folder.path().join("config.json");
    let valid = std::fs::read(&config).unwrap();
    for deep in ["[".repeat(1 << 20), "{\"a\":".repeat(1 << 18)] {
        std::fs::write(&config, &deep).unwrap();
        assert!(ModelFolder::open(folder.path()).unwrap_err().to_string().contains("config.json"));
        std::fs::write(&config, &valid).unwrap();
        std::fs::write(folder.path().join("preprocessor_config.json"), &deep).unwrap();
        let error = ModelFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("preprocessor_config.json"), "{error}");
        std::fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
        let weights = safetensors(&deep, 0);
        std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
        let read = ModelFolder::open(folder.path()).unwrap().tensors(DType::F32, &Device::Cpu);
        assert!(read.unwrap_err().to_string().contains("not that of a safetensors file"));
    }
}

#[cfg(unix)]
#[test]
fn devices_are_no_checkpoints_and_no_models() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::read(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("expected a file"), "{error}");
    let error = Checkpoint::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("it is a folder"), "{error}");
    let error = read_tensor_file(Path::new("/dev/zero"), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("expected a file"), "{error}");
    let whole = folder_with(&safetensors("{}", 0));
    std::fs::remove_file(whole.path().join("config.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", whole.path().join("config.json")).unwrap();
    assert!(ModelFolder::open(whole.path()).is_err());
}

#[test]
fn tensors_of_several_shards_are_put_together_once() {
    let folder = folder_with(b"");
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let tensor = |value: f32| Tensor::new(&[value], &Device::Cpu).unwrap();
    let write = |file: &str, name: &str, value: f32| {
        write_tensor_file(&folder.path().join(file), &[(name.to_owned(), tensor(value))].into()).unwrap();
    };
    write("one.safetensors", "a", 1.0);
    write("two.safetensors", "b", 2.0);
    let index = r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let tensors = || ModelFolder::open(folder.path()).unwrap().tensors(DType::F32, &Device::Cpu);
    assert_eq!(tensors().unwrap()["b"].to_vec1::<f32>().unwrap(), [2.0]);
    write("two.safetensors", "a", 2.0);
    let error = tensors().unwrap_err().to_string();
    assert!(error.contains("tensor a is in another shard"), "{error}");
}
