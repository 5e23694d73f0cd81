//! Conversion of reference checkpoints into model folders (section 12 of the method).
//!
//! Parameter names stay what they are, so that conversion is a matter of the configuration: what the shapes of the
//! tensors determine is taken from them, and a configuration that says otherwise is an error that names both.

mod card;
mod classifier;
mod data_set;
mod literal;
mod segmenter;
mod shapes;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aff_files::Protected;
use aff_model::Network;
use aff_model::config::{Architecture, ModelConfig};
use aff_vision::PreprocessorConfig;
use candle_core::{Device, Tensor};

use crate::error::brief;
use crate::folder::{CONFIG, PREPROCESSOR, WEIGHTS};
use crate::tensor_file::{TensorFile, write_file};
use crate::{Checkpoint, KeyReport, TensorShapes, WeightsError, write_tensor_file};

pub(crate) use classifier::preprocessor as classifier_preprocessor;
pub(crate) use segmenter::preprocessor as segmenter_preprocessor;

const CARD: &str = "README.md";

/// What to convert, and into what.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// A classification `.pth`, a segmentation `.pth` or a detectron2 `.pkl` of either.
    pub checkpoint: PathBuf,
    /// A classification checkpoint whose backbone replaces that of the segmentation checkpoint.
    pub backbone: Option<PathBuf>,
    /// The model folder to make.
    pub output: PathBuf,
    /// Where what the shapes do not say comes from.
    pub config: ConfigSource,
    /// Whether files of an earlier conversion may be replaced.
    pub overwrite: Overwrite,
    /// Whether the written tensors are read again and compared.
    pub verify: bool,
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// From the checkpoint itself: classification checkpoints carry theirs.
    Checkpoint,
    /// From a published model's name, such as `aff-mini-ade20k-semantic`.
    Preset(String),
    /// From a YAML file of the reference implementation.
    Yaml(PathBuf),
}

/// Whether existing files may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// They are an error, [`WeightsError::AlreadyConverted`].
    Refuse,
    /// They are replaced; other files of the folder stay.
    Replace,
}

/// What a conversion made.
#[derive(Debug, Clone)]
pub struct ConvertReport {
    /// The folder.
    pub output: PathBuf,
    /// What was converted.
    pub architecture: Architecture,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values in them.
    pub parameters: usize,
    /// Tensors of the checkpoint that are no weights and were left out.
    pub left_out: Vec<String>,
}

/// A configuration together with what images need.
struct Configured {
    model: ModelConfig,
    preprocessor: PreprocessorConfig,
}

/// Makes a model folder of a checkpoint: `config.json`, `preprocessor_config.json`, `model.safetensors` and a model card.
///
/// # Errors
/// If the checkpoint cannot be read, its configuration is unknown or contradicts its shapes, tensors are missing or left
/// over, or the folder cannot be written.
pub fn convert(options: &ConvertOptions) -> Result<ConvertReport, WeightsError> {
    check_output(options)?;
    let mut checkpoint = Checkpoint::read(&options.checkpoint)?;
    let (mut tensors, left_out) = weights(&mut checkpoint, &options.checkpoint)?;
    if let Some(path) = &options.backbone {
        let (backbone, _) = weights(&mut Checkpoint::read(path)?, path)?;
        graft(&mut tensors, &backbone, &options.checkpoint, path)?;
    }
    let shapes: TensorShapes =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();

    let segmenter = shapes.keys().any(|name| name.starts_with("sem_seg_head."));
    let configured = if segmenter {
        segmenter::configure(&shapes, &options.config, &options.checkpoint)?
    } else {
        classifier::configure(&shapes, &options.config, checkpoint.config.clone(), &options.checkpoint)?
    };
    configured
        .model
        .validate()
        .map_err(|error| WeightsError::convert(&options.checkpoint, error.to_string()))?;
    check_tensors(&configured.model, &shapes, &options.checkpoint)?;

    write_folder(options, &checkpoint, &configured, &tensors)?;
    if options.verify {
        verify(&options.output.join(WEIGHTS), &tensors)?;
    }
    Ok(ConvertReport {
        output: options.output.clone(),
        architecture: configured.model.architecture(),
        parameters: tensors.values().map(Tensor::elem_count).sum(),
        tensors: tensors.len(),
        left_out,
    })
}

/// Refuses outputs that are files, are read themselves, or hold an earlier conversion unless that may be replaced.
fn check_output(options: &ConvertOptions) -> Result<(), WeightsError> {
    let output = &options.output;
    if output.exists() && !output.is_dir() {
        return Err(WeightsError::convert(output, "is a file; expected a folder"));
    }
    let mut files = Protected::default();
    files.protect(&options.checkpoint);
    if let Some(backbone) = &options.backbone {
        files.protect(backbone);
    }
    if let ConfigSource::Yaml(yaml) = &options.config {
        files.protect(yaml);
    }
    for file in [CONFIG, PREPROCESSOR, WEIGHTS, CARD] {
        let path = output.join(file);
        files.claim(&path)?;
        if options.overwrite == Overwrite::Refuse && path.exists() {
            return Err(WeightsError::AlreadyConverted { path: output.clone(), file });
        }
    }
    Ok(())
}

/// Takes the checkpoint's weights as 32-bit floats, one after the other so that they are not held twice; also the names of what it
/// holds besides.
fn weights(
    checkpoint: &mut Checkpoint,
    path: &Path,
) -> Result<(BTreeMap<String, Tensor>, Vec<String>), WeightsError> {
    let is_weight = |name: &str| name != "criterion.empty_weight" && !name.ends_with(".num_batches_tracked");
    let mut weights = BTreeMap::new();
    let mut left_out = Vec::new();
    for (name, tensor) in std::mem::take(&mut checkpoint.tensors) {
        if !is_weight(&name) {
            left_out.push(name);
        } else if tensor.element_type().is_float() {
            weights.insert(name, tensor.to_tensor(&Device::Cpu)?);
        } else {
            let (name, found) = (brief(&name), tensor.element_type());
            let problem = format!("tensor {name} has the type {found:?}; expected F16, BF16, F32 or F64");
            return Err(WeightsError::convert(path, problem));
        }
    }
    Ok((weights, left_out))
}

/// Replaces the backbone of a segmenter by that of a classifier, tensor by tensor; the classifier's norm and head have no place
/// in a segmenter.
fn graft(
    segmenter: &mut BTreeMap<String, Tensor>,
    classifier: &BTreeMap<String, Tensor>,
    head: &Path,
    backbone: &Path,
) -> Result<(), WeightsError> {
    if !segmenter.keys().any(|name| name.starts_with("sem_seg_head.")) {
        let problem = "is no segmentation checkpoint; only under the head of one can another backbone be put";
        return Err(WeightsError::convert(head, problem));
    }
    let is_backbone = |name: &str| name.starts_with("patch_embed.") || name.starts_with("layers.");
    let shapes = |tensors: &BTreeMap<String, Tensor>, prefix: &str| -> TensorShapes {
        let own = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
        own.filter(|(name, _)| is_backbone(name))
            .map(|(name, tensor)| (name.to_owned(), tensor.dims().to_vec()))
            .collect()
    };
    let report = KeyReport::compare(&shapes(classifier, ""), &shapes(segmenter, "backbone."));
    if !report.is_empty() {
        return Err(WeightsError::Keys { path: backbone.to_path_buf(), report });
    }
    for (name, tensor) in classifier.iter().filter(|(name, _)| is_backbone(name)) {
        segmenter.insert(format!("backbone.{name}"), tensor.clone());
    }
    Ok(())
}

/// Compares the tensors with those of the network that the configuration describes.
fn check_tensors(config: &ModelConfig, shapes: &TensorShapes, path: &Path) -> Result<(), WeightsError> {
    let report = KeyReport::compare(shapes, &Network::expected_tensors(config)?);
    if report.is_empty() { Ok(()) } else { Err(WeightsError::Keys { path: path.to_path_buf(), report }) }
}

fn write_folder(
    options: &ConvertOptions,
    checkpoint: &Checkpoint,
    configured: &Configured,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), WeightsError> {
    let output = &options.output;
    let json = |error: &dyn std::fmt::Display| WeightsError::convert(output, error.to_string());
    let config = configured.model.to_json().map_err(|error| json(&error))?;
    let preprocessor =
        serde_json::to_string_pretty(&configured.preprocessor).map_err(|error| json(&error))? + "\n";
    let card = card::model_card(&options.checkpoint, checkpoint, &configured.model);

    std::fs::create_dir_all(output).map_err(WeightsError::io(output, "make the folder"))?;
    // An earlier conversion stops being a model before any of its files changes.
    if output.join(CONFIG).exists() {
        std::fs::remove_file(output.join(CONFIG))
            .map_err(WeightsError::io(output, "replace the earlier conversion in"))?;
    }
    // The configuration comes last: a folder without one is no model, so that a broken run leaves none behind.
    write_tensor_file(&output.join(WEIGHTS), tensors)?;
    write_file(&output.join(PREPROCESSOR), preprocessor.as_bytes())?;
    write_file(&output.join(CARD), card.as_bytes())?;
    write_file(&output.join(CONFIG), config.as_bytes())
}

/// Reads the written tensors again and compares every bit.
fn verify(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), WeightsError> {
    let mut written = TensorFile::open(path)?;
    if written.names().len() != tensors.len() {
        return Err(WeightsError::convert(path, "not all tensors were written"));
    }
    let bits = |tensor: &Tensor| -> candle_core::Result<Vec<u32>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    for (name, tensor) in tensors {
        let other = written.read(name, &Device::Cpu)?;
        if other.dims() != tensor.dims() || bits(&other)? != bits(tensor)? {
            return Err(WeightsError::convert(
                path,
                format!("tensor {} is not what was written", brief(name)),
            ));
        }
    }
    Ok(())
}
