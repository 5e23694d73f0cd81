//! Model folders in the manner of Hugging Face.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aff_model::config::ModelConfig;
use aff_vision::PreprocessorConfig;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::Deserialize;

use crate::error::brief;
use crate::tensor_file::{TensorFile, write_file, write_tensor_file};
use crate::{KeyReport, TensorOptions, TensorShapes, WeightsError, expected_tensors};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Longest configuration in bytes; that of 21,841 classes has two million.
const LARGEST_CONFIG: u64 = 16 << 20;

/// A folder with a configuration and weights.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    preprocessor: Option<PreprocessorConfig>,
    /// Files that hold the weights.
    shards: Vec<PathBuf>,
}

/// `model.safetensors.index.json`
#[derive(Debug, Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ModelFolder {
    /// Reads the configuration files of a folder (or of the folder that a given safetensors file is in) and finds its weights, `model.safetensors` or the shards that
    /// `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// If the folder or a file is missing or is not what its name says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let mut path = path.as_ref().to_path_buf();
        let is_weights = |path: &Path| path.extension().is_some_and(|extension| extension == "safetensors");
        let weights = (path.is_file() && is_weights(&path)).then(|| path.clone());
        if let (Some(weights), Some(folder)) = (&weights, path.parent()) {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            if !folder.join(CONFIG).is_file() {
                let problem = format!("has no {CONFIG} beside it; expected the weights of a model folder");
                return Err(WeightsError::NotAModel { path: weights.clone(), problem });
            }
            path = folder.to_path_buf();
        }
        if !path.is_dir() {
            let problem = if path.exists() {
                "is a file; expected a model folder"
            } else {
                "there is no such folder; expected a model folder"
            };
            return Err(WeightsError::NotAModel { path, problem: problem.to_owned() });
        }
        let file = path.join(CONFIG);
        if !file.is_file() {
            let problem = format!("has no {CONFIG}; expected a model folder");
            return Err(WeightsError::NotAModel { path, problem });
        }
        let config = ModelConfig::from_json(&read(&file)?)
            .map_err(|source| WeightsError::Config { path: file.clone(), source })?;
        let file = path.join(PREPROCESSOR);
        let preprocessor = if file.is_file() {
            let parsed = serde_json::from_str(&read(&file)?);
            Some(parsed.map_err(|source| WeightsError::Preprocessor { path: file, source })?)
        } else {
            None
        };
        let shards = match weights {
            Some(weights) => vec![weights],
            None => shards(&path)?,
        };
        Ok(Self { path, config, preprocessor, shards })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What `preprocessor_config.json` says, if there is one.
    pub fn preprocessor(&self) -> Option<&PreprocessorConfig> {
        self.preprocessor.as_ref()
    }

    /// Loads all tensors, as `dtype`.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, holds numbers that are no weights (integers, 8-bit floats), or two shards have a tensor of
    /// the same name.
    pub fn tensors(&self, dtype: DType, device: &Device) -> Result<BTreeMap<String, Tensor>, WeightsError> {
        let mut tensors = BTreeMap::new();
        for shard in &self.shards {
            let mut file = TensorFile::open(shard)?;
            for name in file.names() {
                let found = file.dtype(&name)?;
                if !is_weight(found) {
                    let name = brief(&name);
                    let problem =
                        format!("tensor {name} has the type {found:?}; expected F16, BF16, F32 or F64");
                    return Err(WeightsError::Safetensors { path: shard.clone(), problem });
                }
            }
            file.read_all(device, |name, tensor| {
                if tensors.contains_key(&name) {
                    let problem = format!("tensor {} is in another shard as well", brief(&name));
                    return Err(WeightsError::Safetensors { path: shard.clone(), problem });
                }
                tensors.insert(name, tensor.to_dtype(dtype)?);
                Ok(())
            })?;
        }
        Ok(tensors)
    }

    /// Loads all tensors for a network, after comparing them with all that it asks for.
    ///
    /// # Errors
    /// As [`Self::tensors`]; [`WeightsError::Keys`] lists every tensor that is missing, unexpected or of another shape.
    pub fn checked_var_builder<M>(
        &self,
        dtype: DType,
        device: &Device,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<VarBuilder<'static>, WeightsError> {
        let path = if self.shards.len() == 1 { &self.shards[0] } else { &self.path };
        let options = TensorOptions { device: device.clone(), dtype };
        checked_var_builder(self.tensors(dtype, device)?, path, &options, build)
    }

    /// Writes a model folder: `config.json`, `preprocessor_config.json` if there is one, `model.safetensors`. Each file is
    /// written whole or not at all, and replaces one of its name.
    ///
    /// # Errors
    /// If the folder or a file cannot be written.
    pub fn write(
        path: impl AsRef<Path>,
        config: &ModelConfig,
        preprocessor: Option<&PreprocessorConfig>,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<(), WeightsError> {
        let path = path.as_ref();
        std::fs::create_dir_all(path).map_err(WeightsError::io(path, "create it"))?;
        let file = path.join(CONFIG);
        let text = config.to_json().map_err(|source| WeightsError::Config { path: file.clone(), source })?;
        write_file(&file, text.as_bytes())?;
        if let Some(preprocessor) = preprocessor {
            let file = path.join(PREPROCESSOR);
            let text = serde_json::to_string_pretty(preprocessor)
                .map_err(|source| WeightsError::Preprocessor { path: file.clone(), source })?;
            write_file(&file, (text + "\n").as_bytes())?;
        }
        write_tensor_file(&path.join(WEIGHTS), tensors)
    }
}

/// What a network is built from, after comparing tensors with all that it asks for. `path` is where they are from.
///
/// # Errors
/// [`WeightsError::Keys`] lists every tensor that is missing, unexpected or of another shape.
pub fn checked_var_builder<M>(
    tensors: BTreeMap<String, Tensor>,
    path: &Path,
    options: &TensorOptions,
    build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
) -> Result<VarBuilder<'static>, WeightsError> {
    let expected = expected_tensors(build)?;
    let found: TensorShapes =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
    let report = KeyReport::compare(&found, &expected);
    if !report.is_empty() {
        return Err(WeightsError::Keys { path: path.to_path_buf(), report });
    }
    Ok(VarBuilder::from_tensors(tensors.into_iter().collect(), options.dtype, &options.device))
}

/// Whether a network computes with numbers of this type. Eight bits and less need scales beside them, which nothing here knows.
fn is_weight(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

fn read(path: &Path) -> Result<String, WeightsError> {
    Ok(aff_files::read_to_string(path, LARGEST_CONFIG)?)
}

/// The files with the weights of a folder.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let single = folder.join(WEIGHTS);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join(INDEX);
    if !index.is_file() {
        let problem = format!("has neither {WEIGHTS} nor {INDEX}; the weights are missing");
        return Err(WeightsError::NotAModel { path: folder.to_path_buf(), problem });
    }
    let parsed: ShardIndex = serde_json::from_str(&read(&index)?).map_err(|error| {
        let problem = format!("not an index of shards: {}", brief(&error.to_string()));
        WeightsError::NotAModel { path: index.clone(), problem }
    })?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let shard = |name: String| {
        // A shard lies in the folder itself: an index must not make us read other files.
        let plain = Path::new(&name).file_name().is_some_and(|file| file == name.as_str());
        let path = folder.join(&name);
        if plain && path.is_file() {
            return Ok(path);
        }
        let problem = format!("names the shard {:?}, which is not a file in its folder", brief(&name));
        Err(WeightsError::NotAModel { path: index.clone(), problem })
    };
    names.into_iter().map(shard).collect()
}
