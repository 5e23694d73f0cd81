//! Photos in, classes out.

use std::path::Path;

use aff_model::config::Architecture;
use aff_model::{Network, Phase};
use aff_vision::{PreprocessorConfig, RgbImage};
use aff_weights::TensorOptions;
use candle_core::DType;
use serde::Serialize;

use crate::Error;
use crate::model::{Model, to_tensor};

/// A classification network with everything around it.
///
/// ```
/// use autofocusformer::{Classifier, Device, vision};
///
/// // Random weights: the classes mean nothing.
/// let classifier = Classifier::from_pretrained("random:aff-mini", &Device::Cpu)?;
/// let best = classifier.classify(&vision::RgbImage::new(64, 48), 5)?;
/// assert_eq!(best.len(), 5);
/// assert!(best[0].score >= best[1].score);
/// # Ok::<(), autofocusformer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Classifier {
    network: Network,
    preprocessor: PreprocessorConfig,
    labels: Vec<String>,
    options: TensorOptions,
}

/// A class and how probable it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classification {
    /// The class.
    pub label_id: u32,
    /// Its name.
    pub label: String,
    /// Its probability.
    pub score: f32,
}

impl Classifier {
    /// Loads a classifier, by what [`Model::from_pretrained`] takes.
    ///
    /// # Errors
    /// What that returns; [`Error::WrongArchitecture`] if the model is a segmenter, [`Error::NoPreprocessor`] if its folder does not say
    /// how images become the network's input.
    pub fn from_pretrained(
        model: impl AsRef<Path>,
        options: impl Into<TensorOptions>,
    ) -> Result<Self, Error> {
        Model::from_pretrained(model, options)?.try_into()
    }

    /// The most probable classes of a photo, best first, at most `count`; ties by class.
    ///
    /// # Errors
    /// [`Error::Vision`] for an empty photo, [`Error::Network`] if the network fails.
    pub fn classify(&self, photo: &RgbImage, count: usize) -> Result<Vec<Classification>, Error> {
        let input = to_tensor(&self.preprocessor.apply(photo)?, &self.options)?;
        let logits = self.network.forward(&input, Phase::Inference)?.into_classes()?;
        let scores: Vec<f32> =
            aff_ops::softmax_last_dim(&logits)?.to_dtype(DType::F32)?.squeeze(0)?.to_vec1()?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let classification = |&class: &usize| Classification {
            label_id: class as u32,
            label: self.labels[class].clone(),
            score: scores[class],
        };
        Ok(order.iter().take(count).map(classification).collect())
    }
}

impl TryFrom<Model> for Classifier {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        if model.config().architecture() != Architecture::ImageClassification {
            return Err(Error::WrongArchitecture {
                path: model.path().to_path_buf(),
                expected: Architecture::ImageClassification.kind(),
                found: model.config().architecture().kind(),
            });
        }
        Ok(Self {
            network: model.network().clone(),
            preprocessor: model.preprocessor()?.clone(),
            labels: model.config().id2label.values().cloned().collect(),
            options: model.tensor_options().clone(),
        })
    }
}
