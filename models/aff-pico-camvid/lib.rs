//! The files of the model aff-pico-camvid, as bytes; the feature `aff-pico-camvid` of `autofocusformer` loads them.
//!
//! The weights are under the terms of the data that they were trained on, CC BY-NC 4.0: no commercial use.

#![no_std]
#![forbid(unsafe_code)]

/// `config.json`.
pub const CONFIG: &str = include_str!("config.json");
/// `preprocessor_config.json`.
pub const PREPROCESSOR: &str = include_str!("preprocessor_config.json");
/// `model.safetensors`, in 16-bit floats.
pub static WEIGHTS: &[u8] = include_bytes!("model.safetensors");
