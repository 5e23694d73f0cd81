//! Which file is the checkpoint of which preset.

use crate::ConfigSource;

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCheckpoint {
    /// Of the preset, such as `aff-mini-ade20k-semantic`. Letters, digits and `-`.
    pub name: String,
    /// Where it is below the base, such as `segmentation/ade_sem/aff_mini.pth`.
    pub path: String,
    /// Where its configuration comes from.
    pub config: ConfigSource,
}

impl PublishedCheckpoint {
    fn new(name: String, path: String) -> Self {
        Self { config: ConfigSource::Preset(name.clone()), name, path }
    }
}

/// All published checkpoints, classifiers first.
///
/// ```
/// let all = aff_weights::published_checkpoints();
/// let mini = all.iter().find(|checkpoint| checkpoint.name == "aff-mini").unwrap();
/// assert_eq!(mini.path, "classification/aff_mini.pth");
/// ```
pub fn published_checkpoints() -> Vec<PublishedCheckpoint> {
    let mut all = Vec::new();
    let mut add = |name: String, path: String| all.push(PublishedCheckpoint::new(name, path));
    for size in ["mini", "tiny", "small"] {
        add(format!("aff-{size}"), format!("classification/aff_{size}.pth"));
        add(format!("aff-{size}-1-5"), format!("classification/aff_{size}_1_5th.pth"));
    }
    add("aff-base-22k".to_owned(), "classification/aff_base_22k.pth".to_owned());
    add("aff-base-384".to_owned(), "classification/aff_base_22kto1k_384.pth".to_owned());
    for (task, folder) in [("ade20k-semantic", "ade_sem"), ("coco-instance", "coco_ins")] {
        for size in ["mini", "tiny", "small"] {
            add(format!("aff-{size}-{task}"), format!("segmentation/{folder}/aff_{size}.pth"));
            add(format!("aff-{size}-1-5-{task}"), format!("segmentation/{folder}/aff_{size}_1_5th.pth"));
        }
    }
    for (task, folder) in [("cityscapes-instance", "city_ins"), ("cityscapes-panoptic", "city_pan")] {
        for size in ["mini", "tiny", "small"] {
            add(format!("aff-{size}-{task}"), format!("segmentation/{folder}/aff_{size}.pth"));
        }
        // For instances, the authors link the panoptic file; this is where theirs would be.
        add(format!("aff-base-{task}"), format!("segmentation/{folder}/aff_base_22kto1k_384.pth"));
    }
    all
}

/// The published checkpoint of a preset.
pub fn published_checkpoint(preset: &str) -> Option<PublishedCheckpoint> {
    published_checkpoints().into_iter().find(|checkpoint| checkpoint.name == preset)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_preset_has_a_checkpoint_of_its_own() {
        let all = published_checkpoints();
        let names: BTreeSet<&str> = all.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
        let presets = crate::published_models();
        let known: BTreeSet<&str> = presets.iter().map(|preset| preset.name.as_str()).collect();
        assert_eq!(names, known);
        let paths: BTreeSet<&str> = all.iter().map(|checkpoint| checkpoint.path.as_str()).collect();
        assert_eq!((all.len(), paths.len()), (presets.len(), presets.len()));
    }
}
