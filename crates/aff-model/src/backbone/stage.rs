//! A stage: cluster once, run the blocks, downsample.

use std::sync::Arc;

use candle_core::Result;
use candle_nn::VarBuilder;

use super::block::Block;
use super::downsample::{Downsample, Downsampled};
use super::geometry::{Clustering, StageGeometry};
use crate::config::BackboneConfig;
use crate::macs::Macs;
use crate::{Phase, Tokens};

/// Stages before this one end in a downsampling.
const LAST_STAGE: usize = 3;

/// What leaves a stage.
#[derive(Debug, Clone)]
pub struct StageOutput {
    /// Tokens after the blocks, before downsampling, in the order of the stage.
    pub tokens: Tokens,
    /// The downsampling; absent for the last stage.
    pub downsampled: Option<Downsampled>,
}

impl StageOutput {
    /// The tokens that leave the stage: after its downsampling where it has one.
    pub fn leaving(&self) -> &Tokens {
        self.downsampled.as_ref().map_or(&self.tokens, |downsampled| &downsampled.tokens)
    }
}

/// One of the four stages.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    clustering: Clustering,
    blocks: Vec<Block>,
    downsample: Option<Downsample>,
}

impl Stage {
    pub(super) fn new(config: &BackboneConfig, stage: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let before: usize = config.depths[..stage].iter().sum();
        let blocks = (0..config.depths[stage])
            .map(|block| Block::new(config, stage, before + block, &vb.pp("blocks").pp(block)))
            .collect::<Result<_>>()?;
        let downsample = (stage < LAST_STAGE).then(|| Downsample::new(config, stage, vb)).transpose()?;
        let clustering = Clustering {
            cluster_size: config.cluster_size,
            neighborhood_size: config.neighborhood_sizes[stage],
            padding_slots: config.padding_slots,
        };
        Ok(Self { clustering, blocks, downsample })
    }

    pub(super) fn forward(&self, tokens: &Tokens, phase: Phase) -> Result<StageOutput> {
        let geometry = StageGeometry::new(&tokens.layout, self.clustering)?;
        let mut feat = geometry.sort(&tokens.feat)?;
        for block in &self.blocks {
            feat = block.forward(&feat, &geometry, phase)?;
        }
        let tokens = Tokens::new(feat, Arc::clone(geometry.layout()))?;
        let downsampled = match &self.downsample {
            Some(downsample) => Some(downsample.forward(&tokens.feat, &geometry)?),
            None => None,
        };
        Ok(StageOutput { tokens, downsampled })
    }

    /// How many tokens go on to the next stage, on a canvas of these sides; all where there is no downsampling.
    pub(super) fn kept(&self, tokens: usize, height: usize, width: usize) -> usize {
        self.downsample.as_ref().map_or(tokens, |downsample| downsample.kept(tokens, height, width))
    }

    pub(super) fn macs(&self, tokens: usize, kept: usize, table: usize) -> Macs {
        let slots = self.clustering.slots(tokens);
        let blocks: Macs = self.blocks.iter().map(|block| block.macs(tokens, slots, table)).sum();
        let downsample = self.downsample.as_ref().map(|downsample| downsample.macs(tokens, slots, kept));
        blocks + downsample.unwrap_or_default()
    }
}
