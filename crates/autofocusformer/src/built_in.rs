//! Models that are compiled in.

use std::path::Path;

use aff_model::config::ModelConfig;
use aff_vision::PreprocessorConfig;
use aff_weights::{TensorOptions, WeightsError, read_tensor_bytes};

use crate::{Error, Model};

/// A model that is part of the program: each has a crate of its weights, and a feature of that name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BuiltInModel {
    name: &'static str,
    knows: &'static str,
    licence: &'static str,
    figure: &'static str,
    config: &'static str,
    preprocessor: &'static str,
    weights: &'static [u8],
}

/// The first answers where no model is named.
static ALL: &[BuiltInModel] = &[
    #[cfg(feature = "aff-pico-camvid")]
    BuiltInModel {
        name: "aff-pico-camvid",
        knows: "street scenes",
        licence: "CC BY-NC 4.0, as CamVid: research and personal use, no commercial use",
        figure: "mIoU 70.5",
        config: aff_pico_camvid::CONFIG,
        preprocessor: aff_pico_camvid::PREPROCESSOR,
        weights: aff_pico_camvid::WEIGHTS,
    },
];

impl BuiltInModel {
    /// The models of this build; the first answers where no model is named. None without a feature that has one.
    pub fn all() -> &'static [Self] {
        ALL
    }

    /// The model that answers where none is named.
    ///
    /// # Errors
    /// [`Error::NoBuiltInModel`] if this build has none.
    pub fn preferred() -> Result<Self, Error> {
        ALL.first().copied().ok_or(Error::NoBuiltInModel)
    }

    /// The model of a name, if it is in this build.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().copied().find(|model| model.name == name)
    }

    /// Its name, also that of its crate and of its folder in `models/`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What it has learnt to see, in a word or two.
    pub fn knows(self) -> &'static str {
        self.knows
    }

    /// Terms of its weights.
    pub fn licence(self) -> &'static str {
        self.licence
    }

    /// How good it is on the validation images of what it was trained on, in percent, as its card says: such as `mIoU 70.5`.
    pub fn figure(self) -> &'static str {
        self.figure
    }

    /// Size of its weights in bytes.
    pub fn num_bytes(self) -> usize {
        self.weights.len()
    }

    /// What its `config.json` says.
    ///
    /// # Errors
    /// [`Error::Weights`] if what was compiled in is damaged.
    pub fn config(self) -> Result<ModelConfig, Error> {
        let path = Path::new(self.name).to_path_buf();
        Ok(ModelConfig::from_json(self.config).map_err(|source| WeightsError::Config { path, source })?)
    }

    /// Builds it.
    ///
    /// # Errors
    /// [`Error::Weights`] if what was compiled in is damaged.
    pub fn load(self, options: impl Into<TensorOptions>) -> Result<Model, Error> {
        let options = options.into();
        let path = Path::new(self.name);
        let preprocessor: PreprocessorConfig = serde_json::from_str(self.preprocessor)
            .map_err(|source| WeightsError::Preprocessor { path: path.to_path_buf(), source })?;
        let tensors = read_tensor_bytes(self.weights, self.name, &options.device)?;
        let wide = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(options.dtype)?)));
        let tensors = wide.collect::<candle_core::Result<_>>()?;
        Model::build(self.config()?, Some(preprocessor), tensors, path, options)
    }
}

impl std::fmt::Debug for BuiltInModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("BuiltInModel").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_loads_by_its_name() {
        for model in BuiltInModel::all() {
            let loaded = Model::from_pretrained(model.name(), &candle_core::Device::Cpu).unwrap();
            assert_eq!(loaded.config(), &model.config().unwrap());
            assert!(
                model.num_bytes() > 2 * loaded.num_parameters().unwrap(),
                "{model:?}: 16-bit floats and a header"
            );
            assert!(!model.licence().is_empty() && !model.knows().is_empty());
            let card = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(model.name());
            let card = std::fs::read_to_string(card.join("README.md")).unwrap();
            let number = model.figure().rsplit(' ').next().unwrap();
            assert!(card.contains(&format!("{number} %")), "{model:?}: the card says another figure");
        }
        assert_eq!(BuiltInModel::named("aff-pico-nobody"), None);
        assert_eq!(BuiltInModel::preferred().ok(), BuiltInModel::all().first().copied());
    }
}
