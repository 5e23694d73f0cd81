//! `config.json` and `model.safetensors`, one after the other in the input, the first one's length in two bytes before it.
#![no_main]

use aff_weights::ModelFolder;
use candle_core::{DType, Device};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (config, weights) = rest.split_at(length);
    let Ok(folder) = tempfile::tempdir() else { return };
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes);
    if write("config.json", config).is_err() || write("model.safetensors", weights).is_err() {
        return;
    }
    let Ok(folder) = ModelFolder::open(folder.path()) else { return };
    let _ = folder.tensors(DType::F32, &Device::Cpu);
});
