//! COCO: objects, panoptic segments and boxes, in files and in results.

use std::fs;
use std::path::Path;

use aff_train::data::{CategoryKind, ResultFiles, check, contact_sheet};
use aff_train::targets::Crowd;
use aff_train::tasks::TaskName;
use aff_train::{FoundObject, PixelBox};
use aff_vision::{PanopticMap, SegmentInfo};
use serde_json::{Value, json};

use super::{SIZE, ids, object, opened, photo, refused, segments, semantic, summary, text};

pub(crate) fn instances() -> Value {
    json!({
        "images": [
            {"id": 139, "file_name": "a.png", "height": 4, "width": 6},
            {"id": 7, "file_name": "b.png", "height": 4, "width": 6},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 5, "image_id": 139, "category_id": 90, "iscrowd": 0, "area": 3.5, "bbox": [1.0, 1.0, 2.0, 2.0],
             "segmentation": [[1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]]},
            {"id": 6, "image_id": 139, "category_id": 1, "iscrowd": 1, "area": 8,
             "segmentation": {"size": [4, 6], "counts": [0, 8, 16]}},
            {"id": 8, "image_id": 139, "category_id": 1, "iscrowd": 0, "area": 8, "bbox": [2, 0, 2, 4],
             "segmentation": {"size": [4, 6], "counts": "888"}},
        ],
    })
}

pub(crate) fn coco_folder(root: &Path, file: &Value) {
    photo(&root.join("val/a.png"));
    photo(&root.join("val/b.png"));
    text(&root.join("val.json"), file.to_string());
}

#[test]
fn coco_instances_are_read_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    coco_folder(&own, &instances());
    let official = folder.path().join("official");
    photo(&official.join("val2017/a.png"));
    photo(&official.join("val2017/b.png"));
    text(&official.join("annotations/instances_val2017.json"), instances().to_string());
    for root in [&own, &official] {
        let data = opened(root, "val", TaskName::Instance);
        // Categories by their number, which has holes.
        assert_eq!(
            (data.class_names(), data.categories()[1].id),
            (vec!["person".to_owned(), "toothbrush".to_owned()], 90)
        );
        assert_eq!((data.len(), data.image_id(0), data.image_id(1), data.name(1).as_str()), (2, 139, 7, "b"));
        let target = segments(data.as_ref(), 0);
        assert_eq!(summary(&target), [(1, Crowd::Single, 4), (0, Crowd::Crowd, 8), (0, Crowd::Single, 8)]);
        assert_eq!(
            (target.area(0), target.bbox(0), target.bbox(1)),
            (3.5, [1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 2.0, 4.0])
        );
        assert_eq!(segments(data.as_ref(), 1).segments(), []);
    }
}

/// Each damage is refused, and the message names the annotation.
#[test]
fn damaged_coco_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let segmentation = "/annotations/0/segmentation";
    let cases: [(&str, Value, &str); 25] = [
        ("/annotations/0/category_id", json!(2), "annotation 5: its category is 2; expected one of 1, 90"),
        ("/annotations/0/image_id", json!(8), "annotation 5: its image is 8; expected one of the 2 listed"),
        ("/annotations/0/id", json!(6), "annotation 6: there are two of this number"),
        ("/annotations/0/iscrowd", json!(2), "annotation 5: iscrowd is 2; expected 0 or 1"),
        ("/annotations/0/area", json!(-1), "annotation 5: its area is -1"),
        ("/annotations/0/area", json!(1e300), "annotation 5: its area is 1000000"),
        ("/annotations/0/bbox", json!([0, 0, -1, 2]), "annotation 5: its box is [0.0, 0.0, -1.0, 2.0]"),
        ("/annotations/0/bbox", json!([0, 0, 1]), "annotation 5: invalid length 3"),
        ("/annotations/0/bbox", json!(["NaN", 0, 1, 1]), "annotation 5: invalid type: string \"NaN\""),
        (segmentation, Value::Null, "annotation 5: has no `segmentation`"),
        (segmentation, json!([]), "annotation 5: has no polygon"),
        (segmentation, json!([[1, 2, 3, 4]]), "annotation 5: "),
        (segmentation, json!([[0, 0, 1e9, 0, 0, 1]]), "has the coordinate 1000000000"),
        (segmentation, json!({"size": [4, 6], "counts": "8"}), "they add up to 8 pixels; expected 24"),
        (segmentation, json!({"size": [4, 6], "counts": "~"}), "character 0 is '~'"),
        (
            segmentation,
            json!({"size": [4, 6], "counts": [4_000_000_000u32, 4_000_000_000u32]}),
            "they add up to 8000000000",
        ),
        (
            segmentation,
            json!({"size": [4, 6], "counts": [-1, 25]}),
            "its segmentation is {\"counts\":[-1,25]",
        ),
        (
            segmentation,
            json!({"size": [6, 4], "counts": [24]}),
            "its mask is 4 x 6 (width x height); its image is 6 x 4",
        ),
        (
            "/images/0/file_name",
            json!("../a.png"),
            "image 139: its file is \"../a.png\"; expected a name inside",
        ),
        ("/images/0/file_name", json!("/etc/passwd"), "image 139: its file is \"/etc/passwd\""),
        ("/images/0/width", json!(4_000_000_000u32), "image 139: it is 4000000000 x 4"),
        ("/images/0/height", json!(0), "image 139: it is 6 x 0"),
        ("/images/0/id", json!(7), "image 7: there are two of this number"),
        ("/categories/0/id", json!(1), "category 1: there are two of this number"),
        ("/annotations", json!({}), "expected JSON with images, annotations and categories"),
    ];
    for (place, value, part) in cases {
        let mut file = instances();
        *file.pointer_mut(place).unwrap() = value.clone();
        coco_folder(root, &file);
        let error = refused(root, "val", TaskName::Instance);
        assert!(error.contains(part) && error.contains("val.json"), "{place} = {value}: {error}");
    }
    // What is not a number, as Python writes it, is no JSON; it is named all the same, and not looked for in texts.
    for word in ["NaN", "-Infinity"] {
        let mut file = instances();
        file["categories"][0]["name"] = json!("NaN \"Infinity\"");
        coco_folder(root, &file);
        text(&root.join("val.json"), file.to_string().replace("3.5", word));
        let error = refused(root, "val", TaskName::Instance);
        let expected = format!("annotation 5: invalid type: string \"{word}\", expected f64");
        assert!(error.contains(&expected), "{error}");
    }
    // Of other texts what is in front of the mistake says where it is.
    text(&root.join("val.json"), instances().to_string().replace("3.5", "3.5.1"));
    let error = refused(root, "val", TaskName::Instance);
    assert!(error.contains(r#"\"area\":"#), "{error}");
    // A photo of another size than stated.
    let mut file = instances();
    file["images"][0]["height"] = json!(5);
    file["annotations"] = json!([]);
    coco_folder(root, &file);
    let error = refused(root, "val", TaskName::Instance);
    assert!(error.contains("a.png: is 6 x 4 (width x height); its masks are 6 x 5"), "{error}");
}

fn panoptic() -> Value {
    json!({
        "images": [{"id": 3, "file_name": "a.png", "height": 4, "width": 6}],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 4, "name": "sky", "isthing": 0},
            {"id": 9, "name": "car", "isthing": 1},
        ],
        "annotations": [{"image_id": 3, "file_name": "a.png", "segments_info": [
            {"id": 258, "category_id": 9, "area": 12, "bbox": [0, 0, 6, 2], "iscrowd": 0},
            {"id": 5, "category_id": 4, "area": 12, "bbox": [0, 2, 6, 2], "iscrowd": 0},
        ]}],
    })
}

#[test]
fn coco_panoptic_serves_every_task() {
    let folder = tempfile::tempdir().unwrap();
    let official = folder.path().join("official");
    photo(&official.join("val2017/a.png"));
    text(&official.join("annotations/panoptic_val2017.json"), panoptic().to_string());
    ids(&official.join("annotations/panoptic_val2017/a.png"), [2, 1, 0], [5, 0, 0]);
    let beside = folder.path().join("beside");
    photo(&beside.join("val/a.png"));
    text(&beside.join("panoptic_val.json"), panoptic().to_string());
    ids(&beside.join("panoptic_val/a.png"), [2, 1, 0], [5, 0, 0]);
    let own = folder.path().join("own");
    photo(&own.join("val/a.png"));
    text(&own.join("val.json"), panoptic().to_string());
    ids(&own.join("panoptic_val/a.png"), [2, 1, 0], [5, 0, 0]);
    for root in [&official, &beside, &own] {
        let data = opened(root, "val", TaskName::Panoptic);
        assert_eq!(summary(&segments(data.as_ref(), 0)), [(2, Crowd::Single, 12), (1, Crowd::Single, 12)]);
        assert_eq!((data.image_id(0), data.categories()[1].kind), (3, CategoryKind::Stuff));
        let data = opened(root, "val", TaskName::Semantic);
        let labels = semantic(data.as_ref(), 0);
        assert_eq!((labels[0], labels[23]), (2, 1));
        // Objects are those of the things, in classes of their own.
        let data = opened(root, "val", TaskName::Instance);
        assert_eq!(data.class_names(), ["person", "car"]);
        assert_eq!(summary(&segments(data.as_ref(), 0)), [(1, Crowd::Single, 12)]);
    }

    for (place, value, part) in [
        (
            "/annotations/0/segments_info/0/id",
            json!(5),
            "annotation of image 3, segment 5: expected numbers from 1",
        ),
        ("/annotations/0/segments_info/0/id", json!(0), "segment 0: expected numbers from 1"),
        ("/annotations/0/segments_info/0/category_id", json!(2), "segment 258: its category is 2"),
        (
            "/annotations/0/segments_info/0/id",
            json!(257),
            "has pixels of segment 258, which is not listed in the annotation of image 3",
        ),
        (
            "/annotations/0/file_name",
            json!("../../a.png"),
            "annotation of image 3: its file is \"../../a.png\"",
        ),
        ("/annotations/0/image_id", json!(4), "annotation of image 4: its image is 4"),
        ("/annotations", json!([]), "image 3: has no annotation"),
    ] {
        let mut file = panoptic();
        *file.pointer_mut(place).unwrap() = value;
        text(&own.join("val.json"), file.to_string());
        let error = refused(&own, "val", TaskName::Panoptic);
        assert!(error.contains(part), "{place}: {error}");
    }
    text(&own.join("val.json"), panoptic().to_string());
    ids(&own.join("panoptic_val/a.png"), [2, 1, 0], [2, 1, 0]);
    let error = refused(&own, "val", TaskName::Panoptic);
    assert!(error.contains("has no pixel of segment 5, which the annotation of image 3 lists"), "{error}");
    // Objects alone are no panoptic data.
    let objects = folder.path().join("objects");
    coco_folder(&objects, &instances());
    let error = refused(&objects, "val", TaskName::Panoptic);
    assert!(
        error.contains("has no annotations for panoptic; looked for") && error.contains("panoptic_val.json"),
        "{error}"
    );
}

#[test]
fn coco_results_have_the_numbers_of_the_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let (root, output) = (folder.path().join("data"), folder.path().join("output"));
    fs::create_dir(&output).unwrap();
    coco_folder(&root, &instances());
    let data = opened(&root, "val", TaskName::Instance);
    let mut results = ResultFiles::new(&output, data.as_ref()).unwrap();
    results.add_instances(data.as_ref(), 0, &[object(1, 0.5, &[0, 8, 16])]).unwrap();
    results.add_instances(data.as_ref(), 1, &[]).unwrap();
    let error = results.add_instances(data.as_ref(), 1, &[]).unwrap_err().to_string();
    assert!(error.contains("there are two images named \"b\""), "{error}");
    let written = results.finish().unwrap();
    assert_eq!(written, [output.join("instances.json")]);
    let file: Value = serde_json::from_slice(&fs::read(&written[0]).unwrap()).unwrap();
    // With a box, pycocotools would take its area for that of the mask.
    let expected = json!([{"image_id": 139, "category_id": 90, "segmentation": {"size": [4, 6], "counts": "08`0"}, "score": 0.5}]);
    assert_eq!(file, expected);

    let mut results = ResultFiles::new(&output, data.as_ref()).unwrap();
    let shape = PixelBox { left: 1.0, top: 0.5, width: 2.0, height: 3.0 };
    results.add_boxes(data.as_ref(), 1, &[FoundObject { class: 0, shape, score: 0.25 }]).unwrap();
    let written = results.finish().unwrap();
    let file: Value = serde_json::from_slice(&fs::read(&written[0]).unwrap()).unwrap();
    assert_eq!(file, json!([{"image_id": 7, "category_id": 1, "bbox": [1.0, 0.5, 2.0, 3.0], "score": 0.25}]));
    let mut results = ResultFiles::new(&output, data.as_ref()).unwrap();
    let error = results.add_instances(data.as_ref(), 0, &[object(2, 0.5, &[24])]).unwrap_err().to_string();
    assert!(error.contains("`class` is 2; expected one below 2"), "{error}");
    assert!(ResultFiles::new(output.join("none"), data.as_ref()).is_err());
}

#[test]
fn panoptic_results_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (root, output) = (folder.path().join("data"), folder.path().join("output"));
    photo(&root.join("val/a.png"));
    text(&root.join("panoptic_val.json"), panoptic().to_string());
    ids(&root.join("panoptic_val/a.png"), [2, 1, 0], [5, 0, 0]);
    fs::create_dir(&output).unwrap();
    let data = opened(&root, "val", TaskName::Panoptic);
    let info = |id, label_id| SegmentInfo { id, label_id, score: 1.0, was_fused: false, area: 12 };
    let map: Vec<u32> = (0..24).map(|at| if at < 12 { 300 } else { 1 }).collect();
    let map = PanopticMap::new(SIZE, map, vec![info(300, 2), info(1, 1)]).unwrap();
    let mut results = ResultFiles::new(&output, data.as_ref()).unwrap();
    results.add_panoptic(data.as_ref(), 0, &map).unwrap();
    let written = results.finish().unwrap();
    let file: Value = serde_json::from_slice(&fs::read(&written[0]).unwrap()).unwrap();
    let segments =
        json!([{"id": 300, "category_id": 9, "area": 12}, {"id": 1, "category_id": 4, "area": 12}]);
    assert_eq!(
        file,
        json!({"annotations": [{"image_id": 3, "file_name": "a.png", "segments_info": segments}]})
    );
    let picture = aff_vision::open(output.join("panoptic/a.png")).unwrap();
    assert_eq!((picture.get_pixel(0, 0).0, picture.get_pixel(5, 3).0), ([44, 1, 0], [1, 0, 0]));
}

/// Boxes are read without masks, as they are; what is none is named by its annotation.
#[test]
fn boxes_of_coco_need_no_masks() {
    let folder = tempfile::tempdir().unwrap();
    photo(&folder.path().join("train/1.png"));
    let write = |annotations: Value| {
        let file = json!({
            "images": [{"id": 1, "file_name": "1.png", "width": 6, "height": 4}],
            "categories": [{"id": 3, "name": "cell"}],
            "annotations": annotations,
        });
        text(&folder.path().join("train.json"), file.to_string());
    };
    let annotation = |id: u64, rest: Value| {
        let mut annotation = json!({"id": id, "image_id": 1, "category_id": 3});
        annotation.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        annotation
    };
    write(json!([
        annotation(7, json!({"bbox": [1.5, 0.5, 2.0, 3.0]})),
        annotation(8, json!({"bbox": [4.0, 2.0, 5.0, 5.0], "area": 3.5, "iscrowd": 1})),
        annotation(9, json!({"bbox": [2.0, 2.0, 0.0, 1.0]})),
        annotation(10, json!({"segmentation": {"size": [4, 6], "counts": [4, 2, 18]}})),
    ]));
    let data = opened(folder.path(), "train", TaskName::Detection);
    let target = data.load(0).unwrap().target.to_boxes().unwrap();
    let found: Vec<_> =
        target.boxes().iter().map(|object| (object.bbox, object.area, object.crowd)).collect();
    let expected = [
        ([1.5, 0.5, 2.0, 3.0], 6.0, Crowd::Single),
        ([4.0, 2.0, 5.0, 5.0], 3.5, Crowd::Crowd),
        ([2.0, 2.0, 0.0, 1.0], 0.0, Crowd::Single),
        ([1.0, 0.0, 1.0, 2.0], 2.0, Crowd::Single),
    ];
    assert_eq!(found, expected);
    assert_eq!(check(data.as_ref(), || {}).classes[0].segments, 3);
    assert!(contact_sheet(data.as_ref(), &[0], 1).is_ok());
    for (wrong, words) in [
        (json!({"bbox": [7.0, 0.0, 1.0, 1.0]}), "a part inside the image of 6 x 4"),
        (json!({"bbox": [1.0, 0.0, -1.0, 1.0]}), "its box is [1.0, 0.0, -1.0, 1.0]"),
        (json!({"bbox": [1.0, null, 1.0, 1.0]}), "invalid type: null"),
        (json!({"bbox": [-9.0, 0.0, 1.0, 1.0]}), "its box is [-9, 0, 1, 1]; expected finite numbers"),
        (json!({}), "has neither `bbox` nor `segmentation`"),
        (json!({"bbox": [1.0, 1.0, 1.0, 1.0], "category_id": 4}), "its category is 4"),
    ] {
        write(json!([annotation(11, wrong)]));
        let error = refused(folder.path(), "train", TaskName::Detection);
        assert!(error.contains("annotation 11: ") && error.contains(words), "{error}");
    }
}
