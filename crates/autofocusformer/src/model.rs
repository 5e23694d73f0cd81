//! A model of either kind, as its folder says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aff_model::Tokens;
use aff_model::classifier::Classifier;
use aff_model::config::{Architecture, ModelConfig};
use aff_model::mask2former::Auxiliary;
use aff_model::segmenter::Segmenter;
use aff_vision::PreprocessorConfig;
use aff_weights::ModelFolder;
use candle_core::{DType, Device, Result as CandleResult, Tensor};

use crate::Error;

/// A network with the configuration it was built from.
#[derive(Debug, Clone)]
pub struct Model {
    network: Network,
    config: ModelConfig,
    preprocessor: Option<PreprocessorConfig>,
    path: PathBuf,
    device: Device,
}

/// Either kind of network.
#[derive(Debug, Clone)]
pub enum Network {
    /// Of [`Architecture::ImageClassification`].
    Classifier(Classifier),
    /// Of [`Architecture::UniversalSegmentation`].
    Segmenter(Segmenter),
}

impl Model {
    /// Loads the model in a folder: `config.json`, weights and, if there is one, `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a file is missing or damaged or the weights are not those of the configuration, listing
    /// every tensor that is missing, left over or of another shape.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let folder = ModelFolder::open(path.as_ref())?;
        let config = folder.config().clone();
        let network = match config.architecture() {
            Architecture::ImageClassification => {
                let vb =
                    folder.checked_var_builder(DType::F32, device, |vb| Classifier::new(&config, &vb))?;
                Network::Classifier(Classifier::new(&config, &vb)?)
            }
            Architecture::UniversalSegmentation => {
                let vb = folder.checked_var_builder(DType::F32, device, |vb| Segmenter::new(&config, &vb))?;
                Network::Segmenter(Segmenter::new(&config, &vb)?)
            }
        };
        let preprocessor = folder.preprocessor().cloned();
        Ok(Self { network, config, preprocessor, path: path.as_ref().to_path_buf(), device: device.clone() })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the model was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device that the network runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What `preprocessor_config.json` says.
    ///
    /// # Errors
    /// [`Error::NoPreprocessor`] if the folder has none.
    pub fn preprocessor(&self) -> Result<&PreprocessorConfig, Error> {
        self.preprocessor.as_ref().ok_or_else(|| Error::NoPreprocessor { path: self.path.clone() })
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
                let output = classifier.forward(pixel_values)?;
                out.insert("logits".to_owned(), output.logits.clone());
                for (stage, output) in output.stages.iter().enumerate() {
                    insert_tokens(&mut out, &format!("stage{}", stage + 1), output.leaving())?;
                }
            }
            Network::Segmenter(segmenter) => {
                let features = segmenter.features(pixel_values)?;
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
