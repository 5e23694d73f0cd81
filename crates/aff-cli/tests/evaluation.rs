//! `aff eval` of every task. The truth is what the model itself finds, written in the layouts of data sets with the classes in another
//! order: whatever is lost or swapped on the way shows in figures that are not 1.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aff_train::data::{DataSet, Shapes};
use aff_train::tasks::TaskName;
use aff_train::{Recipe, Trainer};
use autofocusformer::vision::{self, CocoRle, InstanceMask, LabelMap, RgbImage};
use autofocusformer::{Classifier, Detector, Device, Segmenter, Segments};
use common::{aff, failure, read_json, stdout};
use serde_json::{Value, json};
use tempfile::TempDir;

const IMAGES: usize = 3;

/// A model after a few steps.
fn model(task: TaskName, folder: &Path, queries: usize, steps: u64) -> PathBuf {
    let mut recipe = Recipe::smallest(task, folder.join("run"));
    (recipe.run.steps, recipe.run.checkpoint_every) = (steps, steps);
    recipe.model.num_queries = recipe.model.num_queries.map(|_| queries);
    Trainer::builder(recipe).train_data(Shapes::new(task, 4)).build().unwrap().run(&mut ()).unwrap();
    let model = folder.join("run/last");
    // Everything that a query sees is a panoptic segment.
    let path = model.join("config.json");
    let mut config = read_json(&path);
    if let Some(segmentation) = config.get_mut("segmentation_config") {
        (segmentation["threshold"], segmentation["overlap_threshold"]) = (json!(0.0), json!(0.0));
        std::fs::write(path, config.to_string()).unwrap();
    }
    model
}

fn photos(task: TaskName) -> Vec<RgbImage> {
    let data = Shapes::new(task, IMAGES);
    (0..IMAGES).map(|index| data.load(index).unwrap().image).collect()
}

fn write_photos(folder: &Path, photos: &[RgbImage]) {
    std::fs::create_dir_all(folder).unwrap();
    for (index, photo) in photos.iter().enumerate() {
        vision::write_png(folder.join(format!("{index}.png")), photo).unwrap();
    }
}

fn segmenter(model: &Path) -> Segmenter {
    Segmenter::from_pretrained(model, &Device::Cpu).unwrap()
}

/// A file in COCO's form; `categories` are numbers and names.
fn coco(photos: &[RgbImage], categories: &[(u32, &str)], annotations: &[Value]) -> String {
    let images = photos.iter().enumerate().map(|(index, photo)| {
        json!({"id": 10 + index, "file_name": format!("{index}.png"), "height": photo.height(), "width": photo.width()})
    });
    let categories = categories
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name, "isthing": u8::from(*name != "ground")}));
    json!({
        "images": images.collect::<Vec<_>>(), "categories": categories.collect::<Vec<_>>(), "annotations": annotations
    })
    .to_string()
}

/// Numbers of the data set for the classes square, disc, ground: in another order, and with holes.
const NUMBERS: [u32; 3] = [9, 5, 7];
const CATEGORIES: [(u32, &str); 3] = [(5, "Disc"), (7, "ground"), (9, "square")];

fn evaluated(model: &Path, data: &Path, arguments: &[&str]) -> (Value, String) {
    let report = model.parent().unwrap().join("report.json");
    let mut command = aff();
    command.arg("eval").arg("--model").arg(model).arg("--data").arg(data).args(arguments);
    let table = stdout(command.arg("--output").arg(&report));
    (read_json(&report), table)
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn is_one(value: &Value) -> bool {
    (value.as_f64().unwrap() - 1.0).abs() < 1e-9
}

/// Objects that a model finds, as annotations.
fn objects(segmenter: &Segmenter, photos: &[RgbImage]) -> Vec<Value> {
    let mut annotations = Vec::new();
    for (index, photo) in photos.iter().enumerate() {
        let segmentation = segmenter.segment(photo).unwrap();
        let Segments::Instance(found) = segmentation.result() else { panic!("no instances") };
        for InstanceMask { label_id, mask, .. } in found {
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": 10 + index, "category_id": NUMBERS[*label_id as usize],
                "segmentation": CocoRle::from(mask), "area": mask.area(), "bbox": mask.bbox(), "iscrowd": 0
            }));
        }
    }
    annotations
}

/// Enough steps that masks are not empty; or one, and masks of the whole picture.
fn of_objects(queries: usize, steps: u64) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let task = TaskName::Instance;
    let model = model(task, folder.path(), queries, steps);
    if steps == 1 {
        let mut config = read_json(&model.join("config.json"));
        config["segmentation_config"]["mask_threshold"] = json!(0.0);
        std::fs::write(model.join("config.json"), config.to_string()).unwrap();
    }
    let (photos, data) = (photos(task), folder.path().join("data"));
    write_photos(&data.join("val"), &photos);
    let mut segmenter = segmenter(&model);
    segmenter.options_mut().set_threshold(0.0).unwrap();
    segmenter.options_mut().max_instances = 2 * queries;
    let annotations = objects(&segmenter, &photos);
    std::fs::write(data.join("val.json"), coco(&photos, &[CATEGORIES[0], CATEGORIES[2]], &annotations))
        .unwrap();
    (folder, model, data)
}

#[test]
fn objects_that_the_model_finds_itself_are_all_right() {
    let (folder, model, data) = of_objects(12, 60);
    let results = folder.path().join("results/of the run");
    let (report, table) = evaluated(&model, &data, &["--save", results.to_str().unwrap()]);
    let expected =
        ["accuracy_at_iou", "ap", "ap_50", "ap_75", "ap_large", "ap_medium", "ap_small", "classes", "images"];
    assert_eq!(keys(&report), expected.into());
    assert!(is_one(&report["ap"]) && is_one(&report["ap_50"]) && is_one(&report["ap_75"]), "{report}");
    assert_eq!((&report["images"], &report["ap_large"]), (&json!(IMAGES), &Value::Null));
    assert_eq!(report["classes"][0]["name"], "Disc");
    assert!(report["accuracy_at_iou"]["0.5"].is_number() && report["accuracy_at_iou"]["0.95"].is_number());
    assert!(table.contains("TP/(TP+FP+FN) at 0.5") && table.contains("AP 50"), "{table}");
    // The result file has the data set's numbers.
    let saved = read_json(&results.join("instances.json"));
    let truth = read_json(&data.join("val.json"));
    let masks = |list: &Value| -> BTreeSet<String> {
        let object = |object: &Value| {
            format!("{} {} {}", object["image_id"], object["category_id"], object["segmentation"])
        };
        list.as_array().unwrap().iter().map(object).collect()
    };
    assert_eq!(masks(&saved), masks(&truth["annotations"]));
}

#[test]
fn more_than_a_hundred_objects_of_an_image_count() {
    let (_folder, model, data) = of_objects(130, 1);
    let truth = read_json(&data.join("val.json"));
    let objects = truth["annotations"].as_array().unwrap();
    let most = (0..IMAGES)
        .map(|image| objects.iter().filter(|object| object["image_id"] == 10 + image).count())
        .max();
    assert!(most > Some(150), "{most:?}");
    let (report, _) = evaluated(&model, &data, &[]);
    assert!(is_one(&report["ap"]), "{report}");
}

#[test]
fn segments_that_the_model_finds_itself_are_all_right() {
    let folder = tempfile::tempdir().unwrap();
    let task = TaskName::Panoptic;
    let model = model(task, folder.path(), 12, 2);
    let (photos, data) = (photos(task), folder.path().join("data"));
    write_photos(&data.join("val"), &photos);
    std::fs::create_dir(data.join("panoptic_val")).unwrap();
    let segmenter = segmenter(&model);
    let mut annotations = Vec::new();
    for (index, photo) in photos.iter().enumerate() {
        let segmentation = segmenter.segment(photo).unwrap();
        let Segments::Panoptic(map) = segmentation.result() else { panic!("no segments") };
        assert!(!map.segments().is_empty());
        map.write_png(data.join(format!("panoptic_val/{index}.png"))).unwrap();
        let segment = |segment: &vision::SegmentInfo| json!({"id": segment.id, "category_id": NUMBERS[segment.label_id as usize], "area": segment.area, "iscrowd": 0});
        let segments: Vec<_> = map.segments().iter().map(segment).collect();
        annotations.push(
            json!({"image_id": 10 + index, "file_name": format!("{index}.png"), "segments_info": segments}),
        );
    }
    std::fs::write(data.join("val.json"), coco(&photos, &CATEGORIES, &annotations)).unwrap();
    let results = folder.path().join("results");
    let (report, table) = evaluated(&model, &data, &["--save", results.to_str().unwrap()]);
    assert_eq!(keys(&report), ["classes", "images", "pq", "pq_stuff", "pq_things", "rq", "sq"].into());
    assert!(is_one(&report["pq"]) && is_one(&report["sq"]) && is_one(&report["rq"]), "{report}");
    assert!(table.contains("PQ of things"), "{table}");
    let saved = read_json(&results.join("panoptic.json"));
    let truth = read_json(&data.join("val.json"));
    for (saved, truth) in
        saved["annotations"].as_array().unwrap().iter().zip(truth["annotations"].as_array().unwrap())
    {
        assert_eq!(saved["image_id"], truth["image_id"]);
        let numbers = |list: &Value| -> Vec<(Value, Value, Value)> {
            let of = |s: &Value| (s["id"].clone(), s["category_id"].clone(), s["area"].clone());
            list["segments_info"].as_array().unwrap().iter().map(of).collect()
        };
        assert_eq!(numbers(saved), numbers(truth));
    }
    // The same data ask a panoptic model for classes of pixels, and for objects.
    for task in ["semantic", "instance"] {
        let (report, _) = evaluated(&model, &data, &["--task", task, "--limit", "2"]);
        assert_eq!(report["images"], 2);
    }
}

#[test]
fn pixels_that_the_model_finds_itself_are_all_right() {
    let folder = tempfile::tempdir().unwrap();
    let task = TaskName::Semantic;
    let model = model(task, folder.path(), 12, 2);
    let (photos, data) = (photos(task), folder.path().join("data"));
    write_photos(&data.join("val"), &photos);
    std::fs::create_dir(data.join("valannot")).unwrap();
    std::fs::write(data.join("classes.txt"), "5 Disc\n7 ground\n9 square\n").unwrap();
    let segmenter = segmenter(&model);
    for (index, photo) in photos.iter().enumerate() {
        let segmentation = segmenter.segment(photo).unwrap();
        let Segments::Semantic(map) = segmentation.result() else { panic!("no map") };
        let labels = map.labels().iter().map(|&label| NUMBERS[usize::from(label)] as u16).collect();
        let map = LabelMap::new(map.size(), labels).unwrap();
        map.write_png(data.join(format!("valannot/{index}.png"))).unwrap();
    }
    let results = folder.path().join("results");
    let (report, table) =
        evaluated(&model, &data, &["--save", results.to_str().unwrap(), "--data-set", "folder"]);
    assert!(is_one(&report["mean_iou"]) && is_one(&report["pixel_accuracy"]), "{report}");
    assert!(report["classes"][0]["iou"].is_number() || report["classes"][0]["iou"].is_null());
    assert!(table.contains("mean IoU"), "{table}");
    for index in 0..IMAGES {
        let saved = LabelMap::read(results.join(format!("{index}.png"))).unwrap();
        assert_eq!(saved, LabelMap::read(data.join(format!("valannot/{index}.png"))).unwrap());
    }
    // A class that the model does not know.
    std::fs::write(data.join("classes.txt"), "5 Disc\n7 ground\n9 square\n11 star\n").unwrap();
    let mut command = aff();
    let error = failure(command.arg("eval").arg("--model").arg(&model).arg("--data").arg(&data));
    assert!(
        error.contains("the model does not know `star`; it has 3 classes: square, disc, ground"),
        "{error}"
    );
    // Results do not replace the data.
    for (option, target, problem) in [
        ("--save", "valannot", "is a folder of the data or of the model"),
        ("-o", "classes.txt", "is a file in the folder of the data"),
    ] {
        let mut command = aff();
        command.arg("eval").arg("--model").arg(&model).arg("--data").arg(&data);
        command.arg(option).arg(data.join(target));
        assert!(failure(&mut command).contains(problem), "{option}");
    }
}

/// Boxes as annotations: image, class and box of each.
fn boxes(objects: impl IntoIterator<Item = (usize, u32, [f32; 4])>) -> Vec<Value> {
    let annotation = |(number, (image, class, bbox)): (usize, (usize, u32, [f32; 4]))| json!({"id": number + 1, "image_id": 10 + image, "category_id": NUMBERS[class as usize], "bbox": bbox});
    objects.into_iter().enumerate().map(annotation).collect()
}

#[test]
fn boxes_that_the_model_finds_itself_are_all_right() {
    let folder = tempfile::tempdir().unwrap();
    let task = TaskName::Detection;
    // More than a hundred an image.
    let model = model(task, folder.path(), 70, 1);
    let (photos, data) = (photos(task), folder.path().join("data"));
    write_photos(&data.join("val"), &photos);
    let mut detector = Detector::from_pretrained(&model, &Device::Cpu).unwrap();
    detector.options_mut().set_threshold(0.0).unwrap();
    detector.options_mut().max_detections = 1000;
    let mut found = Vec::new();
    for (image, photo) in photos.iter().enumerate() {
        let detections = detector.detect(photo).unwrap();
        assert_eq!(detections.objects().len(), 140);
        found.extend(detections.objects().iter().map(|object| (image, object.label_id, object.bbox)));
    }
    // Boxes alone: no mask, no area.
    let truth = coco(&photos, &[CATEGORIES[0], CATEGORIES[2]], &boxes(found.iter().copied()));
    std::fs::write(data.join("val.json"), truth).unwrap();
    let results = folder.path().join("results");
    let (report, table) = evaluated(&model, &data, &["--save", results.to_str().unwrap()]);
    let expected =
        ["accuracy_at_iou", "ap", "ap_50", "ap_75", "ap_large", "ap_medium", "ap_small", "classes", "images"];
    assert_eq!(keys(&report), expected.into());
    assert!(is_one(&report["ap"]) && is_one(&report["ap_50"]) && is_one(&report["ap_75"]), "{report}");
    assert_eq!((&report["images"], &report["classes"][0]["name"]), (&json!(IMAGES), &json!("Disc")));
    assert!(table.contains("AP 50") && table.contains("square"), "{table}");
    // The result file has the data set's numbers, and the boxes as they were found.
    let saved = read_json(&results.join("boxes.json"));
    let listed = |list: &Value| -> BTreeSet<String> {
        let bbox = |object: &Value| -> Vec<f32> { serde_json::from_value(object["bbox"].clone()).unwrap() };
        let objects = list.as_array().unwrap().iter();
        objects.map(|o| format!("{} {} {:?}", o["image_id"], o["category_id"], bbox(o))).collect()
    };
    assert_eq!(listed(&saved), listed(&read_json(&data.join("val.json"))["annotations"]));
    // They are no truth for masks.
    let mut command = aff();
    command.arg("eval").arg("--model").arg(&model).arg("--data").arg(&data).args(["--task", "instance"]);
    assert!(failure(&mut command).contains("is a detector, not a segmenter"));
}

/// Intersection over union of two boxes: left, top, width, height.
fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let side = |axis: usize| {
        let end = (a[axis] + a[axis + 2]).min(b[axis] + b[axis + 2]);
        (end - a[axis].max(b[axis])).max(0.0)
    };
    let both = side(0) * side(1);
    let all = a[2] * a[3] + b[2] * b[3] - both;
    if all > 0.0 { both / all } else { 0.0 }
}

/// An object of an image: number of the image, class, score (or 1), box.
type Object = (u64, u64, f64, [f64; 4]);

/// The area under precision over recall of a class at an overlap, as COCO defines it: of every recall of 0, 0.01 .. 1 the best precision
/// that is reached there or later.
fn counted_precision(truth: &[Object], found: &[Object], least: f64) -> f64 {
    let mut found = found.to_vec();
    found.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut is_taken = vec![false; truth.len()];
    let (mut right, mut curve) = (0.0, Vec::new());
    for (count, object) in (1..).zip(&found) {
        let free = (0..truth.len()).filter(|&at| !is_taken[at] && truth[at].0 == object.0);
        let best =
            free.max_by(|&a, &b| overlap(truth[a].3, object.3).total_cmp(&overlap(truth[b].3, object.3)));
        if let Some(at) = best.filter(|&at| overlap(truth[at].3, object.3) >= least) {
            is_taken[at] = true;
            right += 1.0;
        }
        curve.push((right / truth.len() as f64, right / f64::from(count)));
    }
    let at = |step: u32| {
        let recall = f64::from(step) * 0.01;
        curve.iter().filter(|point| point.0 >= recall).map(|point| point.1).fold(0.0, f64::max)
    };
    (0..=100).map(at).sum::<f64>() / 101.0
}

/// A detector that has learnt a little, its boxes as `predict` writes them, and a count of its own.
#[test]
fn figures_of_boxes_equal_an_independent_count() {
    let folder = tempfile::tempdir().unwrap();
    let task = TaskName::Detection;
    let model = model(task, folder.path(), 12, 120);
    let (photos, data) = (photos(task), folder.path().join("data"));
    write_photos(&data.join("val"), &photos);
    let shapes = Shapes::new(task, IMAGES);
    let mut truth = Vec::new();
    for image in 0..IMAGES {
        let target = shapes.load_target(image).unwrap().to_boxes().unwrap();
        truth.extend(target.boxes().iter().map(|o| (image, o.class, o.bbox.map(|side| side as f32))));
    }
    let categories = [CATEGORIES[0], CATEGORIES[2]];
    std::fs::write(data.join("val.json"), coco(&photos, &categories, &boxes(truth.iter().copied()))).unwrap();
    let (report, _) = evaluated(&model, &data, &[]);

    let output = folder.path().join("found");
    let mut command = aff();
    command.arg("predict").arg(data.join("val")).arg("--model").arg(&model).arg("--output").arg(&output);
    command.args(["--threshold", "0", "--save-json", "--quiet"]).assert().success();
    let object = |object: &Value| -> Object {
        let bbox: [f32; 4] = serde_json::from_value(object["bbox"].clone()).unwrap();
        let number = |key: &str| object[key].as_u64().unwrap();
        (number("image_id"), number("category_id"), object["score"].as_f64().unwrap(), bbox.map(f64::from))
    };
    let mut found = Vec::new();
    for image in 0..IMAGES {
        let file = read_json(&output.join(format!("{image}.json")));
        found.extend(file.as_array().unwrap().iter().map(object));
    }
    assert_eq!(found.len(), IMAGES * 12 * 2);
    let truth: Vec<Object> = truth
        .iter()
        .map(|&(image, class, bbox)| (image as u64, u64::from(class), 1.0, bbox.map(f64::from)))
        .collect();
    let at = |least: f64| -> f64 {
        let of = |list: &[Object], class| -> Vec<Object> {
            list.iter().copied().filter(|object| object.1 == class).collect()
        };
        let classes = [0, 1].map(|class| counted_precision(&of(&truth, class), &of(&found, class), least));
        classes.iter().sum::<f64>() / 2.0
    };
    let ap = (0..10).map(|step| at(0.5 + 0.05 * f64::from(step))).sum::<f64>() / 10.0;
    for (key, counted) in [("ap", ap), ("ap_50", at(0.5)), ("ap_75", at(0.75))] {
        let figure = report[key].as_f64().unwrap();
        assert!((figure - counted).abs() < 1e-9, "{key}: {figure} and {counted}");
    }
    // It has learnt something, and not all.
    assert!(at(0.5) > 0.05 && ap < 0.9, "{ap} {}", at(0.5));
    // Objects that were shown, whole pairs at an overlap of a half: with so few, the best first.
    let shown: Vec<Object> = found.into_iter().filter(|object| object.2 >= 0.5).collect();
    let counted = report["accuracy_at_iou"]["0.5"].as_f64().unwrap();
    let pairs = counted * (truth.len() + shown.len()) as f64 / (1.0 + counted);
    assert!((pairs - pairs.round()).abs() < 1e-9 && pairs.round() as usize <= shown.len(), "{counted}");
}

#[test]
fn labels_that_the_model_finds_itself_are_all_right() {
    let folder = tempfile::tempdir().unwrap();
    let task = TaskName::Classification;
    let model = model(task, folder.path(), 12, 2);
    let (photos, data) = (photos(task), folder.path().join("data"));
    let classifier = Classifier::from_pretrained(&model, &Device::Cpu).unwrap();
    for class in ["disc", "square"] {
        std::fs::create_dir_all(data.join("val").join(class)).unwrap();
        write_photos(&data.join("train").join(class), &photos[..1]);
    }
    for (index, photo) in photos.iter().enumerate() {
        let found = classifier.classify(photo, 1).unwrap();
        vision::write_png(data.join("val").join(&found[0].label).join(format!("{index}.png")), photo)
            .unwrap();
    }
    let (report, table) = evaluated(&model, &data, &[]);
    assert_eq!(report, json!({"images": IMAGES, "top1": 1.0, "top5": 1.0}));
    assert!(table.contains("top-1"), "{table}");
    let mut command = aff();
    command
        .arg("eval")
        .arg("--model")
        .arg(&model)
        .arg("--data")
        .arg(&data)
        .arg("--save")
        .arg(folder.path().join("r"));
    assert!(failure(&mut command).contains("no official result files of classification"));
    let mut command = aff();
    command.arg("eval").arg("--model").arg(&model).arg("--data").arg(&data).args(["--task", "instance"]);
    assert!(failure(&mut command).contains("has labels for classification, not for instance"));
}
