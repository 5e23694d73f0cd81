//! The default model, compiled in.

use std::path::Path;

use aff_model::config::ModelConfig;
use aff_vision::PreprocessorConfig;
use aff_weights::{TensorOptions, WeightsError, read_tensor_bytes};

use crate::{Error, Model};

/// Name of the default model, and of its folder in `models/`.
pub const EMBEDDED_MODEL: &str = "aff-pico-camvid";

const CONFIG: &str = include_str!("../../../models/aff-pico-camvid/config.json");
const PREPROCESSOR: &str = include_str!("../../../models/aff-pico-camvid/preprocessor_config.json");
static WEIGHTS: &[u8] = include_bytes!("../../../models/aff-pico-camvid/model.safetensors");

impl Model {
    /// The default model, which is part of the program: a segmenter for street scenes, trained on CamVid. Its weights are under the
    /// terms of that data set, CC BY-NC 4.0; its card is `models/aff-pico-camvid/README.md`.
    ///
    /// ```
    /// use autofocusformer::{Device, Model};
    ///
    /// let model = Model::embedded(&Device::Cpu)?;
    /// assert_eq!(model.config().id2label[&8], "car");
    /// # Ok::<(), autofocusformer::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Weights`] if what was compiled in is damaged.
    pub fn embedded(options: impl Into<TensorOptions>) -> Result<Self, Error> {
        let options = options.into();
        let path = Path::new(EMBEDDED_MODEL);
        let config = ModelConfig::from_json(CONFIG)
            .map_err(|source| WeightsError::Config { path: path.to_path_buf(), source })?;
        let preprocessor: PreprocessorConfig = serde_json::from_str(PREPROCESSOR)
            .map_err(|source| WeightsError::Preprocessor { path: path.to_path_buf(), source })?;
        let tensors = read_tensor_bytes(WEIGHTS, EMBEDDED_MODEL, &options.device)?;
        let wide = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(options.dtype)?)));
        let tensors = wide.collect::<candle_core::Result<_>>()?;
        Self::build(config, Some(preprocessor), tensors, path, options)
    }
}
