//! Classes have the colours that people expect.

#![allow(clippy::unwrap_used)]

use autofocusformer::models::data_sets::DataSet;
use autofocusformer::vision::{Palette, RgbImage};
use autofocusformer::{BuiltInModel, Segmenter, palette};

fn color(labels: &[String], name: &str) -> [u8; 3] {
    let class = labels.iter().position(|label| label == name).unwrap();
    palette(labels).color(u32::try_from(class).unwrap())
}

#[test]
fn data_sets_have_their_own_colors() {
    assert_eq!(color(&DataSet::Cityscapes.labels(), "car"), [0, 0, 142]);
    assert_eq!(color(&DataSet::CityscapesInstances.labels(), "car"), [0, 0, 142]);
    assert_eq!(color(&DataSet::CocoInstances.labels(), "toothbrush"), [191, 162, 208]);
    assert_eq!(color(&DataSet::Ade20k.labels(), "sky"), [6, 230, 230]);
    assert_eq!(color(&DataSet::Ade20k.labels(), "flag"), [92, 0, 255]);
    let own = ["sky".to_owned(), "sea".to_owned()];
    assert_eq!(palette(&own), Palette::of_labels(&own));
    if let Some(model) = BuiltInModel::named("aff-pico-camvid") {
        let labels: Vec<String> = model.config().unwrap().id2label.into_values().collect();
        assert_eq!(color(&labels, "bicyclist"), [0, 128, 192]);
    }
}

/// What is drawn has the colours of the data set: on a black photo, half of them.
#[test]
fn overlays_are_drawn_in_them() {
    let segmenter = Segmenter::builder("random:aff-mini-ade20k-semantic").shortest_edge(64).build().unwrap();
    let photo = RgbImage::new(64, 64);
    let segmentation = segmenter.segment(&photo).unwrap();
    let colors = palette(&DataSet::Ade20k.labels());
    let half = |color: [u8; 3]| color.map(|value| (f32::from(value) / 2.0).round() as u8);
    let picture = segmentation.overlay(&photo).unwrap();
    for segment in segmentation.segments() {
        let expected = half(colors.color(segment.label_id));
        assert!(picture.pixels().any(|pixel| pixel.0 == expected), "{}", segment.label);
    }
}
