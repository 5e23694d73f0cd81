//! A model of either kind, as its folder says.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use aff_model::config::ModelConfig;
use aff_model::{Auxiliary, Network, Output, Phase, Tokens};
use aff_vision::{DecodeLimits, PixelValues, PreprocessorConfig, RgbImage};
use aff_weights::{
    ModelFolder, TensorOptions, checked_var_builder, presets, random_weights, read_tensor_file,
};
use candle_core::{Device, Result as CandleResult, Tensor};

use crate::loader::RANDOM;
use crate::{Error, ModelLoader};

/// A network with the configuration it was built from.
#[derive(Debug, Clone)]
pub struct Model {
    network: Network,
    config: ModelConfig,
    preprocessor: Option<PreprocessorConfig>,
    path: PathBuf,
    options: TensorOptions,
}

impl Model {
    /// Loads the model in a folder: `config.json`, weights and, if there is one, `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a file is missing or damaged or the weights are not those of the configuration, listing
    /// every tensor that is missing, left over or of another shape.
    pub fn load(path: impl AsRef<Path>, options: impl Into<TensorOptions>) -> Result<Self, Error> {
        let (path, options) = (path.as_ref(), options.into());
        let folder = ModelFolder::open(path)?;
        let tensors = folder.tensors(options.dtype, &options.device)?;
        Self::build(folder.config().clone(), folder.preprocessor().cloned(), tensors, path, options)
    }

    /// A model from its configuration and weights in memory, such as those of a training run.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weights are not those of the configuration.
    pub fn from_tensors(
        config: ModelConfig,
        preprocessor: Option<PreprocessorConfig>,
        tensors: &BTreeMap<String, Tensor>,
        options: impl Into<TensorOptions>,
    ) -> Result<Self, Error> {
        let options = options.into();
        let wide = tensors.iter().map(|(name, tensor)| {
            Ok((name.clone(), tensor.to_device(&options.device)?.to_dtype(options.dtype)?))
        });
        let tensors = wide.collect::<CandleResult<_>>()?;
        Self::build(config, preprocessor, tensors, Path::new("weights in memory"), options)
    }

    pub(crate) fn build(
        config: ModelConfig,
        preprocessor: Option<PreprocessorConfig>,
        tensors: BTreeMap<String, Tensor>,
        path: &Path,
        options: TensorOptions,
    ) -> Result<Self, Error> {
        let vb = checked_var_builder(tensors, path, &options, |vb| Network::new(&config, &vb))?;
        let network = Network::new(&config, &vb)?;
        tracing::debug!(path = %path.display(), dtype = ?options.dtype, "loaded");
        Ok(Self { network, config, preprocessor, path: path.to_path_buf(), options })
    }

    /// A published model, or a detector on a published backbone, with random weights, for tests and measurements: what it computes means
    /// nothing.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] if there is no preset of that name.
    pub fn random(name: &str, options: impl Into<TensorOptions>) -> Result<Self, Error> {
        let options = options.into();
        let TensorOptions { device, dtype } = &options;
        let all = presets();
        let Some(preset) = all.iter().find(|preset| preset.name == name) else {
            let known = all.into_iter().map(|preset| preset.name).collect();
            return Err(Error::UnknownPreset { name: name.to_owned(), known });
        };
        let config = preset.config.clone();
        let vb = random_weights(*dtype, device, |vb| Network::new(&config, &vb))?;
        let network = Network::new(&config, &vb)?;
        let preprocessor = Some(preset.preprocessor.clone());
        let path = PathBuf::from(format!("{RANDOM}{name}"));
        Ok(Self { network, config, preprocessor, path, options })
    }

    /// A model by what a user calls it: one of this build ([`BuiltInModel`](crate::BuiltInModel)), a folder, `random:NAME` for a published model with random weights, or, with the
    /// feature `hub`, the name of a model on the Hugging Face hub.
    ///
    /// # Errors
    /// As [`Self::load`] and [`Self::random`], or if the hub has no such model.
    pub fn from_pretrained(name: impl AsRef<Path>, options: impl Into<TensorOptions>) -> Result<Self, Error> {
        let TensorOptions { device, dtype } = options.into();
        Self::loader(name).device(&device).dtype(dtype).load()
    }

    /// How to load a model that [`Self::from_pretrained`] takes, with a revision of the hub and more.
    pub fn loader(name: impl AsRef<Path>) -> ModelLoader {
        ModelLoader::new(name.as_ref())
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
        Ok(Network::num_parameters(&self.config)?)
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the model was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device and number type that the network computes with.
    pub fn tensor_options(&self) -> &TensorOptions {
        &self.options
    }

    /// What `preprocessor_config.json` says.
    ///
    /// # Errors
    /// [`Error::NoPreprocessor`] if the folder has none.
    pub fn preprocessor(&self) -> Result<&PreprocessorConfig, Error> {
        self.preprocessor.as_ref().ok_or_else(|| Error::NoPreprocessor { path: self.path.clone() })
    }

    /// The network's input for an image in memory, preprocessed as the folder says: `[1,3,H,W]`.
    ///
    /// ```
    /// use autofocusformer::{Device, Model, vision::RgbImage};
    ///
    /// let model = Model::random("aff-mini", &Device::Cpu)?;
    /// assert_eq!(model.pixel_values(&RgbImage::new(640, 480))?.dims(), [1, 3, 224, 224]);
    /// # Ok::<(), autofocusformer::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoPreprocessor`], [`Error::Vision`] for an empty image.
    pub fn pixel_values(&self, image: &RgbImage) -> Result<Tensor, Error> {
        Ok(to_tensor(&self.preprocessor()?.apply(image)?, &self.options)?)
    }

    /// The network's input from a file: an image, which is preprocessed as the folder says, or a safetensors file whose
    /// `pixel_values` are taken as they are. Which of them it is the content decides, not the name.
    ///
    /// # Errors
    /// [`Error::Vision`] for a file that is neither, [`Error::NoPixelValues`] for a safetensors file without them,
    /// [`Error::NoPreprocessor`].
    pub fn read_pixel_values(&self, path: impl AsRef<Path>) -> Result<Tensor, Error> {
        self.read_pixel_values_within(path, &DecodeLimits::default())
    }

    /// As [`Self::read_pixel_values`], with other limits for an image.
    ///
    /// # Errors
    /// The same.
    pub fn read_pixel_values_within(
        &self,
        path: impl AsRef<Path>,
        limits: &DecodeLimits,
    ) -> Result<Tensor, Error> {
        let path = path.as_ref();
        if is_tensor_file(path) {
            return self.stored_pixel_values(path);
        }
        self.pixel_values(&aff_vision::open_within(path, limits)?)
    }

    fn stored_pixel_values(&self, path: &Path) -> Result<Tensor, Error> {
        let refuse = |problem| Error::NoPixelValues { path: path.to_path_buf(), problem };
        let mut tensors = read_tensor_file(path, &self.options.device)?;
        let Some(values) = tensors.remove("pixel_values") else {
            let names: Vec<String> = tensors.into_keys().take(8).collect();
            return Err(refuse(format!("it has no `pixel_values` (but {})", names.join(", "))));
        };
        if values.rank() != 4 || values.dims()[1] != 3 || !values.dtype().is_float() {
            return Err(refuse(format!("`pixel_values` are {:?} {:?}", values.dtype(), values.dims())));
        }
        Ok(values.to_dtype(self.options.dtype)?)
    }

    /// Runs the network and names everything that comes out, for comparison and plots.
    ///
    /// A classifier gives `logits` and `stage1` .. `stage4`, the tokens that leave each stage (after its downsampling);
    /// a detector gives `pred_logits` and `pred_boxes`, a segmenter `pred_logits` and `pred_masks` (on the stride-4 canvas), and both
    /// give `res2` .. `res5`, the normalised tokens of each stage before its downsampling. Tokens are a `.feat` of `[B,N,C]` and a `.pos` of i32 `[B,N,2]`, `(x, y)`,
    /// in raster order.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`, normalised
    ///
    /// # Errors
    /// [`Error::Network`] if the input is not of that shape.
    pub fn features(&self, pixel_values: &Tensor) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut out = BTreeMap::new();
        let features = self.network.features(pixel_values, Phase::Inference)?;
        match &features.levels {
            Some(levels) => {
                for (stage, tokens) in levels.iter().enumerate() {
                    insert_tokens(&mut out, &format!("res{}", stage + 2), tokens)?;
                }
            }
            None => {
                for (stage, output) in features.stages.iter().enumerate() {
                    insert_tokens(&mut out, &format!("stage{}", stage + 1), output.leaving())?;
                }
            }
        }
        match self.network.predict(&features, Auxiliary::Drop)? {
            Output::Classes(logits) => {
                out.insert("logits".to_owned(), logits);
            }
            Output::Boxes(output) => {
                out.insert("pred_logits".to_owned(), output.prediction.class_logits);
                out.insert("pred_boxes".to_owned(), output.prediction.boxes);
            }
            output => {
                let prediction = output.into_masks()?.prediction;
                out.insert("pred_logits".to_owned(), prediction.class_logits);
                out.insert("pred_masks".to_owned(), prediction.mask_logits);
            }
        }
        Ok(out)
    }
}

/// Whether a file begins as safetensors files do: with the length of a JSON object that fits into the file, and the
/// object. No image format begins so.
fn is_tensor_file(path: &Path) -> bool {
    let start = || -> Option<([u8; 9], u64)> {
        let mut file = aff_files::open_regular(path).ok()?;
        let mut start = [0; 9];
        file.read_exact(&mut start).ok()?;
        Some((start, file.metadata().ok()?.len()))
    };
    start().is_some_and(|([length @ .., brace], size)| {
        brace == b'{' && u64::from_le_bytes(length) <= size.saturating_sub(8)
    })
}

fn insert_tokens(out: &mut BTreeMap<String, Tensor>, name: &str, tokens: &Tokens) -> CandleResult<()> {
    let tokens = tokens.to_raster()?;
    let pos: Vec<i32> = tokens.positions().as_slice().iter().flatten().copied().collect();
    let pos = Tensor::from_vec(pos, (tokens.batch(), tokens.count(), 2), &Device::Cpu)?;
    out.insert(format!("{name}.pos"), pos);
    out.insert(format!("{name}.feat"), tokens.feat);
    Ok(())
}

/// `[1,3,H,W]`
pub(crate) fn to_tensor(pixels: &PixelValues, options: &TensorOptions) -> CandleResult<Tensor> {
    let (height, width) = (pixels.padded.height as usize, pixels.padded.width as usize);
    Tensor::from_slice(&pixels.data, (1, 3, height, width), &options.device)?.to_dtype(options.dtype)
}
