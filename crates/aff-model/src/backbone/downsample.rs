//! Adaptive downsampling: keep the important tokens, merge their neighbours into them (section 5 of the method).

use aff_geometry::{Selection, SelectionOptions};
use aff_ops::Offset;
use aff_ops::neighborhood_merge::MergeGeometry;
use candle_core::{DType, Error, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::geometry::StageGeometry;
use crate::config::{BackboneConfig, Downsampling};
use crate::layers::{Linear, PointConv, backbone_linear};
use crate::macs::Macs;
use crate::tokens::{TokenLayout, Tokens};

/// What a downsampling did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Downsampled {
    /// The kept tokens in raster order, with their neighbours merged into them: `[B,N',C_next]`.
    pub tokens: Tokens,
    /// Importance of every token before downsampling, `[B,N]`, in the order of the stage.
    pub scores: Tensor,
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
        Ok(Downsampled { tokens: Tokens::new(merged, TokenLayout::raster(pos)?)?, scores, selections })
    }

    /// How many of a stage's tokens are kept on a canvas of these sides: `floor(N * rate)`, but never fewer than are reserved.
    pub(super) fn kept(&self, tokens: usize, height: usize, width: usize) -> usize {
        let stride = self.options.stride as usize;
        match self.downsampling {
            Downsampling::Adaptive => {
                let reserved = height.div_ceil(2 * stride) * width.div_ceil(2 * stride);
                ((tokens as f64 * self.options.rate) as usize).max(reserved)
            }
            Downsampling::Grid => height.div_ceil(stride) * width.div_ceil(stride),
        }
    }

    pub(super) fn macs(&self, tokens: usize, slots: usize, kept: usize) -> Macs {
        self.prob_net.macs(tokens) + self.merge.macs(kept, slots)
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
