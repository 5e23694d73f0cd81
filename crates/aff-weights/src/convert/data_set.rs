//! The data sets that configurations of the published implementation name.

use aff_model::data_sets::DataSet;

/// The data set that detectron2 registers under a name such as `ade20k_sem_seg_val`; `None` if its classes are not known here.
pub(super) fn of_detectron2(name: &str) -> Option<DataSet> {
    if name.starts_with("ade20k_sem_seg") || name.starts_with("ade20k_panoptic") {
        Some(DataSet::Ade20k)
    } else if name.starts_with("cityscapes_fine_instance") {
        Some(DataSet::CityscapesInstances)
    } else if name.starts_with("cityscapes_fine") {
        Some(DataSet::Cityscapes)
    } else if name.starts_with("coco_2017") && !name.contains("panoptic") && !name.contains("stuff") {
        Some(DataSet::CocoInstances)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_published_configurations() {
        for (name, expected) in [
            ("ade20k_sem_seg_val", Some(DataSet::Ade20k)),
            ("cityscapes_fine_panoptic_val", Some(DataSet::Cityscapes)),
            ("cityscapes_fine_instance_seg_val", Some(DataSet::CityscapesInstances)),
            ("coco_2017_val", Some(DataSet::CocoInstances)),
            ("coco_2017_val_panoptic_with_sem_seg", None),
            ("mapillary_vistas_sem_seg_val", None),
        ] {
            assert_eq!(of_detectron2(name), expected, "{name}");
        }
    }
}
