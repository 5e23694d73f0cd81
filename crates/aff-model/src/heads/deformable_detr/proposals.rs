//! The first of two stages: boxes that the encoder's tokens propose.

use std::f64::consts::TAU;

use candle_core::{DType, IndexOp, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::references::References;
use super::{BoxHead, ProposalTrace, Start};
use crate::layers::{LayerNorm, Linear, linear};
use crate::macs::Macs;
use crate::transformer::{LEVELS, Memory};

/// Width and height of what a token of res3 proposes, in fractions of the canvas; doubles with each coarser level.
const PROPOSAL_SIZE: f64 = 0.05;
/// Base of the wavelengths that chosen boxes are embedded with.
const TEMPERATURE: f64 = 10_000.0;

/// Every token of the memory proposes a box; the best become queries.
#[derive(Debug, Clone)]
pub(super) struct Proposals {
    enc_output: Linear,
    enc_output_norm: LayerNorm,
    pos_trans: Linear,
    pos_trans_norm: LayerNorm,
    head: BoxHead,
    queries: usize,
    width: usize,
}

impl Proposals {
    pub(super) fn new(queries: usize, width: usize, head: BoxHead, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            enc_output: linear(width, width, &vb.pp("enc_output"))?,
            enc_output_norm: LayerNorm::new(width, &vb.pp("enc_output_norm"))?,
            pos_trans: linear(2 * width, 2 * width, &vb.pp("pos_trans"))?,
            pos_trans_norm: LayerNorm::new(2 * width, &vb.pp("pos_trans_norm"))?,
            head,
            queries,
            width,
        })
    }

    /// The queries, their references without gradient, and what all tokens propose, for the losses.
    pub(super) fn start(&self, memory: &Memory) -> Result<Start> {
        let feat = self.enc_output_norm.forward(&self.enc_output.forward(&memory.feat)?)?;
        let all = self.head.predict(&feat, &References::Boxes(proposed_boxes(memory)?))?;
        let best = best_tokens(&all.class_logits, self.queries)?;
        let boxes = all.boxes.detach();
        let chosen = best.iter().enumerate().map(|(image, best)| {
            let best = Tensor::new(best.as_slice(), boxes.device())?;
            boxes.i(image)?.index_select(&best, 0)
        });
        let references = Tensor::stack(&chosen.collect::<Result<Vec<_>>>()?, 0)?;
        let embedded = box_embedding(&references, self.width / 2)?;
        let queries = self.pos_trans_norm.forward(&self.pos_trans.forward(&embedded)?)?;
        Ok(Start {
            position: queries.narrow(2, 0, self.width)?.contiguous()?,
            content: queries.narrow(2, self.width, self.width)?.contiguous()?,
            references: References::Boxes(references),
            proposals: Some(ProposalTrace { prediction: all, chosen: best }),
        })
    }

    /// Cost for a memory of so many tokens, and the number of queries.
    pub(super) fn macs(&self, tokens: usize) -> (Macs, usize) {
        let queries = self.queries.min(tokens);
        let macs = self.enc_output.macs(tokens)
            + self.enc_output_norm.macs(tokens)
            + self.head.macs(tokens)
            + self.pos_trans.macs(queries)
            + self.pos_trans_norm.macs(queries);
        (macs, queries)
    }
}

/// A box around every token of the memory, `[B,N,4]`.
fn proposed_boxes(memory: &Memory) -> Result<Tensor> {
    let like = &memory.feat;
    let levels = memory.levels.iter().enumerate().map(|(level, tokens)| {
        let positions = tokens.tokens.positions();
        let (width, height) = (f64::from(positions.canvas().width()), f64::from(positions.canvas().height()));
        let size = PROPOSAL_SIZE * f64::from(1_u32 << (LEVELS - 1 - level));
        let boxes: Vec<f64> = positions
            .as_slice()
            .iter()
            .flat_map(|&[x, y]| [(f64::from(x) + 0.5) / width, (f64::from(y) + 0.5) / height, size, size])
            .collect();
        Tensor::from_vec(boxes, (positions.batch(), positions.tokens(), 4), like.device())
    });
    Tensor::cat(&levels.collect::<Result<Vec<_>>>()?, 1)?.to_dtype(like.dtype())
}

/// For each image the tokens of the highest logits of class 0, best first, ties in the order of the tokens.
fn best_tokens(class_logits: &Tensor, count: usize) -> Result<Vec<Vec<u32>>> {
    let scores = class_logits.detach().i((.., .., 0))?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let best = |scores: Vec<f64>| {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        order.truncate(count);
        order
    };
    Ok(scores.into_iter().map(best).collect())
}

/// Sines and cosines, alternating, of the four numbers of boxes `[B,Q,4]`: `[B,Q,4 * features]`.
fn box_embedding(boxes: &Tensor, features: usize) -> Result<Tensor> {
    let (batch, queries, _) = boxes.dims3()?;
    let frequencies: Vec<f64> =
        (0..features).map(|i| TEMPERATURE.powf(-((i / 2 * 2) as f64) / features as f64)).collect();
    let values = boxes.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let mut out = Vec::with_capacity(values.len() * features);
    for value in values {
        let angles = frequencies.iter().map(|frequency| value * TAU * frequency);
        out.extend(angles.enumerate().map(|(i, angle)| if i % 2 == 0 { angle.sin() } else { angle.cos() }));
    }
    Tensor::from_vec(out, (batch, queries, 4 * features), boxes.device())?.to_dtype(boxes.dtype())
}
