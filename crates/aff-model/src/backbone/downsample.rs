//! Adaptive downsampling: keep the important tokens, merge their neighbours into them (section 5 of the method).

use std::sync::Arc;

use aff_geometry::{Selection, SelectionOptions};
use aff_ops::Offset;
use aff_ops::neighborhood_merge::MergeGeometry;
use candle_core::{DType, Error, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::stage::StageGeometry;
use crate::Tokens;
use crate::config::{BackboneConfig, Downsampling};
use crate::layers::{Linear, PointConv, backbone_linear};

/// What a downsampling did.
#[derive(Debug, Clone)]
pub struct Downsampled {
    /// The kept tokens in raster order, with their neighbours merged into them: `[B,N',C_next]`.
    pub tokens: Tokens,
    /// Importance of every token before downsampling, `[B,N]`, in the order of `positions`.
    pub scores: Tensor,
    /// Where those tokens are.
    pub positions: Arc<aff_ops::Positions>,
    /// For each image, which of those tokens were kept and why.
    pub selections: Vec<Selection>,
}

/// Importance scores, selection and merging at the end of a stage.
#[derive(Debug, Clone)]
pub(super) struct Downsample {
    prob_net: Linear,
    merge: PointConv,
    options: SelectionOptions,
    downsampling: Downsampling,
}

impl Downsample {
    /// Parameters `prob_net.*` and `downsample.*` of the stage.
    pub(super) fn new(config: &BackboneConfig, stage: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let channels = config.embed_dims[stage];
        Ok(Self {
            prob_net: backbone_linear(channels, 1, &vb.pp("prob_net"))?,
            merge: PointConv::new(channels, config.embed_dims[stage + 1], &vb.pp("downsample"))?,
            options: SelectionOptions {
                stride: 2 << stage,
                rate: config.downsample_rate,
                alpha: config.alpha,
            },
            downsampling: config.downsampling,
        })
    }

    /// `feat [B,N,C]` in the order of the geometry.
    pub(super) fn forward(&self, feat: &Tensor, geometry: &StageGeometry) -> Result<Downsampled> {
        let scores = candle_nn::ops::sigmoid(&self.prob_net.forward(feat)?)?.squeeze(2)?;
        let selections = self.select(&scores, geometry.positions())?;
        let kept: Vec<u32> = selections.iter().flat_map(|image| image.kept.iter().copied()).collect();

        let pos = geometry.positions().select(&kept)?;
        let merge = MergeGeometry {
            queries: &pos,
            keys: geometry.positions(),
            neighborhood: &geometry.neighborhood().select_queries(&kept)?.into(),
            offset: Offset::ToNeighbor,
        };
        let merged = self.merge.forward(feat, Some(&scores), &merge)?;
        Ok(Downsampled {
            tokens: Tokens::new(merged, Arc::new(pos))?,
            scores,
            positions: geometry.shared_positions(),
            selections,
        })
    }

    /// Chooses the tokens to keep; no gradient runs through the choice.
    fn select(&self, scores: &Tensor, positions: &aff_ops::Positions) -> Result<Vec<Selection>> {
        let scores = scores.detach().to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let select = |(pos, scores): (&[[i32; 2]], &Vec<f32>)| match self.downsampling {
            Downsampling::Adaptive => aff_geometry::select(pos, positions.canvas(), scores, &self.options),
            Downsampling::Grid => aff_geometry::select_grid(pos, positions.canvas(), self.options.stride),
        };
        let selections: std::result::Result<_, _> = positions.images().zip(&scores).map(select).collect();
        selections.map_err(Error::wrap)
    }
}
