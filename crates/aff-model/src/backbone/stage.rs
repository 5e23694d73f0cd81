//! A stage: cluster once, run the blocks, downsample.

use std::sync::Arc;

use aff_geometry::{ClusterOptions, clusters_per_neighborhood};
use aff_ops::{AttentionGeometry, ClusterNeighborhood, PaddingSlots, Positions};
use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;

use super::block::Block;
use super::downsample::{Downsample, Downsampled};
use crate::Phase;
use crate::config::BackboneConfig;
use crate::tokens::{Tokens, gather_tokens};

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

/// One of the four stages.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    cluster_size: usize,
    neighborhood_size: usize,
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
        Ok(Self {
            cluster_size: config.cluster_size,
            neighborhood_size: config.neighborhood_sizes[stage],
            blocks,
            downsample,
        })
    }

    pub(super) fn forward(&self, tokens: &Tokens, phase: Phase) -> Result<StageOutput> {
        let geometry = StageGeometry::new(&tokens.pos, self.cluster_size, self.neighborhood_size)?;
        let mut feat = geometry.sort(&tokens.feat)?;
        for block in &self.blocks {
            feat = block.forward(&feat, &geometry, phase)?;
        }
        let downsampled =
            self.downsample.as_ref().map(|downsample| downsample.forward(&feat, &geometry)).transpose()?;
        Ok(StageOutput { tokens: Tokens::new(feat, geometry.shared_positions())?, downsampled })
    }
}

/// The order in which a stage keeps its tokens, and their neighbourhoods: built once, borrowed by all its blocks.
///
/// Tokens are in cluster order, so that the members of a cluster lie together in memory. A stage with no more tokens
/// than a neighbourhood attends globally and keeps the order it was given.
#[derive(Debug, Clone)]
pub(super) struct StageGeometry {
    /// Token of the input at each place, `[B*N]`; `None` where the order is that of the input.
    order: Option<Vec<u32>>,
    positions: Arc<Positions>,
    neighborhood: ClusterNeighborhood,
}

impl StageGeometry {
    fn new(pos: &Arc<Positions>, cluster_size: usize, neighborhood_size: usize) -> Result<Self> {
        let (batch, tokens) = (pos.batch(), pos.tokens());
        if neighborhood_size >= tokens {
            let neighborhood = ClusterNeighborhood::all_keys(batch, tokens, tokens)?;
            return Ok(Self { order: None, positions: Arc::clone(pos), neighborhood });
        }
        let images: Vec<_> = pos.images().collect();
        let options = ClusterOptions::new(cluster_size);
        let clusters = aff_geometry::cluster_batch(&images, pos.canvas(), &options).map_err(Error::wrap)?;
        let order: Vec<u32> = clusters.iter().flat_map(|image| image.order().iter().copied()).collect();
        let positions = pos.select(&order)?;
        let nearest = positions
            .images()
            .zip(&clusters)
            .map(|(sorted, clusters)| {
                let r = clusters_per_neighborhood(neighborhood_size, cluster_size, clusters.len());
                aff_geometry::nearest_clusters(sorted, clusters, r)
            })
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let neighborhood = ClusterNeighborhood::from_clusters(&clusters, &nearest)?;
        Ok(Self { order: Some(order), positions: Arc::new(positions), neighborhood })
    }

    /// Positions in the order of the stage.
    pub(super) fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The same, to keep.
    pub(super) fn shared_positions(&self) -> Arc<Positions> {
        Arc::clone(&self.positions)
    }

    /// The neighbours of every token, all in the order of the stage.
    pub(super) fn neighborhood(&self) -> &ClusterNeighborhood {
        &self.neighborhood
    }

    /// What attention needs of this.
    pub(super) fn attention(&self) -> AttentionGeometry<'_> {
        AttentionGeometry {
            positions: &self.positions,
            neighborhood: &self.neighborhood,
            padding: PaddingSlots::LeftOut,
        }
    }

    /// Brings `[B,N,C]` from the order of the input to that of the stage.
    fn sort(&self, feat: &Tensor) -> Result<Tensor> {
        match &self.order {
            Some(order) => gather_tokens(feat, order),
            None => Ok(feat.clone()),
        }
    }
}
