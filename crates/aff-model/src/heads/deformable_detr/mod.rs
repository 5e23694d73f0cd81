//! The Deformable DETR head: boxes (section 13 of the method).
//!
//! Object queries look into the levels of the deformable encoder around a reference of their own, which is a point at first and, with
//! refinement, the box of the layer before. With two stages the references are the best boxes that the encoder's tokens propose.

mod decoder_layer;
mod proposals;
mod references;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::{Auxiliary, BoxOutput, BoxPrediction, HeadSizes};
use crate::Tokens;
use crate::boxes::inverse_sigmoid;
use crate::config::DeformableDetrConfig;
use crate::layers::{Linear, Mlp, embedding, linear};
use crate::macs::Macs;
use crate::transformer::{DeformableEncoder, DeformableEncoderSizes, DeformableSizes, LEVELS, Memory};

use decoder_layer::{DecoderLayer, DecoderSizes};
use proposals::Proposals;
use references::References;

/// Probability of every class at first.
const FIRST_PROBABILITY: f64 = 0.01;
/// Logit of the width and height of the first boxes around points.
const FIRST_SIZE_LOGIT: f32 = -2.0;

/// Encoder, queries, decoder layers, and heads for classes and boxes.
#[derive(Debug, Clone)]
pub struct DeformableDetrHead {
    encoder: DeformableEncoder,
    queries: Queries,
    layers: Vec<DecoderLayer>,
    /// One for each layer with refinement, else one for all.
    heads: Vec<BoxHead>,
    refines: bool,
    width: usize,
    points: usize,
}

/// Where queries and their first references come from.
#[derive(Debug, Clone)]
enum Queries {
    /// They are learnt.
    Learnt {
        /// `[Q,2C]`: position half, then content half.
        embedding: Tensor,
        reference_points: Linear,
    },
    /// They are the best of what the encoder's tokens propose.
    Proposed(Box<Proposals>),
}

/// Classes and boxes of queries.
#[derive(Debug, Clone)]
struct BoxHead {
    class_embed: Linear,
    bbox_embed: Mlp,
}

impl BoxHead {
    fn new(index: usize, width: usize, classes: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            class_embed: linear(width, classes, &vb.pp("class_embed").pp(index))?,
            bbox_embed: Mlp::new(&[width, width, width, 4], &vb.pp("bbox_embed").pp(index))?,
        })
    }

    /// `feat [B,Q,C]` and the references that the boxes are relative to.
    fn predict(&self, feat: &Tensor, references: &References) -> Result<BoxPrediction> {
        let delta = self.bbox_embed.forward(feat)?;
        let boxes = match references {
            References::Boxes(boxes) => (delta + inverse_sigmoid(boxes)?)?,
            References::Points(points) => {
                let center = (delta.narrow(2, 0, 2)? + inverse_sigmoid(points)?)?;
                Tensor::cat(&[&center, &delta.narrow(2, 2, 2)?], 2)?
            }
        };
        Ok(BoxPrediction {
            class_logits: self.class_embed.forward(feat)?,
            boxes: candle_nn::ops::sigmoid(&boxes)?,
        })
    }

    fn macs(&self, rows: usize) -> Macs {
        self.class_embed.macs(rows) + self.bbox_embed.macs(rows)
    }
}

/// What a decoder layer leaves.
#[derive(Debug)]
struct Decoded {
    /// `[B,Q,C]`
    hidden: Tensor,
    prediction: BoxPrediction,
}

/// What the head computes on its way, for comparisons with other implementations.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DetrTrace {
    /// The tokens of res5, res4 and res3 after the encoder, each `[B,N,C]`.
    pub memory: Vec<Tensor>,
    /// The first references, `[B,Q,2]` or with two stages `[B,Q,4]`.
    pub reference: Tensor,
    /// The queries after each decoder layer, `[B,Q,C]`.
    pub hidden: Vec<Tensor>,
    /// What each decoder layer predicts.
    pub predictions: Vec<BoxPrediction>,
    /// What the tokens of the memory propose, one level after the other, where the head has two stages.
    pub proposals: Option<ProposalTrace>,
}

/// The first of two stages.
#[derive(Debug, Clone)]
pub struct ProposalTrace {
    /// A class and a box of every token of the memory.
    pub prediction: BoxPrediction,
    /// For each image the tokens that became queries, best first.
    pub chosen: Vec<Vec<u32>>,
}

/// What the decoder starts from.
struct Start {
    /// `[B,Q,C]`
    position: Tensor,
    /// `[B,Q,C]`
    content: Tensor,
    references: References,
    proposals: Option<ProposalTrace>,
}

impl DeformableDetrHead {
    /// Parameters `input_proj.*`, `transformer.*`, `query_embed.*`, `class_embed.*` and `bbox_embed.*`.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn new(config: &DeformableDetrConfig, sizes: HeadSizes<'_>, vb: &VarBuilder<'_>) -> Result<Self> {
        let HeadSizes { embed_dims, queries, classes } = sizes;
        let width = config.hidden_dim;
        let attention = DeformableSizes {
            width,
            heads: config.num_attention_heads,
            points: config.num_sampling_points,
            shepard_power: config.shepard_power(),
        };
        let encoder = DeformableEncoderSizes {
            attention,
            layers: config.encoder_layers,
            feedforward: config.encoder_feedforward_dim,
        };
        let decoder = DecoderSizes { attention, feedforward: config.decoder_feedforward_dim };
        let transformer = vb.pp("transformer");
        let layers = (0..config.decoder_layers)
            .map(|layer| DecoderLayer::new(decoder, &transformer.pp("decoder.layers").pp(layer)))
            .collect::<Result<_>>()?;
        let head = |index: usize| BoxHead::new(index, width, classes, vb);
        let heads = if config.with_box_refine { config.decoder_layers } else { 1 };
        let queries = if config.two_stage {
            let head = head(config.decoder_layers)?;
            Queries::Proposed(Box::new(Proposals::new(queries, width, head, &transformer)?))
        } else {
            Queries::Learnt {
                embedding: embedding(queries, 2 * width, "query_embed", vb)?,
                reference_points: linear(width, 2, &transformer.pp("reference_points"))?,
            }
        };
        Ok(Self {
            encoder: DeformableEncoder::new(encoder, embed_dims, vb)?,
            queries,
            layers,
            heads: (0..heads).map(head).collect::<Result<_>>()?,
            refines: config.with_box_refine,
            width,
            points: config.num_sampling_points,
        })
    }

    /// Predicts boxes from the normalised tokens res2 to res5, of which it looks at the last three.
    pub(super) fn predict(&self, stages: &[Tokens; 4], auxiliary: Auxiliary) -> Result<BoxOutput> {
        let [_, res3, res4, res5] = stages;
        let DetrTrace { mut predictions, proposals, .. } = self.trace([res5, res4, res3])?;
        if auxiliary == Auxiliary::Drop {
            predictions.drain(..predictions.len().saturating_sub(1));
        }
        let proposals = proposals.filter(|_| auxiliary == Auxiliary::Keep);
        BoxOutput::new(predictions, proposals.map(|proposals| proposals.prediction))
    }

    /// Everything that is computed from the normalised tokens of res5, res4 and res3.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn trace(&self, levels: [&Tokens; LEVELS]) -> Result<DetrTrace> {
        let memory = self.encoder.forward(levels)?;
        let start = self.start(&memory)?;
        let (hidden, predictions) = self
            .decode(&memory, &start)?
            .into_iter()
            .map(|decoded| (decoded.hidden, decoded.prediction))
            .unzip();
        let (References::Points(reference) | References::Boxes(reference)) = start.references;
        Ok(DetrTrace {
            memory: memory.levels.iter().map(|level| level.tokens.feat.clone()).collect(),
            reference,
            hidden,
            predictions,
            proposals: start.proposals,
        })
    }

    fn start(&self, memory: &Memory) -> Result<Start> {
        match &self.queries {
            Queries::Learnt { embedding, reference_points } => {
                let batch = memory.feat.dim(0)?;
                let (queries, _) = embedding.dims2()?;
                let half = |half: usize| {
                    let half = embedding.narrow(1, half * self.width, self.width)?;
                    half.broadcast_as((batch, queries, self.width))?.contiguous()
                };
                let (position, content) = (half(0)?, half(1)?);
                let points = candle_nn::ops::sigmoid(&reference_points.forward(&position)?)?;
                Ok(Start { position, content, references: References::Points(points), proposals: None })
            }
            Queries::Proposed(proposals) => proposals.start(memory),
        }
    }

    /// What every layer leaves.
    fn decode(&self, memory: &Memory, start: &Start) -> Result<Vec<Decoded>> {
        let mut references = start.references.clone();
        let mut feat = start.content.clone();
        let mut decoded = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let points = references.on_canvas(memory, self.points)?;
            feat = layer.forward(&feat, &start.position, &points, memory)?;
            let prediction = self.heads[index.min(self.heads.len() - 1)].predict(&feat, &references)?;
            if self.refines {
                references = References::Boxes(prediction.boxes.detach());
            }
            decoded.push(Decoded { hidden: feat.clone(), prediction });
        }
        Ok(decoded)
    }

    pub(super) fn macs(&self, tokens: [usize; 4]) -> Vec<(&'static str, Macs)> {
        let levels: [usize; LEVELS] = [tokens[3], tokens[2], tokens[1]];
        let all: usize = levels.iter().sum();
        let (start, queries) = match &self.queries {
            Queries::Learnt { embedding, reference_points } => {
                let queries = embedding.dims()[0];
                (reference_points.macs(queries), queries)
            }
            Queries::Proposed(proposals) => proposals.macs(all),
        };
        let layers: Macs = self.layers.iter().map(|layer| layer.macs(queries, all)).sum();
        let heads = (0..self.layers.len()).map(|i| self.heads[i.min(self.heads.len() - 1)].macs(queries));
        vec![
            ("deformable encoder", self.encoder.macs(levels)),
            ("deformable decoder", start + layers),
            ("boxes", heads.sum()),
        ]
    }
}

/// What no distribution gives: rare classes at first, boxes that begin at their references, small where those are points.
pub(crate) fn initial_values(
    config: &DeformableDetrConfig,
    classes: usize,
) -> Result<BTreeMap<String, Tensor>> {
    let width = config.hidden_dim;
    let heads = match (config.with_box_refine, config.two_stage) {
        (true, true) => config.decoder_layers + 1,
        (true, false) => config.decoder_layers,
        (false, _) => 1,
    };
    let class_bias = -((1.0 - FIRST_PROBABILITY) / FIRST_PROBABILITY).ln();
    let mut values = BTreeMap::new();
    for head in 0..heads {
        let class_bias = Tensor::new(vec![class_bias; classes], &Device::Cpu)?.to_dtype(DType::F32)?;
        let from_points = head == 0 && !config.two_stage;
        let size = if from_points { FIRST_SIZE_LOGIT } else { 0.0 };
        let last = format!("bbox_embed.{head}.layers.2");
        values.insert(format!("class_embed.{head}.bias"), class_bias);
        values.insert(format!("{last}.weight"), Tensor::zeros((4, width), DType::F32, &Device::Cpu)?);
        values.insert(format!("{last}.bias"), Tensor::new(&[0.0, 0.0, size, size], &Device::Cpu)?);
    }
    Ok(values)
}

/// What a parameter of a Mask2Former network is called in a detector that begins from it; `None` where a detector has no such. They
/// share the backbone and the deformable encoder.
///
/// ```
/// use aff_model::heads::deformable_detr::name_in_detector;
///
/// assert_eq!(name_in_detector("backbone.norm3.bias"), Some("backbone.norm3.bias"));
/// let encoder = "sem_seg_head.pixel_decoder.transformer.level_embed";
/// assert_eq!(name_in_detector(encoder), Some("transformer.level_embed"));
/// assert_eq!(name_in_detector("sem_seg_head.predictor.query_feat.weight"), None);
/// ```
pub fn name_in_detector(name: &str) -> Option<&str> {
    if name.starts_with("backbone.") {
        return Some(name);
    }
    let name = name.strip_prefix("sem_seg_head.pixel_decoder.")?;
    (name.starts_with("input_proj.") || name.starts_with("transformer.")).then_some(name)
}
