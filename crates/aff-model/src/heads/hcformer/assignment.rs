//! How much the tokens of a stage belong to those it was downsampled to.

use aff_geometry::k_nearest;
use aff_ops::{AssignmentGeometry, NeighborLists, SoftAssignment, soft_assignment, weighted_gather};
use candle_core::{Error, Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::Tokens;
use crate::backbone::StageOutput;
use crate::config::HcFormerConfig;
use crate::layers::{LayerNorm, Linear, linear_no_bias};
use crate::macs::{Macs, PHI, performed};
use crate::tokens::gather_tokens;

/// Initial temperature of an assignment.
const INITIAL_TEMPERATURE: f64 = 0.1;

/// The assignment of one stage.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    fine_norm: LayerNorm,
    fine: Linear,
    coarse_norm: LayerNorm,
    coarse: Linear,
    /// `[1]`
    temperature: Tensor,
    /// `[5]`
    position_weight: Tensor,
    neighbors: usize,
}

impl Assignment {
    pub(super) fn new(
        config: &HcFormerConfig,
        embed_dims: &[usize; 4],
        stage: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (fine, coarse) = (embed_dims[stage], embed_dims[stage + 1]);
        Ok(Self {
            fine_norm: LayerNorm::new(fine, &vb.pp("fine_norm"))?,
            fine: linear_no_bias(fine, config.assignment_dim, &vb.pp("fine"))?,
            coarse_norm: LayerNorm::new(coarse, &vb.pp("coarse_norm"))?,
            coarse: linear_no_bias(coarse, config.assignment_dim, &vb.pp("coarse"))?,
            temperature: vb.get_with_hints(1, "tau", Init::Const(INITIAL_TEMPERATURE))?,
            position_weight: vb.get_with_hints(PHI, "position_weight", Init::Const(0.0))?,
            neighbors: config.assignment_neighbors,
        })
    }

    /// `[1]`
    pub(super) fn temperature(&self) -> &Tensor {
        &self.temperature
    }

    /// The decoder from `next`, the tokens of the next stage in its order, to the tokens of this stage.
    pub(super) fn decoder(&self, stage: &StageOutput, next: &Tokens) -> Result<MaskDecoder> {
        let Some(downsampled) = &stage.downsampled else { bail!("HCFormer: a stage has no downsampling") };
        let (fine, coarse) = (&stage.tokens, &downsampled.tokens);
        let nearest = coarse
            .positions()
            .images()
            .zip(fine.positions().images())
            .map(|(coarse, fine)| k_nearest(coarse, fine, self.neighbors))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let neighbors = NeighborLists::from_nearest_points(coarse.count(), &nearest)?;
        let inputs = SoftAssignment {
            fine: &self.fine.forward(&self.fine_norm.forward(&fine.feat)?)?,
            coarse: &self.coarse.forward(&self.coarse_norm.forward(&coarse.feat)?)?,
            temperature: &self.temperature,
            position_weight: &self.position_weight,
        };
        let geometry =
            AssignmentGeometry { fine: fine.positions(), coarse: coarse.positions(), neighbors: &neighbors };
        let weights = soft_assignment(&inputs, &geometry)?;
        performed(weights.elem_count() * (inputs.fine.dim(2)? + PHI));
        Ok(MaskDecoder { weights, neighbors, coarse_order: next.layout.raster_order() })
    }

    pub(super) fn macs(&self, fine: usize, coarse: usize, queries: usize) -> Macs {
        let width = self.fine.weight().dims()[0];
        self.fine_norm.macs(fine)
            + self.fine.macs(fine)
            + self.coarse_norm.macs(coarse)
            + self.coarse.macs(coarse)
            + Macs::executed(fine * self.neighbors.min(coarse) * (width + PHI + queries))
    }
}

/// Hands mask logits from coarse tokens to fine ones.
pub(super) struct MaskDecoder {
    /// `[B,N,k]`
    weights: Tensor,
    neighbors: NeighborLists,
    /// The coarse tokens, which come in the order of their stage, in raster order: `[B*N']`.
    coarse_order: Vec<u32>,
}

impl MaskDecoder {
    /// `[B,Q,N']` -> `[B,Q,N]`
    pub(super) fn decode(&self, mask_logits: &Tensor) -> Result<Tensor> {
        let tokens = mask_logits.transpose(1, 2)?.contiguous()?;
        let raster = gather_tokens(&tokens, &self.coarse_order)?;
        performed(self.weights.elem_count() * mask_logits.dim(1)?);
        weighted_gather(&raster, &self.weights, &self.neighbors)?.transpose(1, 2)?.contiguous()
    }
}
