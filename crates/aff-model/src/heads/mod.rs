//! The heads: what the network says about the tokens of the backbone.
//!
//! A head is a folder. To add one: its configuration in [`config`](crate::config), its folder with a forward pass and its cost, and an
//! arm for it in each of the matches of [`Head`]; everything else works with [`Network`](crate::Network) and [`Output`].

pub mod classifier;
pub mod deformable_detr;
pub mod hcformer;
pub mod mask2former;
mod output;

use candle_core::{Result, bail};
use candle_nn::VarBuilder;

use crate::config::{Architecture, DecoderConfig, ModelConfig};
use crate::macs::Macs;
use crate::network::Features;

use classifier::ClassifierHead;
use deformable_detr::DeformableDetrHead;
use hcformer::HcFormerHead;
use mask2former::Mask2FormerHead;
pub use output::{Auxiliary, BoxOutput, BoxPrediction, MaskOutput, MaskPrediction, Output};

/// Where the parameters of segmentation heads are.
const SEGMENTATION: &str = "sem_seg_head";

/// The head of a network.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Head {
    /// Classes of images.
    Classifier(ClassifierHead),
    /// Masks by a pixel decoder and masked attention.
    Mask2Former(Box<Mask2FormerHead>),
    /// Masks by soft assignments.
    HcFormer(Box<HcFormerHead>),
    /// Boxes by deformable attention.
    DeformableDetr(Box<DeformableDetrHead>),
}

/// What heads are built for.
#[derive(Debug, Clone, Copy)]
pub struct HeadSizes<'a> {
    /// Channels of the tokens of each stage.
    pub embed_dims: &'a [usize; 4],
    /// Object queries.
    pub queries: usize,
    /// Classes, without "no object".
    pub classes: usize,
}

impl Head {
    /// Builds the head of a configuration; the builder is at the root of the network.
    pub(crate) fn new(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let embed_dims = &config.backbone_config.embed_dims;
        let classes = config.num_classes();
        if config.architecture() == Architecture::ImageClassification {
            return Ok(Self::Classifier(ClassifierHead::new(embed_dims[3], classes, vb)?));
        }
        let (Some(decoder), Some(queries)) = (&config.decoder_config, config.num_queries) else {
            bail!("network: the configuration has no `decoder_config` or no `num_queries`")
        };
        let sizes = HeadSizes { embed_dims, queries, classes };
        Ok(match decoder {
            DecoderConfig::Mask2Former(decoder) => {
                Self::Mask2Former(Box::new(Mask2FormerHead::new(decoder, sizes, &vb.pp(SEGMENTATION))?))
            }
            DecoderConfig::HcFormer(decoder) => {
                Self::HcFormer(Box::new(HcFormerHead::new(decoder, sizes, &vb.pp(SEGMENTATION))?))
            }
            DecoderConfig::DeformableDetr(decoder) => {
                Self::DeformableDetr(Box::new(DeformableDetrHead::new(decoder, sizes, vb)?))
            }
        })
    }

    /// What the head makes of the backbone's tokens.
    pub(crate) fn predict(&self, features: &Features, auxiliary: Auxiliary) -> Result<Output> {
        match self {
            Self::Classifier(head) => head.predict(&features.stages).map(Output::Classes),
            Self::Mask2Former(head) => head.predict(features.levels()?, auxiliary).map(Output::Masks),
            Self::HcFormer(head) => head.predict(features, auxiliary).map(Output::Masks),
            Self::DeformableDetr(head) => head.predict(features.levels()?, auxiliary).map(Output::Boxes),
        }
    }

    /// Names of the head's parts and what they cost for stages of so many tokens.
    pub(crate) fn macs(&self, tokens: [usize; 4]) -> Vec<(&'static str, Macs)> {
        match self {
            Self::Classifier(head) => head.macs(tokens),
            Self::Mask2Former(head) => head.macs(tokens),
            Self::HcFormer(head) => head.macs(tokens),
            Self::DeformableDetr(head) => head.macs(tokens),
        }
    }
}
