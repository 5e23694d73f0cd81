//! The whole network: the one place where any of them is built.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::backbone::{Backbone, StageOutput};
use crate::config::{Architecture, DecoderConfig, ModelConfig};
use crate::heads::{Auxiliary, Head, Output, deformable_detr};
use crate::layers::LayerNorm;
use crate::{Phase, Tokens};

/// Images in, what the head says about them out.
///
/// ```
/// use aff_model::{Network, Phase};
/// use aff_model::config::{BackboneConfig, ModelConfig};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
///
/// let backbone = BackboneConfig::new([8, 8, 8, 8], [1, 1, 1, 1], [1, 1, 1, 1]);
/// let config = ModelConfig::classifier(backbone, ["cat", "dog"].map(str::to_owned));
/// let variables = VarMap::new(); // random weights
/// let network = Network::new(&config, &VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
/// let image = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// let logits = network.forward(&image, Phase::Inference)?.into_classes()?;
/// assert_eq!(logits.dims(), [1, 2]);
/// # candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    pub(crate) backbone: Backbone,
    /// Norms of the stages' tokens before they leave the backbone; a classifier has none.
    norms: Option<Vec<LayerNorm>>,
    pub(crate) head: Head,
    config: Arc<ModelConfig>,
}

/// The backbone's part of a forward pass.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Features {
    /// What left each stage of the backbone.
    pub stages: [StageOutput; 4],
    /// res2, res3, res4, res5: the normalised tokens of each stage before its downsampling, in the order of the stage. A
    /// classifier has none.
    pub levels: Option<[Tokens; 4]>,
}

impl Features {
    pub(crate) fn levels(&self) -> Result<&[Tokens; 4]> {
        match &self.levels {
            Some(levels) => Ok(levels),
            None => {
                bail!("the features are those of a classifier; expected the normalised tokens of each stage")
            }
        }
    }
}

impl Network {
    /// Builds the network of a configuration. Parameters have the names of the published checkpoints.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape, or the configuration is not valid.
    pub fn new(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (backbone, norms) = match config.architecture() {
            Architecture::ImageClassification => (vb.clone(), None),
            Architecture::UniversalSegmentation | Architecture::ObjectDetection => {
                let vb = vb.pp("backbone");
                let dims = config.backbone_config.embed_dims.iter().enumerate();
                let norms = dims.map(|(stage, &dim)| LayerNorm::new(dim, &vb.pp(format!("norm{stage}"))));
                let norms = norms.collect::<Result<_>>()?;
                (vb, Some(norms))
            }
        };
        Ok(Self {
            backbone: Backbone::new(&config.backbone_config, &backbone)?,
            norms,
            head: Head::new(config, vb)?,
            config: Arc::new(config.clone()),
        })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Runs the backbone.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`, normalised images of any size
    ///
    /// # Errors
    /// If the input is not of that shape.
    pub fn features(&self, pixel_values: &Tensor, phase: Phase) -> Result<Features> {
        let stages = self.backbone.forward(pixel_values, phase)?;
        let levels = match self.norms.as_deref() {
            None => None,
            Some(norms) => {
                let mut normed = Vec::with_capacity(norms.len());
                for (stage, norm) in stages.iter().zip(norms) {
                    normed.push(
                        stage.tokens.with_feat(candle_core::Module::forward(norm, &stage.tokens.feat)?)?,
                    );
                }
                normed.try_into().ok()
            }
        };
        Ok(Features { stages, levels })
    }

    /// Runs the head on the backbone's tokens.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn predict(&self, features: &Features, auxiliary: Auxiliary) -> Result<Output> {
        self.head.predict(features, auxiliary)
    }

    /// Backbone and head in a row; in training with the predictions of all layers.
    ///
    /// # Shapes
    /// `pixel_values [B,3,H,W]`
    ///
    /// # Errors
    /// If the input is not of that shape.
    pub fn forward(&self, pixel_values: &Tensor, phase: Phase) -> Result<Output> {
        let auxiliary = if phase.is_training() { Auxiliary::Keep } else { Auxiliary::Drop };
        self.predict(&self.features(pixel_values, phase)?, auxiliary)
    }

    /// Names and shapes of the tensors that the network of a configuration is built from. Nothing is loaded or allocated.
    ///
    /// ```
    /// use aff_model::Network;
    /// use aff_model::config::{BackboneConfig, ModelConfig};
    ///
    /// let backbone = BackboneConfig::new([8, 8, 8, 8], [1, 1, 1, 1], [1, 1, 1, 1]);
    /// let config = ModelConfig::classifier(backbone, ["cat", "dog"].map(str::to_owned));
    /// let shapes = Network::expected_tensors(&config)?;
    /// assert_eq!(shapes["head.weight"], [2, 8]);
    /// # candle_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// If the configuration is not valid.
    pub fn expected_tensors(config: &ModelConfig) -> Result<BTreeMap<String, Vec<usize>>> {
        expected_tensors(|vb| Self::new(config, &vb))
    }

    /// How many numbers the network of a configuration learns; running statistics are not among them.
    ///
    /// # Errors
    /// If the configuration is not valid.
    pub fn num_parameters(config: &ModelConfig) -> Result<usize> {
        let shapes = Self::expected_tensors(config)?;
        let learnt = shapes.iter().filter(|(name, _)| is_learnt(name));
        Ok(learnt.map(|(_, shape)| shape.iter().product::<usize>()).sum())
    }

    /// First values of parameters that no distribution gives: tensors of these names are to be set to them before a training begins
    /// (section 13 of the method has some).
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn initial_values(config: &ModelConfig) -> Result<BTreeMap<String, Tensor>> {
        match &config.decoder_config {
            Some(DecoderConfig::DeformableDetr(decoder)) => {
                deformable_detr::initial_values(decoder, config.num_classes())
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    /// The network of a configuration with zeros for weights that take no memory: for what its shapes tell.
    pub(crate) fn of_zeros(config: &ModelConfig) -> Result<Self> {
        let shapes = ShapeRecorder::default();
        Self::new(config, &VarBuilder::from_backend(Box::new(shapes), DType::F32, Device::Cpu))
    }
}

/// Whether a tensor of a network is learnt; the running statistics of batch norms follow the data instead.
pub fn is_learnt(name: &str) -> bool {
    !name.contains(".running_")
}

/// Names and shapes of all tensors that `build` asks its builder for. Nothing is loaded or allocated.
///
/// ```
/// let shapes = aff_model::expected_tensors(|vb| candle_nn::linear(3, 2, vb.pp("head")))?;
/// assert_eq!(shapes["head.weight"], [2, 3]);
/// assert_eq!(shapes["head.bias"], [2]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Errors
/// What `build` returns.
pub fn expected_tensors<M>(
    build: impl FnOnce(VarBuilder<'_>) -> Result<M>,
) -> Result<BTreeMap<String, Vec<usize>>> {
    let recorder = ShapeRecorder::default();
    let shapes = Arc::clone(&recorder.shapes);
    build(VarBuilder::from_backend(Box::new(recorder), DType::F32, Device::Cpu))?;
    let mut shapes = shapes.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *shapes))
}

/// Notes what is asked for and answers with a zero that is broadcast to any shape.
#[derive(Default)]
struct ShapeRecorder {
    shapes: Arc<Mutex<BTreeMap<String, Vec<usize>>>>,
}

impl SimpleBackend for ShapeRecorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("{name}: asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
