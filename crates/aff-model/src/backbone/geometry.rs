//! Who neighbours whom in a stage.

use std::sync::Arc;

use aff_geometry::{ClusterOptions, clusters_per_neighborhood};
use aff_ops::{AttentionGeometry, ClusterNeighborhood, Positions};
use candle_core::{Error, Result, Tensor};

use crate::config::PaddingSlots;
use crate::tokens::{TokenLayout, gather_tokens};

/// How a stage clusters its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clustering {
    /// Tokens m of a cluster.
    pub(super) cluster_size: usize,
    /// Tokens of a neighbourhood.
    pub(super) neighborhood_size: usize,
    /// What attention makes of the slots that the last cluster leaves empty.
    pub(super) padding_slots: PaddingSlots,
}

impl Clustering {
    /// Slots of a token's neighbourhood among so many tokens.
    pub(super) fn slots(self, tokens: usize) -> usize {
        let Self { cluster_size, neighborhood_size, .. } = self;
        if neighborhood_size >= tokens {
            return tokens;
        }
        let clusters = tokens.div_ceil(cluster_size);
        clusters_per_neighborhood(neighborhood_size, cluster_size, clusters) * cluster_size
    }
}

/// The order in which a stage keeps its tokens, and their neighbourhoods: built once, borrowed by all its blocks.
///
/// Tokens are in cluster order, so that the members of a cluster lie together in memory. A stage with no more tokens
/// than a neighbourhood attends globally and keeps the order it was given.
#[derive(Debug, Clone)]
pub(super) struct StageGeometry {
    /// Token of the input in each slot of the new order, `[B*N]`; `None` where the order is that of the input.
    order: Option<Vec<u32>>,
    layout: Arc<TokenLayout>,
    neighborhood: ClusterNeighborhood,
    padding: aff_ops::PaddingSlots,
}

impl StageGeometry {
    /// Clusters tokens that lie in raster order.
    pub(super) fn new(input: &Arc<TokenLayout>, clustering: Clustering) -> Result<Self> {
        let pos = input.positions();
        let (batch, tokens) = (pos.batch(), pos.tokens());
        let padding = match clustering.padding_slots {
            PaddingSlots::LeftOut => aff_ops::PaddingSlots::LeftOut,
            PaddingSlots::FirstToken => aff_ops::PaddingSlots::FirstToken,
        };
        if clustering.neighborhood_size >= tokens {
            let neighborhood = ClusterNeighborhood::all_keys(batch, tokens, tokens)?;
            return Ok(Self { order: None, layout: Arc::clone(input), neighborhood, padding });
        }
        let images: Vec<_> = pos.images().collect();
        let Clustering { cluster_size, neighborhood_size, .. } = clustering;
        let options = ClusterOptions::new(cluster_size);
        let clusters = aff_geometry::cluster_batch(&images, pos.canvas(), &options).map_err(Error::wrap)?;
        let order: Vec<u32> = clusters.iter().flat_map(|image| image.order().iter().copied()).collect();
        let layout = input.clustered(&order)?;
        let nearest = layout
            .positions()
            .images()
            .zip(&clusters)
            .map(|(sorted, clusters)| {
                let r = clusters_per_neighborhood(neighborhood_size, cluster_size, clusters.len());
                aff_geometry::nearest_clusters(sorted, clusters, r)
            })
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let neighborhood = ClusterNeighborhood::from_clusters(&clusters, &nearest)?;
        Ok(Self { order: Some(order), layout, neighborhood, padding })
    }

    /// Where the tokens are, and in which order they lie in the stage.
    pub(super) fn layout(&self) -> &Arc<TokenLayout> {
        &self.layout
    }

    /// Positions in the order of the stage.
    pub(super) fn positions(&self) -> &Positions {
        self.layout.positions()
    }

    /// The neighbours of every token, all in the order of the stage.
    pub(super) fn neighborhood(&self) -> &ClusterNeighborhood {
        &self.neighborhood
    }

    /// What attention needs of this.
    pub(super) fn attention(&self) -> AttentionGeometry<'_> {
        AttentionGeometry {
            positions: self.positions(),
            neighborhood: &self.neighborhood,
            padding: self.padding,
        }
    }

    /// Brings `[B,N,C]` from the order of the input to that of the stage.
    pub(super) fn sort(&self, feat: &Tensor) -> Result<Tensor> {
        match &self.order {
            Some(order) => gather_tokens(feat, order),
            None => Ok(feat.clone()),
        }
    }
}
