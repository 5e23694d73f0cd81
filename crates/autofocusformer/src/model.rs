//! A model of either kind, as its folder says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aff_model::classifier::Classifier;
use aff_model::config::{Architecture, ModelConfig};
use aff_model::mask2former::Auxiliary;
use aff_model::segmenter::Segmenter;
use aff_model::{Phase, Tokens};
use aff_vision::{PixelValues, PreprocessorConfig};
use aff_weights::{
    ModelFolder, checked_var_builder, expected_tensors, published_models, random_weights, read_tensor_file,
};
use candle_core::{DType, Device, Result as CandleResult, Tensor};

use crate::Error;

/// What the name of a model with random weights starts with.
const RANDOM: &str = "random:";

/// A network with the configuration it was built from.
#[derive(Debug, Clone)]
pub struct Model {
    network: Network,
    config: ModelConfig,
    preprocessor: Option<PreprocessorConfig>,
    path: PathBuf,
    place: Place,
}

/// Either kind of network.
#[derive(Debug, Clone)]
pub enum Network {
    /// Of [`Architecture::ImageClassification`].
    Classifier(Box<Classifier>),
    /// Of [`Architecture::UniversalSegmentation`].
    Segmenter(Box<Segmenter>),
}

/// Where and in what numbers a network computes.
#[derive(Debug, Clone)]
pub struct Place {
    /// The device; this build has the CPU only.
    pub device: Device,
    /// `F32` unless asked otherwise. `F64` is for comparisons; `F16` halves the weights in memory, and is slow on a CPU. Candle multiplies no
    /// matrices of `BF16` on a CPU.
    pub dtype: DType,
}

impl From<&Device> for Place {
    fn from(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32 }
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

impl Model {
    /// Loads the model in a folder: `config.json`, weights and, if there is one, `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a file is missing or damaged or the weights are not those of the configuration, listing
    /// every tensor that is missing, left over or of another shape.
    pub fn load(path: impl AsRef<Path>, place: impl Into<Place>) -> Result<Self, Error> {
        let (path, place) = (path.as_ref(), place.into());
        let folder = ModelFolder::open(path)?;
        let tensors = folder.tensors(place.dtype, &place.device)?;
        Self::build(folder.config().clone(), folder.preprocessor().cloned(), tensors, path, place)
    }

    /// A model from its configuration and weights in memory, such as those of a training run.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weights are not those of the configuration.
    pub fn from_tensors(
        config: ModelConfig,
        preprocessor: Option<PreprocessorConfig>,
        tensors: &BTreeMap<String, Tensor>,
        place: impl Into<Place>,
    ) -> Result<Self, Error> {
        let place = place.into();
        let wide = tensors.iter().map(|(name, tensor)| {
            Ok((name.clone(), tensor.to_device(&place.device)?.to_dtype(place.dtype)?))
        });
        let tensors = wide.collect::<CandleResult<_>>()?;
        Self::build(config, preprocessor, tensors, Path::new("weights in memory"), place)
    }

    pub(crate) fn build(
        config: ModelConfig,
        preprocessor: Option<PreprocessorConfig>,
        tensors: BTreeMap<String, Tensor>,
        path: &Path,
        place: Place,
    ) -> Result<Self, Error> {
        let of = (place.dtype, &place.device);
        let network = match config.architecture() {
            Architecture::ImageClassification => {
                let vb = checked_var_builder(tensors, path, of, |vb| Classifier::new(&config, &vb))?;
                Network::Classifier(Box::new(Classifier::new(&config, &vb)?))
            }
            Architecture::UniversalSegmentation => {
                let vb = checked_var_builder(tensors, path, of, |vb| Segmenter::new(&config, &vb))?;
                Network::Segmenter(Box::new(Segmenter::new(&config, &vb)?))
            }
        };
        Ok(Self { network, config, preprocessor, path: path.to_path_buf(), place })
    }

    /// A published model with random weights, for tests and measurements: what it computes means nothing.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] if there is no published model of that name.
    pub fn random(name: &str, place: impl Into<Place>) -> Result<Self, Error> {
        let place = place.into();
        let Place { device, dtype } = &place;
        let all = published_models();
        let Some(preset) = all.iter().find(|preset| preset.name == name) else {
            let known = all.into_iter().map(|preset| preset.name).collect();
            return Err(Error::UnknownPreset { name: name.to_owned(), known });
        };
        let config = preset.config.clone();
        let network = match config.architecture() {
            Architecture::ImageClassification => {
                let vb = random_weights(*dtype, device, |vb| Classifier::new(&config, &vb))?;
                Network::Classifier(Box::new(Classifier::new(&config, &vb)?))
            }
            Architecture::UniversalSegmentation => {
                let vb = random_weights(*dtype, device, |vb| Segmenter::new(&config, &vb))?;
                Network::Segmenter(Box::new(Segmenter::new(&config, &vb)?))
            }
        };
        let preprocessor = Some(preset.preprocessor.clone());
        let path = PathBuf::from(format!("{RANDOM}{name}"));
        Ok(Self { network, config, preprocessor, path, place })
    }

    /// A model by what a user calls it: a folder, `random:NAME` for a published model with random weights, or, with the feature
    /// `hub`, the name of a model on the Hugging Face hub.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::random`], or if the hub has no such model.
    pub fn from_pretrained(model: impl AsRef<Path>, place: impl Into<Place>) -> Result<Self, Error> {
        Self::from_pretrained_at(model, "main", place)
    }

    /// As [`Self::from_pretrained`], at a revision of the hub: a branch, a tag or a commit. Folders have none.
    ///
    /// # Errors
    /// The same.
    #[cfg_attr(not(feature = "hub"), allow(unused_variables, reason = "only the hub has revisions"))]
    pub fn from_pretrained_at(
        model: impl AsRef<Path>,
        revision: &str,
        place: impl Into<Place>,
    ) -> Result<Self, Error> {
        let model = model.as_ref();
        if let Some(name) = model.to_str().and_then(|name| name.strip_prefix(RANDOM)) {
            return Self::random(name, place);
        }
        #[cfg(feature = "hub")]
        if let aff_weights::ModelName::Hub(id) = aff_weights::ModelName::of(model)? {
            return Self::load(aff_weights::Hub::from_env().fetch(id, revision)?, place);
        }
        Self::load(model, place)
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Number of trained numbers.
    ///
    /// # Errors
    /// [`Error::Network`] if the network cannot be built.
    pub fn num_parameters(&self) -> Result<usize, Error> {
        let config = &self.config;
        let shapes = match &self.network {
            Network::Classifier(_) => expected_tensors(|vb| Classifier::new(config, &vb))?,
            Network::Segmenter(_) => expected_tensors(|vb| Segmenter::new(config, &vb))?,
        };
        let trained = shapes.iter().filter(|(name, _)| !name.contains(".running_"));
        Ok(trained.map(|(_, shape)| shape.iter().product::<usize>()).sum())
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the model was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where and in what numbers the network computes.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What `preprocessor_config.json` says.
    ///
    /// # Errors
    /// [`Error::NoPreprocessor`] if the folder has none.
    pub fn preprocessor(&self) -> Result<&PreprocessorConfig, Error> {
        self.preprocessor.as_ref().ok_or_else(|| Error::NoPreprocessor { path: self.path.clone() })
    }

    /// The network's input from a file: an image, which is preprocessed as the folder says, or a `.safetensors` file whose
    /// `pixel_values` are taken as they are.
    ///
    /// # Errors
    /// [`Error::Vision`] for a file that is not an image, [`Error::NoPixelValues`] for a safetensors file without them,
    /// [`Error::NoPreprocessor`].
    pub fn pixel_values(&self, path: impl AsRef<Path>) -> Result<Tensor, Error> {
        let path = path.as_ref();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
            return self.stored_pixel_values(path);
        }
        let image = aff_vision::open(path)?;
        Ok(to_tensor(&self.preprocessor()?.apply(&image)?, &self.place)?)
    }

    fn stored_pixel_values(&self, path: &Path) -> Result<Tensor, Error> {
        let refuse = |problem| Error::NoPixelValues { path: path.to_path_buf(), problem };
        let mut tensors = read_tensor_file(path, &self.place.device)?;
        let Some(values) = tensors.remove("pixel_values") else {
            let names: Vec<String> = tensors.into_keys().take(8).collect();
            return Err(refuse(format!("it has no `pixel_values` (but {})", names.join(", "))));
        };
        if values.rank() != 4 || values.dims()[1] != 3 || !values.dtype().is_float() {
            return Err(refuse(format!("`pixel_values` are {:?} {:?}", values.dtype(), values.dims())));
        }
        Ok(values.to_dtype(self.place.dtype)?)
    }

    /// Runs the network and names everything that comes out, for comparison and plots.
    ///
    /// A classifier gives `logits` and `stage1` .. `stage4`, the tokens that leave each stage (after its downsampling);
    /// a segmenter gives `pred_logits`, `pred_masks` (on the stride-4 canvas) and `res2` .. `res5`, the normalised tokens
    /// of each stage before its downsampling. Tokens are a `.feat` of `[B,N,C]` and a `.pos` of i32 `[B,N,2]`, `(x, y)`,
    /// in raster order.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`, normalised
    ///
    /// # Errors
    /// [`Error::Network`] if the input is not of that shape.
    pub fn features(&self, pixel_values: &Tensor) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut out = BTreeMap::new();
        match &self.network {
            Network::Classifier(classifier) => {
                let output = classifier.forward(pixel_values, Phase::Inference)?;
                out.insert("logits".to_owned(), output.logits.clone());
                for (stage, output) in output.stages.iter().enumerate() {
                    insert_tokens(&mut out, &format!("stage{}", stage + 1), output.leaving())?;
                }
            }
            Network::Segmenter(segmenter) => {
                let features = segmenter.features(pixel_values, Phase::Inference)?;
                for (stage, tokens) in features.levels.iter().enumerate() {
                    insert_tokens(&mut out, &format!("res{}", stage + 2), tokens)?;
                }
                let prediction = segmenter.predict(&features, Auxiliary::Drop)?.prediction;
                out.insert("pred_logits".to_owned(), prediction.class_logits);
                out.insert("pred_masks".to_owned(), prediction.mask_logits);
            }
        }
        Ok(out)
    }
}

fn insert_tokens(out: &mut BTreeMap<String, Tensor>, name: &str, tokens: &Tokens) -> CandleResult<()> {
    let tokens = tokens.to_raster()?;
    let pos: Vec<i32> = tokens.pos.as_slice().iter().flatten().copied().collect();
    let pos = Tensor::from_vec(pos, (tokens.batch(), tokens.count(), 2), &Device::Cpu)?;
    out.insert(format!("{name}.pos"), pos);
    out.insert(format!("{name}.feat"), tokens.feat);
    Ok(())
}

/// `[1,3,H,W]`
pub(crate) fn to_tensor(pixels: &PixelValues, place: &Place) -> CandleResult<Tensor> {
    let (height, width) = (pixels.padded.height as usize, pixels.padded.width as usize);
    Tensor::from_slice(&pixels.data, (1, 3, height, width), &place.device)?.to_dtype(place.dtype)
}
