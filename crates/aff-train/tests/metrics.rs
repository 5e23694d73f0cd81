//! Every metric against the figures of its official tool, on the cases of `fixtures/metrics` (made by `scripts/metric_goldens.py`).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use aff_train::data::IGNORED;
use aff_train::{
    AveragePrecision, CityscapesAp, CityscapesTruth, ConfusionMatrix, FoundObject, InstanceReport,
    ObjectAccuracy, PanopticQuality, PanopticTruth, PixelBox, RegionKind, Shape, TopK, TrueObject,
    TrueSegment,
};
use aff_vision::{CITYSCAPES_LABEL_IDS, ImageSize, LabelMap, PanopticMap, Rle, SegmentInfo};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The tools and we add up in different orders; a verdict that differs moves a figure by far more.
const TOLERANCE: f64 = 1e-6;

fn assert_figure(found: Option<f64>, expected: Option<f64>, figure: &str, case: &str) {
    let is_equal = match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= TOLERANCE,
        (found, expected) => found == expected,
    };
    assert!(is_equal, "{case}: {figure} is {found:?}; expected {expected:?}");
}

/// The cases of a file; fewer than 30 are a failure. `AFF_METRIC_GOLDENS` names another folder, for cases of other seeds.
fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/metrics");
    let path = std::env::var_os("AFF_METRIC_GOLDENS").map_or(own, PathBuf::from).join(file);
    let cases: Vec<T> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() >= 30, "{file} has {} cases", cases.len());
    cases
}

/// Values of a map, from pairs of a value and a count.
fn map<T: Copy>(runs: &[T]) -> Vec<T>
where
    usize: TryFrom<T, Error: std::fmt::Debug>,
{
    runs.chunks(2).flat_map(|run| std::iter::repeat_n(run[0], usize::try_from(run[1]).unwrap())).collect()
}

fn size([height, width]: [u32; 2]) -> ImageSize {
    ImageSize::new(height, width)
}

// COCO

#[derive(Deserialize)]
struct CocoCase<V> {
    name: String,
    max_detections: usize,
    categories: Vec<u32>,
    images: Vec<CocoImage<V>>,
    expected: CocoFigures,
}

/// Number, size, truth (category, shape, area, crowd), predictions (category, shape, score).
#[derive(Deserialize)]
struct CocoImage<V>(u64, [u32; 2], Vec<(u32, V, f64, u8)>, Vec<(u32, V, f64)>);

#[derive(Deserialize)]
struct CocoFigures {
    ap: Option<f64>,
    ap_50: Option<f64>,
    ap_75: Option<f64>,
    ap_small: Option<f64>,
    ap_medium: Option<f64>,
    ap_large: Option<f64>,
    by_category: Vec<Option<f64>>,
}

/// An image of a case as the metric takes it.
type Objects<S> = (u64, Vec<TrueObject<S>>, Vec<FoundObject<S>>);

impl<V> CocoCase<V> {
    fn objects<S: Shape>(&self, shape: impl Fn(&V, ImageSize) -> S) -> Vec<Objects<S>> {
        let class = |category: u32| self.categories.iter().position(|&own| own == category).unwrap();
        let image = |CocoImage(id, extent, truths, found): &CocoImage<V>| {
            let truth = |(category, value, area, crowd): &(u32, V, f64, u8)| TrueObject {
                class: class(*category),
                shape: shape(value, size(*extent)),
                area: *area,
                kind: if *crowd == 1 { RegionKind::Crowd } else { RegionKind::Object },
            };
            let object = |(category, value, score): &(u32, V, f64)| FoundObject {
                class: class(*category),
                shape: shape(value, size(*extent)),
                score: *score,
            };
            (*id, truths.iter().map(truth).collect(), found.iter().map(object).collect())
        };
        self.images.iter().map(image).collect()
    }

    fn names(&self) -> Vec<String> {
        self.categories.iter().map(ToString::to_string).collect()
    }
}

fn check_coco<V, S>(file: &str, shape: impl Fn(&V, ImageSize) -> S + Copy)
where
    V: DeserializeOwned,
    S: Shape + Clone,
{
    for case in cases::<CocoCase<V>>(file) {
        let images = case.objects(shape);
        let report = |images: &mut dyn Iterator<Item = &Objects<S>>| -> InstanceReport {
            let mut precision =
                AveragePrecision::new(case.categories.len()).with_max_detections(case.max_detections);
            for (id, truths, found) in images {
                precision.add(*id, truths, found).unwrap();
            }
            precision.report(&case.names())
        };
        let found = report(&mut images.iter());
        let expected = &case.expected;
        assert_figure(found.ap, expected.ap, "ap", &case.name);
        assert_figure(found.ap_50, expected.ap_50, "ap_50", &case.name);
        assert_figure(found.ap_75, expected.ap_75, "ap_75", &case.name);
        assert_figure(found.ap_small, expected.ap_small, "ap_small", &case.name);
        assert_figure(found.ap_medium, expected.ap_medium, "ap_medium", &case.name);
        assert_figure(found.ap_large, expected.ap_large, "ap_large", &case.name);
        for (class, &expected) in found.classes.iter().zip(&expected.by_category) {
            assert_figure(class.ap, expected, &class.name, &case.name);
        }
        // The order in which images are given changes nothing, even where scores are equal.
        assert_eq!(report(&mut images.iter().rev()), found, "{}", case.name);

        // What is true is found perfectly, if the data set has an object.
        let mut perfect = AveragePrecision::new(case.categories.len()).with_max_detections(1000);
        for (id, truths, _) in &images {
            let objects =
                truths.iter().filter(|truth| truth.kind == RegionKind::Object && truth.shape.area() > 0.0);
            let objects: Vec<TrueObject<S>> = objects.cloned().collect();
            let found: Vec<FoundObject<S>> = objects
                .iter()
                .map(|truth| FoundObject { class: truth.class, shape: truth.shape.clone(), score: 0.5 })
                .collect();
            perfect.add(*id, &objects, &found).unwrap();
        }
        let perfect = perfect.report(&case.names());
        assert!(perfect.ap.is_none_or(|ap| (ap - 1.0).abs() < 1e-12), "{}: {perfect:?}", case.name);
    }
}

#[test]
fn coco_masks_equal_pycocotools() {
    check_coco("coco_masks.json", |counts: &String, size| Rle::from_coco(size, counts).unwrap());
}

#[test]
fn coco_boxes_equal_pycocotools() {
    check_coco("coco_boxes.json", |&[left, top, width, height]: &[f64; 4], _| PixelBox {
        left,
        top,
        width,
        height,
    });
}

#[test]
fn objects_that_cannot_be_judged_are_refused() {
    let shape = PixelBox { left: 0.0, top: 0.0, width: 2.0, height: 2.0 };
    let truth = TrueObject::new(0, shape);
    let found = |class, shape, score| [FoundObject { class, shape, score }];
    let mut precision = AveragePrecision::new(2);
    let before = precision.report(&[]);
    let bad = PixelBox { width: -1.0, ..shape };
    let nan = PixelBox { left: f64::NAN, ..shape };
    for (objects, part) in [
        (found(2, shape, 0.5), "prediction 0: its class is 2; expected one below 2"),
        (found(0, shape, f64::NAN), "prediction 0: its score is not a number"),
        (found(0, bad, 0.5), "prediction 0: its box is [0, 0, -1, 2]; expected finite numbers"),
        (found(0, nan, 0.5), "prediction 0: its box is [NaN, 0, 2, 2]"),
    ] {
        let error = precision.add(1, std::slice::from_ref(&truth), &objects).unwrap_err().to_string();
        assert!(error.starts_with(part), "{error}");
    }
    let negative = TrueObject { area: -1.0, ..truth.clone() };
    let error = precision.add(1, &[negative], &[]).unwrap_err().to_string();
    assert_eq!(error, "truth 0: its area is -1; expected a number from 0");
    assert_eq!(precision.report(&[]), before);

    precision.add(1, std::slice::from_ref(&truth), &[]).unwrap();
    let error = precision.add(1, &[truth], &[]).unwrap_err().to_string();
    assert_eq!(error, "image 1 was counted already; expected each image once");

    let mask = |width| Rle::from_counts(ImageSize::new(1, width), &[0, width]).unwrap();
    let found = [FoundObject { class: 0, shape: mask(3), score: 0.5 }];
    let error =
        AveragePrecision::new(1).add(1, &[TrueObject::new(0, mask(2))], &found).unwrap_err().to_string();
    assert!(
        error.starts_with("prediction 0: its picture is 3 x 1 (width x height); expected 2 x 1"),
        "{error}"
    );
}

// Cityscapes

#[derive(Deserialize)]
struct CityscapesCase {
    name: String,
    images: Vec<CityscapesImage>,
    expected: CityscapesFigures,
}

/// Size, `instanceIds` as runs, predictions (label, counts, score).
#[derive(Deserialize)]
struct CityscapesImage([u32; 2], Vec<u16>, Vec<(u16, String, f64)>);

#[derive(Deserialize)]
struct CityscapesFigures {
    ap: Option<f64>,
    ap_50: Option<f64>,
    by_class: Vec<Option<f64>>,
}

#[test]
fn cityscapes_instances_equal_cityscapesscripts() {
    for case in cases::<CityscapesCase>("cityscapes_instances.json") {
        let report = |numbers: &mut dyn Iterator<Item = usize>| {
            let mut precision = CityscapesAp::new();
            for number in numbers {
                let CityscapesImage(extent, ids, found) = &case.images[number];
                let truth = CityscapesTruth::new(&LabelMap::new(size(*extent), map(ids)).unwrap()).unwrap();
                let object = |(label, counts, score): &(u16, String, f64)| FoundObject {
                    class: aff_train::CITYSCAPES_INSTANCE_IDS.iter().position(|own| own == label).unwrap(),
                    shape: Rle::from_coco(size(*extent), counts).unwrap(),
                    score: *score,
                };
                precision.add(number as u64, &truth, &found.iter().map(object).collect::<Vec<_>>()).unwrap();
            }
            precision.report()
        };
        let found = report(&mut (0..case.images.len()));
        assert_figure(found.ap, case.expected.ap, "ap", &case.name);
        assert_figure(found.ap_50, case.expected.ap_50, "ap_50", &case.name);
        for (class, &expected) in found.classes.iter().zip(&case.expected.by_class) {
            assert_figure(class.ap, expected, &class.name, &case.name);
        }
        assert_eq!(report(&mut (0..case.images.len()).rev()), found, "{}", case.name);
    }
}

/// The script fails on this: a class with an object where all that is predicted is ignored. It was not found.
#[test]
fn ignored_predictions_find_no_cityscapes_object() {
    let size = ImageSize::new(20, 20);
    let ids: Vec<u16> = (0..400).map(|at| if at < 200 { 26_001 } else { 26 }).collect();
    let truth = CityscapesTruth::new(&LabelMap::new(size, ids.clone()).unwrap()).unwrap();
    let group: Vec<bool> = ids.iter().map(|&id| id == 26).collect();
    let found = FoundObject { class: 2, shape: Rle::from_bitmap(size, &group).unwrap(), score: 0.9 };
    let mut precision = CityscapesAp::new();
    precision.add(0, &truth, &[found]).unwrap();
    assert_eq!(precision.report().ap, Some(0.0));
}

// Panoptic

#[derive(Deserialize)]
struct PanopticCase {
    name: String,
    /// Number, and whether it is things.
    categories: Vec<(u32, bool)>,
    images: Vec<PanopticImage>,
    expected: BTreeMap<String, Option<f64>>,
}

/// Size, true ids as runs, true segments (id, category, area, crowd), predicted ids, predicted segments (id, category).
#[derive(Deserialize)]
struct PanopticImage([u32; 2], Vec<u32>, Vec<(u32, u32, u64, u8)>, Vec<u32>, Vec<(u32, u32)>);

impl PanopticCase {
    fn class(&self, category: u32) -> usize {
        self.categories.iter().position(|own| own.0 == category).unwrap()
    }

    fn truth(&self, image: &PanopticImage) -> (Vec<u32>, Vec<TrueSegment>) {
        let segment = |&(id, category, area, crowd): &(u32, u32, u64, u8)| TrueSegment {
            id,
            class: self.class(category),
            area,
            kind: if crowd == 1 { RegionKind::Crowd } else { RegionKind::Object },
        };
        (map(&image.1), image.2.iter().map(segment).collect())
    }

    fn predicted(&self, image: &PanopticImage) -> PanopticMap {
        let ids = map(&image.3);
        panoptic_map(size(image.0), &ids, image.4.iter().map(|&(id, category)| (id, self.class(category))))
    }
}

fn panoptic_map(size: ImageSize, ids: &[u32], segments: impl Iterator<Item = (u32, usize)>) -> PanopticMap {
    let info = |(id, class)| SegmentInfo {
        id,
        label_id: class as u32,
        score: 1.0,
        was_fused: false,
        area: ids.iter().filter(|&&own| own == id).count() as u64,
    };
    PanopticMap::new(size, ids.to_vec(), segments.map(info).collect()).unwrap()
}

#[test]
fn panoptic_quality_equals_the_panoptic_api() {
    for case in cases::<PanopticCase>("panoptic.json") {
        let is_thing: Vec<bool> = case.categories.iter().map(|category| category.1).collect();
        let names: Vec<String> = case.categories.iter().map(|category| category.0.to_string()).collect();
        let mut quality = PanopticQuality::new(is_thing.clone());
        let mut perfect = PanopticQuality::new(is_thing);
        for image in &case.images {
            let (ids, segments) = case.truth(image);
            let truth = PanopticTruth { ids: &ids, segments: &segments };
            quality.add(truth, &case.predicted(image)).unwrap();
            // What is true is found perfectly; crowds need not be found.
            let objects = segments.iter().filter(|segment| segment.kind == RegionKind::Object);
            let objects: Vec<u32> = objects.map(|segment| segment.id).collect();
            let copy: Vec<u32> = ids.iter().map(|id| if objects.contains(id) { *id } else { 0 }).collect();
            let area = |id: u32| ids.iter().filter(|&&own| own == id).count() as u64;
            let own: Vec<TrueSegment> =
                segments.iter().map(|segment| TrueSegment { area: area(segment.id), ..*segment }).collect();
            let classes = segments.iter().filter(|segment| objects.contains(&segment.id));
            let copy = panoptic_map(size(image.0), &copy, classes.map(|segment| (segment.id, segment.class)));
            perfect.add(PanopticTruth { ids: &ids, segments: &own }, &copy).unwrap();
        }
        let report = quality.report(&names);
        let found = [
            ("pq", report.pq),
            ("sq", report.sq),
            ("rq", report.rq),
            ("pq_things", report.pq_things),
            ("pq_stuff", report.pq_stuff),
        ];
        for (figure, value) in found {
            assert_figure(value, case.expected[figure], figure, &case.name);
        }
        let perfect = perfect.report(&names);
        assert!(perfect.pq.is_none_or(|pq| (pq - 1.0).abs() < 1e-12), "{}: {perfect:?}", case.name);
    }
}

#[test]
fn panoptic_maps_that_cannot_be_judged_are_refused() {
    let size = ImageSize::new(1, 2);
    let predicted = panoptic_map(size, &[1, 1], [(1, 0)].into_iter());
    let segment = TrueSegment { id: 4, class: 0, area: 2, kind: RegionKind::Object };
    let mut quality = PanopticQuality::new(vec![true]);
    for (ids, segments, part) in [
        (&[4, 4, 4][..], vec![segment], "the prediction has 2 pixels; expected the 3 of the truth"),
        (&[4, 4], vec![TrueSegment { class: 1, ..segment }], "truth 0: its class is 1; expected one below 1"),
        (&[4, 4], vec![TrueSegment { id: 0, ..segment }], "truth 0: its id is 0; expected each id once"),
        (&[4, 4], vec![segment, segment], "truth 1: its id is 4; expected each id once"),
        (&[4, 4], vec![TrueSegment { area: 1, ..segment }], "truth 0: its area is 1; 2 pixels have its id"),
    ] {
        let error =
            quality.add(PanopticTruth { ids, segments: &segments }, &predicted).unwrap_err().to_string();
        assert!(error.starts_with(part), "{error}");
    }
    let other = panoptic_map(size, &[1, 1], [(1, 7)].into_iter());
    let error =
        quality.add(PanopticTruth { ids: &[4, 4], segments: &[segment] }, &other).unwrap_err().to_string();
    assert_eq!(error, "prediction 0: its class is 7; expected one below 1");
    assert_eq!(quality.report(&[]).images, 0);
}

// Semantic

#[derive(Deserialize)]
struct SemanticCase {
    name: String,
    tool: String,
    #[serde(default)]
    classes: usize,
    /// Truth and prediction as runs, with the numbers of the data set.
    images: Vec<(Vec<u16>, Vec<u16>)>,
    expected: SemanticFigures,
}

#[derive(Deserialize)]
struct SemanticFigures {
    mean_iou: Option<f64>,
    ious: Vec<Option<f64>>,
    pixel_accuracy: Option<f64>,
}

#[test]
fn semantic_figures_equal_the_official_ones() {
    for case in cases::<SemanticCase>("semantic.json") {
        let (classes, class): (usize, fn(u16) -> u16) = match case.tool.as_str() {
            "cityscapes" => (19, |id| {
                CITYSCAPES_LABEL_IDS.iter().position(|&own| own == id).map_or(IGNORED, |class| class as u16)
            }),
            // Label 0 is none of the classes; the others move down by one.
            _ => (case.classes, |id| id.checked_sub(1).unwrap_or(IGNORED)),
        };
        let mut counts = ConfusionMatrix::new(classes);
        for (truth, predicted) in &case.images {
            let labels = |runs: &[u16]| map(runs).into_iter().map(class).collect::<Vec<u16>>();
            counts.add(&labels(truth), &labels(predicted));
        }
        let expected = &case.expected;
        assert_eq!(expected.ious.len(), classes, "{}", case.name);
        for (class, &iou) in expected.ious.iter().enumerate() {
            assert_figure(counts.iou(class), iou, &format!("IoU of class {class}"), &case.name);
        }
        // Without any labelled pixel the tools have no figure; ours is 0.
        assert_figure(Some(counts.mean_iou()), expected.mean_iou.or(Some(0.0)), "mean_iou", &case.name);
        let accuracy = expected.pixel_accuracy.or(Some(0.0));
        assert_figure(Some(counts.pixel_accuracy()), accuracy, "pixel_accuracy", &case.name);
    }
}

// Classification

#[derive(Deserialize)]
struct TopKCase {
    name: String,
    logits: Vec<Vec<f32>>,
    targets: Vec<usize>,
    expected: BTreeMap<String, Option<f64>>,
}

#[test]
fn top_k_equals_a_stable_sort() {
    for case in cases::<TopKCase>("top_k.json") {
        let mut counts = TopK::default();
        for (logits, &target) in case.logits.iter().zip(&case.targets) {
            counts.add(logits, target);
        }
        assert_figure(Some(counts.top1()), case.expected["top1"], "top1", &case.name);
        assert_figure(Some(counts.top5()), case.expected["top5"], "top5", &case.name);
    }
}

// Objects without scores

#[derive(Deserialize)]
struct ObjectCase {
    name: String,
    /// Size, truth and prediction as runs; 0 is background.
    images: Vec<([u32; 2], Vec<u32>, Vec<u32>)>,
    /// At overlaps of 0.50 to 0.95.
    expected: Vec<f64>,
}

fn masks(extent: [u32; 2], runs: &[u32]) -> Vec<Rle> {
    let ids = map(runs);
    let mut values: Vec<u32> = ids.iter().copied().filter(|&id| id > 0).collect();
    values.sort_unstable();
    values.dedup();
    let mask = |value: u32| {
        let inside: Vec<bool> = ids.iter().map(|&id| id == value).collect();
        Rle::from_bitmap(size(extent), &inside).unwrap()
    };
    values.into_iter().map(mask).collect()
}

#[test]
fn object_accuracy_equals_stardist() {
    for case in cases::<ObjectCase>("object_accuracy.json") {
        let mut accuracy = ObjectAccuracy::new(0.5);
        for (extent, truth, found) in &case.images {
            let truths: Vec<TrueObject<Rle>> =
                masks(*extent, truth).into_iter().map(|mask| TrueObject::new(0, mask)).collect();
            let mut objects: Vec<FoundObject<Rle>> = masks(*extent, found)
                .into_iter()
                .map(|shape| FoundObject { class: 0, shape, score: 0.5 })
                .collect();
            // Not sure enough to count.
            objects.extend(truths.iter().map(|truth| FoundObject {
                class: 0,
                shape: truth.shape.clone(),
                score: 0.49,
            }));
            accuracy.add(&truths, &objects).unwrap();
        }
        for (step, &expected) in case.expected.iter().enumerate() {
            assert_figure(Some(accuracy.at(step)), Some(expected), &format!("step {step}"), &case.name);
        }
    }
}

/// Predictions that overlap each other: as many pairs as can be, whatever the order.
#[test]
fn objects_are_paired_as_often_as_can_be() {
    let size = ImageSize::new(1, 30);
    let mask = |start, length| Rle::from_counts(size, &[start, length, 30 - start - length]).unwrap();
    let truths = [TrueObject::new(0, mask(0, 10)), TrueObject::new(0, mask(5, 10))];
    // The first overlaps both truths by a half or more, the second the first alone.
    let found = [mask(2, 10), mask(0, 9)].map(|shape| FoundObject { class: 0, shape, score: 1.0 });
    let mut accuracy = ObjectAccuracy::new(0.0);
    accuracy.add(&truths, &found).unwrap();
    assert_eq!(accuracy.at(0), 1.0);
    let other_class = [FoundObject { class: 1, shape: mask(0, 10), score: 1.0 }];
    let mut accuracy = ObjectAccuracy::new(0.0);
    accuracy.add(&truths[..1], &other_class).unwrap();
    assert_eq!(accuracy.at(0), 0.0);
}

// Reports

/// The keys that files of results have.
#[test]
fn reports_have_the_documented_keys() {
    let keys =
        |value: serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let names = ["nucleus".to_owned()];
    let mut instances = AveragePrecision::<Rle>::new(1).report(&names);
    instances.accuracy_at_iou = ObjectAccuracy::new(0.5).figures();
    let json = serde_json::to_value(&instances).unwrap();
    let steps: Vec<String> = (50..100).step_by(5).map(|step| (f64::from(step) / 100.0).to_string()).collect();
    assert_eq!(keys(json["accuracy_at_iou"].clone()), steps);
    assert_eq!((steps[0].as_str(), steps[9].as_str()), ("0.5", "0.95"));
    let expected =
        ["accuracy_at_iou", "ap", "ap_50", "ap_75", "ap_large", "ap_medium", "ap_small", "classes", "images"];
    assert_eq!(sorted(keys(json)), expected);

    let panoptic = serde_json::to_value(PanopticQuality::new(vec![true]).report(&names)).unwrap();
    assert_eq!(sorted(keys(panoptic)), ["classes", "images", "pq", "pq_stuff", "pq_things", "rq", "sq"]);
    let classes = serde_json::to_value(TopK::default().report()).unwrap();
    assert_eq!(sorted(keys(classes)), ["images", "top1", "top5"]);
    let semantic = serde_json::to_value(ConfusionMatrix::new(1).report(&names, 0)).unwrap();
    for key in ["images", "mean_iou", "pixel_accuracy", "classes"] {
        assert!(semantic.get(key).is_some(), "{key}");
    }
    assert_eq!(sorted(keys(semantic["classes"][0].clone())), ["iou", "name", "pixels"]);
}

fn sorted(mut keys: Vec<String>) -> Vec<String> {
    keys.sort();
    keys
}
