//! What the shapes of the tensors say about the network.

use std::path::Path;

use aff_model::config::{BackboneConfig, PaddingSlots};

use crate::{TensorShapes, WeightsError};

/// Tensor shapes of one checkpoint.
pub(super) struct Shapes<'a> {
    shapes: &'a TensorShapes,
    path: &'a Path,
}

/// What the shapes do not say about a backbone.
pub(super) struct Clustering {
    pub(super) cluster_size: usize,
    pub(super) neighborhood_sizes: [usize; 4],
    pub(super) downsample_rate: f64,
    pub(super) alpha: f64,
}

impl<'a> Shapes<'a> {
    pub(super) fn new(shapes: &'a TensorShapes, path: &'a Path) -> Self {
        Self { shapes, path }
    }

    /// Whether there is a tensor of a name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Length of an axis of a tensor.
    pub(super) fn dim(&self, name: &str, axis: usize) -> Result<usize, WeightsError> {
        let length = self.shapes.get(name).and_then(|shape| shape.get(axis)).copied();
        length.ok_or_else(|| {
            let problem =
                format!("has no tensor `{name}`, which every model of this kind has; is it another network?");
            WeightsError::convert(self.path, problem)
        })
    }

    /// How many of `prefix.0`, `prefix.1`, ... there are.
    pub(super) fn count(&self, prefix: &str) -> usize {
        let exists = |index: usize| {
            let start = format!("{prefix}.{index}.");
            self.shapes.range(start.clone()..).next().is_some_and(|(name, _)| name.starts_with(&start))
        };
        (0..).take_while(|&index| exists(index)).count()
    }

    /// The backbone whose parameters start with `prefix`.
    pub(super) fn backbone(
        &self,
        prefix: &str,
        clustering: &Clustering,
    ) -> Result<BackboneConfig, WeightsError> {
        let stage = |stage: usize| format!("{prefix}layers.{stage}.blocks");
        let each = |name: &str| -> Result<[usize; 4], WeightsError> {
            let mut values = [0; 4];
            for (index, value) in values.iter_mut().enumerate() {
                *value = self.dim(&format!("{}.0.{name}", stage(index)), 0)?;
            }
            Ok(values)
        };
        let embed_dims = each("norm1.weight")?;
        let hidden = each("mlp.fc1.weight")?;
        let ratios: Vec<f64> = hidden.iter().zip(embed_dims).map(|(&h, c)| h as f64 / c as f64).collect();
        if ratios.iter().any(|ratio| ratio.to_bits() != ratios[0].to_bits()) {
            return Err(self.problem(format!("its stages have different MLP ratios: {ratios:?}")));
        }
        let layer_scale = self.shapes.contains_key(&format!("{}.0.gamma1", stage(0)));
        let depths = [0, 1, 2, 3].map(|index| self.count(&stage(index)));
        let mut backbone = BackboneConfig::new(embed_dims, depths, each("attn.pos_embed.weight")?);
        backbone.mlp_ratio = ratios[0];
        backbone.cluster_size = clustering.cluster_size;
        backbone.neighborhood_sizes = clustering.neighborhood_sizes;
        backbone.padding_slots = PaddingSlots::FirstToken;
        backbone.downsample_rate = clustering.downsample_rate;
        backbone.alpha = clustering.alpha;
        backbone.layer_scale_init = layer_scale.then_some(1e-5);
        Ok(backbone)
    }

    /// Refuses a configuration that says something else than the shapes.
    pub(super) fn agree<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        said: Option<T>,
        shapes: &T,
    ) -> Result<(), WeightsError> {
        match said {
            Some(said) if said != *shapes => Err(self.problem(format!(
                "its tensors have {what} {shapes:?}, but the configuration says {said:?}; is it that of another model?"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn problem(&self, problem: impl Into<String>) -> WeightsError {
        WeightsError::convert(self.path, problem)
    }
}
