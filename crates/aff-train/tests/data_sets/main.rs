//! Every layout on a small data set of its form, whole and damaged.

#![allow(clippy::unwrap_used, clippy::panic)]

mod coco;

use std::fs;
use std::path::Path;

use aff_train::CityscapesAp;
use aff_train::data::{
    CategoryKind, DataSet, DataSource, IGNORED, Protocol, ResultFiles, check, contact_sheet, open,
    open_unchecked,
};
use aff_train::targets::{Crowd, SegmentTarget, Target};
use aff_train::tasks::TaskName;
use aff_vision::{ImageSize, InstanceMask, LabelMap, Rgb, RgbImage, Rle, write_png};
use coco::{coco_folder, instances};

const SIZE: ImageSize = ImageSize::new(4, 6);
fn photo(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_png(path, &RgbImage::from_pixel(SIZE.width, SIZE.height, Rgb([90, 120, 60]))).unwrap();
}

/// A label map of two halves.
fn halves(path: &Path, top: u16, bottom: u16) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let labels = (0..24).map(|at| if at < 12 { top } else { bottom }).collect();
    LabelMap::new(SIZE, labels).unwrap().write_png(path).unwrap();
}

/// A picture of ids of two halves.
fn ids(path: &Path, top: [u8; 3], bottom: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |_, y| Rgb(if y < 2 { top } else { bottom });
    write_png(path, &RgbImage::from_fn(SIZE.width, SIZE.height, pixel)).unwrap();
}

fn text(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

fn opened(folder: &Path, split: &str, task: TaskName) -> Box<dyn DataSet> {
    open(&DataSource::new(folder, split, task)).unwrap()
}

fn refused(folder: &Path, split: &str, task: TaskName) -> String {
    match open(&DataSource::new(folder, split, task)) {
        Err(error) => error.to_string(),
        Ok(data) => data.load(0).unwrap_err().to_string(),
    }
}

fn semantic(data: &dyn DataSet, index: usize) -> Vec<u16> {
    match data.load(index).unwrap().target {
        Target::Semantic(map) => map.labels().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn segments(data: &dyn DataSet, index: usize) -> SegmentTarget {
    match data.load(index).unwrap().target {
        Target::Segments(segments) => segments,
        other => panic!("{other:?}"),
    }
}

/// Class, crowd and area of each segment.
fn summary(target: &SegmentTarget) -> Vec<(u32, Crowd, u64)> {
    let area = |index| target.mask(index).unwrap().area();
    (0..).zip(target.segments()).map(|(index, segment)| (segment.class, segment.crowd, area(index))).collect()
}

fn object(label_id: u32, score: f32, counts: &[u32]) -> InstanceMask {
    InstanceMask { label_id, score, query: 0, mask: Rle::from_counts(SIZE, counts).unwrap() }
}

// ImageNet

#[test]
fn imagenet_has_a_folder_for_each_class() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in
        ["train/n01440764/a.png", "train/n01443537/b.JPEG", "train/n01443537/c.png", "val/n01443537/v.png"]
    {
        photo(&root.join(name).with_extension("png"));
        fs::rename(root.join(name).with_extension("png"), root.join(name)).unwrap();
    }
    text(
        &root.join("LOC_synset_mapping.txt"),
        "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n",
    );
    let train = opened(root, "train", TaskName::Classification);
    assert_eq!((train.len(), train.class_names()), (3, vec!["tench".to_owned(), "goldfish".to_owned()]));
    // Classes are those of the training split, also where a split lacks one.
    let val = opened(root, "val", TaskName::Classification);
    let Target::Class(class) = val.load(0).unwrap().target else { panic!("no label") };
    assert_eq!((val.name(0).as_str(), class.most_probable()), ("v", 1));

    photo(&root.join("val/n99999999/x.png"));
    let error = refused(root, "val", TaskName::Classification);
    assert!(error.contains("n99999999: is none of the 2 classes"), "{error}");
    let error = refused(root, "test", TaskName::Classification);
    assert!(error.contains("there are no photos") || error.contains("no such folder"), "{error}");
    let error = refused(root, "train", TaskName::Panoptic);
    assert!(
        error.contains("a data set `imagenet` has labels for classification, not for panoptic"),
        "{error}"
    );
}

#[test]
fn imagenet_22k_has_no_splits() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["n00004475/a.png", "n00005787/b.png"] {
        photo(&folder.path().join(name));
    }
    let data = opened(folder.path(), "train", TaskName::Classification);
    assert_eq!((data.len(), data.class_names()), (2, vec!["n00004475".to_owned(), "n00005787".to_owned()]));
}

// Label maps

#[test]
fn ade20k_moves_its_labels_down() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for split in ["training", "validation"] {
        photo(&root.join(format!("images/{split}/ADE_1.png")));
        halves(&root.join(format!("annotations/{split}/ADE_1.png")), 0, 3);
    }
    let table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.15\t11664\t1172\t1\twall\n2\t0.1\t6046\t612\t1\tbuilding, edifice\n3\t0.1\t1\t1\t1\tsky\n";
    text(&root.join("objectInfo150.txt"), table);
    let data = opened(root, "val", TaskName::Semantic);
    assert_eq!(data.class_names(), ["wall", "building", "sky"]);
    let labels = semantic(data.as_ref(), 0);
    assert_eq!((labels[0], labels[23], data.categories()[2].id), (IGNORED, 2, 3));
    assert_eq!(opened(root, "train", TaskName::Semantic).len(), 1);

    halves(&root.join("annotations/validation/ADE_1.png"), 0, 4);
    let error = refused(root, "val", TaskName::Semantic);
    assert!(error.contains("ADE_1.png: has the label 4; expected 0 to 3"), "{error}");
    text(&root.join("objectInfo150.txt"), "Idx\tName\n2\twall\n");
    let error = refused(root, "val", TaskName::Semantic);
    assert!(error.contains(r#"has the line "2\twall"; expected the number 1, tabs and a name"#), "{error}");
}

#[test]
fn own_label_maps_take_their_classes_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    photo(&root.join("train/a.b.png"));
    halves(&root.join("trainannot/a.b.png"), 7, 255);
    text(&root.join("classes.txt"), "7 a tree\n\n2 sky\n");
    let data = opened(root, "train", TaskName::Semantic);
    assert_eq!(
        (data.name(0).as_str(), data.class_names()),
        ("a.b", vec!["sky".to_owned(), "a tree".to_owned()])
    );
    let labels = semantic(data.as_ref(), 0);
    assert_eq!((labels[0], labels[23], data.categories()[1].id), (1, IGNORED, 7));

    halves(&root.join("trainannot/a.b.png"), 3, 255);
    let error = refused(root, "train", TaskName::Semantic);
    assert!(error.contains("a.b.png: has the label 3; expected 2 or 7 or 255"), "{error}");
    // Names alone: numbered from 0.
    text(&root.join("classes.txt"), "sky\ngrass land\na\nb");
    assert_eq!(semantic(opened(root, "train", TaskName::Semantic).as_ref(), 0)[0], 3);
    for (classes, part) in [
        ("1 a\n1 b", r#"gives the number 1 to "a" and to "b""#),
        ("0 a\n255 b", r#"gives the number 255 to "b"; it stands for ignored pixels"#),
        (" \n", "names no class"),
    ] {
        text(&root.join("classes.txt"), classes);
        let error = refused(root, "train", TaskName::Semantic);
        assert!(error.contains("classes.txt") && error.contains(part), "{error}");
    }
    text(&root.join("classes.txt"), [0xFF, 0xFE]);
    let error = refused(root, "train", TaskName::Semantic);
    assert!(error.contains("not a text"), "{error}");
}

// Cityscapes

fn cityscapes(root: &Path) {
    photo(&root.join("leftImg8bit/val/ulm/ulm_000001_000019_leftImg8bit.png"));
    let labels = root.join("gtFine/val/ulm");
    halves(&labels.join("ulm_000001_000019_gtFine_labelIds.png"), 7, 4);
    // A car, a group of persons, a caravan, road.
    let values = (0..24).map(|at| [26_001, 24, 29_001, 7][at / 6]).collect();
    let map = LabelMap::new(SIZE, values).unwrap();
    map.write_png(labels.join("ulm_000001_000019_gtFine_instanceIds.png")).unwrap();
}

#[test]
fn cityscapes_has_classes_objects_and_both() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    cityscapes(root);
    let data = opened(root, "val", TaskName::Semantic);
    assert_eq!((data.len(), data.name(0).as_str()), (1, "ulm_000001_000019"));
    let labels = semantic(data.as_ref(), 0);
    assert_eq!((labels[0], labels[23], data.categories().len()), (0, IGNORED, 19));

    let data = opened(root, "val", TaskName::Instance);
    assert_eq!(
        (data.categories().len(), data.categories()[2].id, data.protocol()),
        (8, 26, Protocol::Cityscapes)
    );
    let objects = segments(data.as_ref(), 0);
    let mut found = summary(&objects);
    found.sort_by_key(|segment| segment.0);
    assert_eq!(found, [(0, Crowd::Crowd, 6), (2, Crowd::Single, 6)]);
    let truth = data.cityscapes_truth(0).unwrap().unwrap();
    assert_eq!((truth.objects.len(), truth.void.area()), (2, 0));

    let data = opened(root, "val", TaskName::Panoptic);
    let mut found = summary(&segments(data.as_ref(), 0));
    found.sort_by_key(|segment| segment.0);
    // Caravans are no class; the group is a crowd, the road is not.
    assert_eq!(found, [(0, Crowd::Single, 6), (11, Crowd::Crowd, 6), (13, Crowd::Single, 6)]);
    assert_eq!(data.categories()[10].kind, CategoryKind::Stuff);
    assert_eq!(data.categories()[11].kind, CategoryKind::Thing);

    let labels = root.join("gtFine/val/ulm");
    halves(&labels.join("ulm_000001_000019_gtFine_instanceIds.png"), 26_001, 34_001);
    let error = refused(root, "val", TaskName::Instance);
    assert!(error.contains("has the value 34001; expected a label from 0 to 33, or 1000 times"), "{error}");
    // Train ids serve where there are no label ids.
    fs::remove_file(labels.join("ulm_000001_000019_gtFine_labelIds.png")).unwrap();
    halves(&labels.join("ulm_000001_000019_gtFine_labelTrainIds.png"), 18, 255);
    let labels = semantic(opened(root, "val", TaskName::Semantic).as_ref(), 0);
    assert_eq!((labels[0], labels[23]), (18, IGNORED));
    let error = refused(root, "train", TaskName::Semantic);
    assert!(
        error.contains("leftImg8bit/train: there are no photos in it; expected CITY/*_leftImg8bit.png"),
        "{error}"
    );
}

// Recognition, missing files, check

#[test]
fn folders_of_no_layout_are_told_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path(), "train", TaskName::Semantic);
    for part in [
        "camvid: CamVid in 11 classes",
        "ade20k:",
        "cityscapes:",
        "coco:",
        "folder: ",
        "coco-folder:",
        "imagenet:",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let source = DataSource::new(folder.path(), "train", TaskName::Semantic).with_layout("voc");
    let error = open(&source).unwrap_err().to_string();
    assert!(error.contains("is voc; expected one of") && error.contains("coco-folder"), "{error}");
    let error = refused(folder.path(), "../train", TaskName::Semantic);
    assert!(error.contains("`split` is ../train; expected a plain name"), "{error}");
    let error = refused(&folder.path().join("none"), "train", TaskName::Semantic);
    assert!(error.contains("there is no such folder"), "{error}");
}

/// A name chooses between layouts that both fit; without one the task does.
#[test]
fn a_folder_may_have_two_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    coco_folder(root, &instances());
    halves(&root.join("valannot/a.png"), 0, 1);
    halves(&root.join("valannot/b.png"), 0, 0);
    text(&root.join("classes.txt"), "sky\ngrass");
    assert_eq!(opened(root, "val", TaskName::Semantic).class_names(), ["sky", "grass"]);
    assert_eq!(opened(root, "val", TaskName::Instance).class_names(), ["person", "toothbrush"]);
    let source = DataSource::new(root, "val", TaskName::Semantic).with_layout("coco-folder");
    let error = open(&source).unwrap_err().to_string();
    assert!(error.contains("has no annotations for semantic"), "{error}");
}

#[test]
fn checks_count_and_find_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["a", "b", "c", "d"] {
        photo(&root.join(format!("train/{name}.png")));
        halves(&root.join(format!("trainannot/{name}.png")), 0, 1);
    }
    text(&root.join("classes.txt"), "sky\ngrass\nwater");
    halves(&root.join("trainannot/a.png"), 0, 255);
    let whole = check(opened(root, "train", TaskName::Semantic).as_ref(), || {});
    assert!(whole.is_whole());
    let counts = |check: &aff_train::data::DataCheck| -> Vec<[u64; 3]> {
        check.classes.iter().map(|class| [class.images, class.segments, class.pixels]).collect()
    };
    assert_eq!(counts(&whole), [[4, 4, 48], [3, 3, 36], [0, 0, 0]]);
    assert_eq!((whole.images, whole.unlabelled_pixels, whole.classes[2].name.as_str()), (4, 12, "water"));

    fs::remove_file(root.join("trainannot/b.png")).unwrap();
    halves(&root.join("trainannot/c.png"), 9, 1);
    let source = DataSource::new(root, "train", TaskName::Semantic);
    let error = open(&source).unwrap_err().to_string();
    assert!(error.contains("trainannot/b.png: is missing, and so are 0 other files"), "{error}");
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let data = open_unchecked(&source).unwrap();
    let damaged = check(data.as_ref(), || _ = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    assert_eq!(seen.into_inner(), 4);
    assert_eq!(damaged.missing_files, [root.join("trainannot/b.png")]);
    let names: Vec<&str> = damaged.problems.iter().map(|problem| problem.image.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    assert!(damaged.problems[1].problem.contains("has the label 9; expected 0 to 2 or 255"), "{damaged:?}");
    assert_eq!(counts(&damaged)[0], [2, 2, 24]);

    // The pictures that can be read are on the sheet, painted; the others are not.
    let sheet = contact_sheet(data.as_ref(), &[0, 1, 3], 2).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (2 * 244 + 4, 2 * 184 + 4));
    let middle = |column: u32, row: u32| sheet.get_pixel(4 + column * 244 + 120, 4 + row * 184 + 60).0;
    assert_eq!(middle(1, 0), [32; 3]);
    assert_ne!(middle(0, 0), [90, 120, 60]);
    assert_ne!(middle(0, 1), [32; 3]);
    assert!(contact_sheet(data.as_ref(), &[], 2).is_err() && contact_sheet(data.as_ref(), &[0], 0).is_err());
}

#[test]
fn checks_count_objects_and_crowds() {
    let folder = tempfile::tempdir().unwrap();
    coco_folder(folder.path(), &instances());
    let data = opened(folder.path(), "val", TaskName::Instance);
    let counted = check(data.as_ref(), || {});
    assert!(counted.is_whole(), "{counted:?}");
    let counts: Vec<[u64; 3]> =
        counted.classes.iter().map(|class| [class.images, class.segments, class.pixels]).collect();
    assert_eq!(counts, [[1, 1, 8], [1, 1, 4]]);
    // Covered are four columns of the first image (the polygon lies in the second and third of them), nothing of the other.
    assert_eq!((counted.crowds, counted.unlabelled_pixels), (1, 8 + 24));
    assert!(contact_sheet(data.as_ref(), &[0, 1], 2).is_ok());
}

// Result files

#[test]
fn cityscapes_results_are_texts_and_masks() {
    let folder = tempfile::tempdir().unwrap();
    let (root, output) = (folder.path().join("data"), folder.path().join("output"));
    cityscapes(&root);
    fs::create_dir(&output).unwrap();
    let data = opened(&root, "val", TaskName::Instance);
    let mut results = ResultFiles::new(&output, data.as_ref()).unwrap();
    results.add_instances(data.as_ref(), 0, &[object(2, 0.75, &[0, 4, 20])]).unwrap();
    assert!(results.finish().unwrap().is_empty());
    let lines = fs::read_to_string(output.join("ulm_000001_000019.txt")).unwrap();
    assert_eq!(lines, "ulm_000001_000019_0.png 26 0.75\n");
    let mask = LabelMap::read(output.join("ulm_000001_000019_0.png")).unwrap();
    assert_eq!(mask.areas(), [(0, 20), (255, 4)]);
    // The metric takes the truth as the data set has it.
    let mut precision = CityscapesAp::new();
    precision.add(0, &data.cityscapes_truth(0).unwrap().unwrap(), &[]).unwrap();
    assert_eq!(precision.report().ap, None);

    let data = opened(&root, "val", TaskName::Semantic);
    let mut results = ResultFiles::new(&output, data.as_ref()).unwrap();
    results.add_semantic(data.as_ref(), 0, &LabelMap::new(SIZE, vec![18; 24]).unwrap()).unwrap();
    assert_eq!(LabelMap::read(output.join("ulm_000001_000019.png")).unwrap().areas(), [(33, 24)]);
}
