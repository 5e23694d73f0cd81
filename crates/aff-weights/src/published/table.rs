//! Which file is the checkpoint of which preset.

use crate::ConfigSource;

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PublishedCheckpoint {
    /// Of the preset, such as `aff-mini-ade20k-semantic`. Letters, digits and `-`.
    pub name: String,
    /// Where it is below the base, such as `segmentation/ade_sem/aff_mini.pth`.
    pub path: String,
    /// Where its configuration comes from.
    pub config: ConfigSource,
    /// The authors' figure of it, such as `mIoU 46.5`; empty where they state none.
    pub figure: &'static str,
    /// The authors' count of 10^9 multiply-adds for an image, where they state one.
    pub giga_macs: Option<f32>,
}

impl PublishedCheckpoint {
    fn new(name: String, path: String) -> Self {
        let known = FIGURES.iter().find(|(known, ..)| *known == name);
        let (figure, giga_macs) = known.map_or(("", None), |&(_, figure, giga_macs)| (figure, giga_macs));
        Self { config: ConfigSource::Preset(name.clone()), figure, giga_macs, name, path }
    }
}

/// As the authors state them, in percent, of ImageNet's, ADE20K's, Cityscapes' or COCO's validation images; and their count of 10^9
/// multiply-adds.
const FIGURES: [(&str, &str, Option<f32>); 27] = [
    ("aff-mini", "top-1 78.2, top-5 93.6", Some(1.08)),
    ("aff-mini-1-5", "top-1 77.5, top-5 93.3", Some(0.72)),
    ("aff-tiny", "top-1 83.0, top-5 96.3", Some(4.0)),
    ("aff-tiny-1-5", "top-1 82.4, top-5 95.9", Some(2.74)),
    ("aff-small", "top-1 83.5, top-5 96.6", Some(8.16)),
    ("aff-small-1-5", "top-1 83.4, top-5 96.5", Some(5.69)),
    ("aff-base-384", "top-1 86.2, top-5 98.0", Some(42.54)),
    ("aff-mini-ade20k-semantic", "mIoU 46.5", Some(48.3)),
    ("aff-mini-1-5-ade20k-semantic", "mIoU 46.0", Some(39.9)),
    ("aff-tiny-ade20k-semantic", "mIoU 50.2", Some(64.6)),
    ("aff-tiny-1-5-ade20k-semantic", "mIoU 50.0", Some(51.1)),
    ("aff-small-ade20k-semantic", "mIoU 51.2", Some(87.0)),
    ("aff-small-1-5-ade20k-semantic", "mIoU 51.9", Some(67.2)),
    ("aff-mini-cityscapes-instance", "AP 40.0", None),
    ("aff-tiny-cityscapes-instance", "AP 42.7", None),
    ("aff-small-cityscapes-instance", "AP 44.0", None),
    ("aff-base-cityscapes-instance", "AP 46.2", None),
    ("aff-mini-cityscapes-panoptic", "PQ 62.7", None),
    ("aff-tiny-cityscapes-panoptic", "PQ 65.7", None),
    ("aff-small-cityscapes-panoptic", "PQ 66.9", None),
    ("aff-base-cityscapes-panoptic", "PQ 67.7", None),
    ("aff-mini-coco-instance", "AP 42.3", Some(148.0)),
    ("aff-mini-1-5-coco-instance", "AP 42.3", Some(120.0)),
    ("aff-tiny-coco-instance", "AP 45.3", Some(204.0)),
    ("aff-tiny-1-5-coco-instance", "AP 44.5", Some(152.0)),
    ("aff-small-coco-instance", "AP 46.4", Some(281.0)),
    ("aff-small-1-5-coco-instance", "AP 45.7", Some(206.0)),
];

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

    use aff_model::config::Architecture;

    use super::*;

    #[test]
    fn every_preset_has_a_checkpoint_of_its_own() {
        let all = published_checkpoints();
        let names: BTreeSet<&str> = all.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
        // Nobody published detectors.
        let is_published =
            |preset: &crate::Preset| preset.config.architecture() != Architecture::ObjectDetection;
        let presets: Vec<_> = crate::published_models().into_iter().filter(is_published).collect();
        let known: BTreeSet<&str> = presets.iter().map(|preset| preset.name.as_str()).collect();
        assert_eq!(names, known);
        let paths: BTreeSet<&str> = all.iter().map(|checkpoint| checkpoint.path.as_str()).collect();
        assert_eq!((all.len(), paths.len()), (presets.len(), presets.len()));
        let silent: Vec<&str> =
            all.iter().filter(|one| one.figure.is_empty()).map(|one| one.name.as_str()).collect();
        assert_eq!(silent, ["aff-base-22k"]);
        for (name, ..) in FIGURES {
            assert!(names.contains(name), "{name} has figures and no checkpoint");
        }
    }
}
