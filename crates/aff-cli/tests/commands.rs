//! The commands as a user types them, with good and bad input.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use autofocusformer::Device;
use autofocusformer::vision::{self, CocoRle, Rle};
use autofocusformer::weights::{read_tensor_file, write_tensor_file};
use common::{
    aff, convert_classifier, failure, fixture, models, photo, read_json, refusal, root, stderr, stdout,
    write_picture,
};
use serde_json::Value;

#[test]
fn predict_writes_overlay_map_and_json_at_the_photos_size() {
    let (folder, segmenter, _) = models();
    let photo = vision::open(photo()).unwrap();
    for task in ["semantic", "instance", "panoptic"] {
        let output = folder.path().join(task);
        let mut command = aff();
        command.arg("predict").arg(root().join("assets/tower.jpg")).arg("--model").arg(&segmenter);
        command.arg("--output").arg(&output).args(["--task", task, "--save-json"]);
        if task != "semantic" {
            command.args(["--threshold", "0"]);
        }
        command.assert().success();

        let overlay = vision::open(output.join("tower.overlay.png")).unwrap();
        assert_eq!(overlay.dimensions(), photo.dimensions());
        assert_ne!(overlay, photo, "something is drawn");
        let map = output.join("tower.map.png");
        assert_eq!(map.exists(), task != "instance");
        let json = read_json(&output.join("tower.json"));
        assert_eq!((json["width"].as_u64(), json["height"].as_u64()), (Some(640), Some(427)));
        assert_eq!(json["task"], task);
        let segments = json["segments"].as_array().unwrap();
        assert!(!segments.is_empty(), "{task}");
        for segment in segments {
            assert!(segment["id"].as_u64().unwrap() >= 1);
            assert!(segment["label"].is_string() && segment["was_fused"].is_boolean());
            let area = segment["area"].as_u64().unwrap();
            let coco: CocoRle = serde_json::from_value(segment["segmentation"].clone()).unwrap();
            let mask = Rle::try_from(&coco).unwrap();
            assert_eq!((coco.size, mask.area()), ([427, 640], area));
            assert_eq!(segment["bbox"], serde_json::to_value(mask.bbox()).unwrap());
            assert!((0.0..=1.0).contains(&segment["score"].as_f64().unwrap()));
        }
        if task == "semantic" {
            let areas: u64 = segments.iter().map(|segment| segment["area"].as_u64().unwrap()).sum();
            assert_eq!(areas, 640 * 427);
            // Grey, one class a pixel: opening it as RGB repeats the class.
            let map = vision::open(map).unwrap();
            let first = u64::from(map.get_pixel(0, 0).0[0]);
            assert!(segments.iter().any(|segment| segment["label_id"] == first));
        }
    }
}

#[test]
fn features_equal_the_reference() {
    let (folder, segmenter, classifier) = models();
    for (name, model) in [("segment-nano", segmenter), ("classify-nano", classifier)] {
        let expected = read_tensor_file(&fixture(name).join("expected.safetensors"), &Device::Cpu).unwrap();
        let source = folder.path().join(format!("{name}.safetensors"));
        let pixel_values = expected["pixel_values"].clone();
        write_tensor_file(&source, &[("pixel_values".to_owned(), pixel_values)].into()).unwrap();
        let output = folder.path().join(format!("{name}-out.safetensors"));
        aff().arg("features").arg(source).arg("--model").arg(model).arg("-o").arg(&output).assert().success();

        let found = read_tensor_file(&output, &Device::Cpu).unwrap();
        let names = match name {
            "segment-nano" => vec!["pred_logits", "pred_masks"],
            _ => vec!["logits"],
        };
        for name in names {
            let difference = (&found[name] - &expected[name]).unwrap().abs().unwrap().flatten_all().unwrap();
            let worst: f32 = difference.max(0).unwrap().to_scalar().unwrap();
            assert!(worst < 1e-4, "{name}: {worst}");
        }
        assert_eq!(found.keys().filter(|key| key.ends_with(".pos")).count(), 4);
        assert_eq!(found.keys().filter(|key| key.ends_with(".feat")).count(), 4);
    }
}

#[test]
fn features_of_an_image() {
    let (folder, segmenter, _) = models();
    let output = folder.path().join("features.safetensors");
    aff()
        .arg("features")
        .arg(photo())
        .arg("--model")
        .arg(segmenter)
        .arg("-o")
        .arg(&output)
        .assert()
        .success();
    let found = read_tensor_file(&output, &Device::Cpu).unwrap();
    assert_eq!(found["pred_masks"].dims()[0], 1);
}

#[test]
fn features_of_a_detector_are_its_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let pixels = folder.path().join("pixels.safetensors");
    let values = autofocusformer::Tensor::zeros((2, 3, 48, 64), autofocusformer::DType::F32, &Device::Cpu);
    let tensors = BTreeMap::from([("pixel_values".to_owned(), values.unwrap())]);
    write_tensor_file(&pixels, &tensors).unwrap();
    let output = folder.path().join("features.safetensors");
    let mut command = aff();
    command.arg("features").arg(&pixels).args(["--model", "random:aff-mini-coco-detection", "-o"]);
    command.arg(&output).assert().success();
    let found = read_tensor_file(&output, &Device::Cpu).unwrap();
    assert_eq!(found["pred_logits"].dims(), [2, 300, 80]);
    assert_eq!(found["pred_boxes"].dims(), [2, 300, 4]);
    assert_eq!(found["res2.pos"].dims(), [2, 12 * 16, 2]);
    assert!(found.contains_key("res5.feat") && !found.contains_key("pred_masks"));
}

#[test]
fn conversion_is_refused_where_a_model_is_and_forced_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    convert_classifier(&output);
    let before = std::fs::read(output.join("model.safetensors")).unwrap();
    let mut command = aff();
    command.arg("convert").arg(fixture("classify-nano/checkpoint.pth")).arg("-o").arg(&output);
    assert!(failure(&mut command).contains("--force"));
    command.arg("--force").assert().success();
    assert_eq!(std::fs::read(output.join("model.safetensors")).unwrap(), before);
}

#[test]
fn a_classifiers_backbone_is_grafted_under_a_segmentation_head() {
    let (folder, segmenter, classifier) = models();
    let output = folder.path().join("grafted");
    let mut command = aff();
    command.arg("convert").arg(fixture("segment-nano/model_final.pth"));
    command.arg("--config").arg(fixture("segment-nano/model.yaml")).arg("-o").arg(&output);
    command.arg("--backbone").arg(fixture("classify-nano/checkpoint.pth")).assert().success();
    let tensors = |folder: &Path| read_tensor_file(&folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let (grafted, segmenter, classifier) = (tensors(&output), tensors(&segmenter), tensors(&classifier));
    let bits = |tensor: &autofocusformer::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut from_classifier = 0;
    for (name, tensor) in &grafted {
        let own = name.strip_prefix("backbone.").filter(|name| !name.starts_with("norm"));
        let expected = own.map_or_else(|| &segmenter[name], |name| &classifier[name]);
        assert_eq!(bits(tensor), bits(expected), "{name}");
        from_classifier += usize::from(own.is_some());
    }
    assert!(from_classifier > 50 && from_classifier < grafted.len());

    let mut command = aff();
    command
        .arg("convert")
        .arg(fixture("classify-nano/checkpoint.pth"))
        .arg("-o")
        .arg(folder.path().join("other"));
    let error = failure(command.arg("--backbone").arg(fixture("classify-nano/checkpoint.pth")));
    assert!(error.contains("no segmentation checkpoint"), "{error}");
}

#[test]
fn offline_models_that_are_not_cached_are_errors() {
    let cache = tempfile::tempdir().unwrap();
    let mut command = aff();
    command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", cache.path());
    command.arg("bench").args(["--model", "nobody/nothing"]);
    let error = failure(&mut command);
    assert!(error.contains("nobody/nothing") && error.contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn wrong_photos_are_errors() {
    let (folder, segmenter, _) = models();
    let text = folder.path().join("text.jpg");
    std::fs::write(&text, "not an image").unwrap();
    let empty = folder.path().join("empty.png");
    std::fs::write(&empty, "").unwrap();
    let empty_folder = folder.path().join("empty_folder");
    std::fs::create_dir(&empty_folder).unwrap();
    let cut = folder.path().join("cut.jpg");
    std::fs::write(&cut, &std::fs::read(photo()).unwrap()[..20_000]).unwrap();
    for (source, part) in [
        (folder.path().join("missing.jpg"), "there is no such file"),
        (empty_folder, "no photo in this folder"),
        (text, "is not an image"),
        (empty, "it is empty"),
        (cut, "the file ends before the picture does"),
    ] {
        let output = folder.path().join("results");
        let mut command = aff();
        command.arg("predict").arg(&source).arg("--model").arg(&segmenter).arg("-o").arg(&output);
        let error = failure(&mut command);
        assert!(error.contains(part), "{error}");
        let left = std::fs::read_dir(&output).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing half done is left");
    }
}

#[test]
fn wrong_models_are_errors() {
    let (folder, segmenter, classifier) = models();
    let missing = folder.path().join("missing");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mixed = folder.path().join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    std::fs::copy(segmenter.join("config.json"), mixed.join("config.json")).unwrap();
    std::fs::copy(segmenter.join("preprocessor_config.json"), mixed.join("preprocessor_config.json"))
        .unwrap();
    std::fs::copy(classifier.join("model.safetensors"), mixed.join("model.safetensors")).unwrap();
    let damaged = folder.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::copy(segmenter.join("config.json"), damaged.join("config.json")).unwrap();
    let weights = std::fs::read(segmenter.join("model.safetensors")).unwrap();
    std::fs::write(damaged.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    for (model, part) in [
        (missing, "there is no such folder"),
        (empty, "has no config.json"),
        (segmenter.join("config.json"), "is a file"),
        (mixed, "missing"),
        (damaged, "not a whole safetensors file"),
        (classifier, "is a classifier, not a segmenter"),
    ] {
        let mut command = aff();
        command
            .arg("predict")
            .arg(photo())
            .arg("--model")
            .arg(&model)
            .arg("-o")
            .arg(folder.path().join("results"));
        let error = failure(&mut command);
        assert!(error.contains(part), "{part}: {error}");
        assert!(error.contains(&model.display().to_string()), "{error}");
    }
}

#[test]
fn wrong_shapes_are_listed_by_name() {
    let (folder, segmenter, _) = models();
    let mut tensors = read_tensor_file(&segmenter.join("model.safetensors"), &Device::Cpu).unwrap();
    let name = "backbone.norm0.weight";
    let half = tensors[name].narrow(0, 0, 3).unwrap().contiguous().unwrap();
    tensors.insert(name.to_owned(), half);
    write_tensor_file(&segmenter.join("model.safetensors"), &tensors).unwrap();
    let mut command = aff();
    command
        .arg("predict")
        .arg(photo())
        .arg("--model")
        .arg(&segmenter)
        .arg("-o")
        .arg(folder.path().join("out"));
    let error = failure(&mut command);
    assert!(error.contains(name) && error.contains("[3]"), "{error}");
}

#[test]
fn thresholds_are_obeyed_or_refused() {
    let (folder, segmenter, _) = models();
    let run = |arguments: &[&str]| {
        let mut command = aff();
        command.arg("predict").arg(photo()).arg("--model").arg(&segmenter);
        command.arg("-o").arg(folder.path().join("out")).arg("--save-json").args(arguments);
        command
    };
    let segments = |arguments: &[&str]| {
        run(arguments).assert().success();
        read_json(&folder.path().join("out/tower.json"))["segments"].as_array().unwrap().clone()
    };
    let all = segments(&["--task", "instance", "--threshold", "0"]);
    let scores: Vec<f64> = all.iter().map(|segment| segment["score"].as_f64().unwrap()).collect();
    let middle = scores[scores.len() / 2];
    let some = segments(&["--task", "instance", "--threshold", &middle.to_string()]);
    assert!(!some.is_empty() && some.len() < all.len());
    assert!(some.iter().all(|segment| segment["score"].as_f64().unwrap() >= middle - 1e-6));

    let error = refusal(&mut run(&["--task", "panoptic", "--threshold", "1.5"]));
    assert!(error.contains("--threshold") && error.contains("from 0 to 1"), "{error}");
    assert!(failure(&mut run(&["--task", "semantic", "--threshold", "0.5"])).contains("no effect"));
    assert!(failure(&mut run(&["--task", "instance", "--overlap-threshold", "0.5"])).contains("no effect"));
    assert!(
        refusal(&mut run(&["--device", "cuda:0"]))
            .contains("on the CPU only; build it with `--features cuda`")
    );
}

#[test]
fn photos_of_the_same_name_do_not_overwrite_each_other() {
    let (folder, segmenter, _) = models();
    let copy = folder.path().join("tower.jpg");
    std::fs::copy(photo(), &copy).unwrap();
    let mut command = aff();
    command.arg("predict").arg(photo()).arg(copy).arg("--model").arg(&segmenter);
    let error = failure(command.arg("-o").arg(folder.path().join("out")));
    assert!(error.contains("another photo is named"), "{error}");
}

#[test]
fn an_output_that_cannot_be_made_is_an_error() {
    let (folder, segmenter, _) = models();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = aff();
    command.arg("predict").arg(photo()).arg("--model").arg(&segmenter).arg("-o").arg(file.join("out"));
    assert!(failure(&mut command).contains("cannot make the folder"));
}

#[test]
fn folders_patterns_and_standard_input_are_sources() {
    let (folder, segmenter, _) = models();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    std::fs::write(photos.join("notes.txt"), "not a photo").unwrap();
    for name in ["b.jpg", "a.jpg"] {
        std::fs::copy(photo(), photos.join(name)).unwrap();
    }
    let run = |source: &str, output: &str| {
        let mut command = aff();
        command
            .arg("predict")
            .arg(source)
            .arg("--model")
            .arg(&segmenter)
            .arg("-o")
            .arg(folder.path().join(output));
        command
    };
    run(photos.to_str().unwrap(), "folder").assert().success();
    run(photos.join("a*.jpg").to_str().unwrap(), "pattern").assert().success();
    run("-", "stdin").write_stdin(std::fs::read(photo()).unwrap()).assert().success();
    let exists = |path: &str| folder.path().join(path).exists();
    assert!(exists("folder/a.map.png") && exists("folder/b.overlay.png") && !exists("folder/notes.map.png"));
    assert!(exists("pattern/a.map.png") && !exists("pattern/b.map.png"));
    assert!(exists("stdin/stdin.map.png"));
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(failure(&mut run(empty.to_str().unwrap(), "out")).contains("no photo in this folder"));
    assert!(failure(&mut run(photos.join("z*.jpg").to_str().unwrap(), "out")).contains("no file matches"));
    assert!(failure(run("-", "out").write_stdin("text")).contains("standard input"));
}

#[test]
fn tokens_are_drawn_for_both_kinds_of_model() {
    let (folder, segmenter, classifier) = models();
    for (model, panels, clusters) in [(&segmenter, 5, false), (&classifier, 4, false), (&classifier, 4, true)]
    {
        let output = folder.path().join("tokens.png");
        let mut command = aff();
        command.arg("tokens").arg(photo()).arg("--model").arg(model).arg("-o").arg(&output);
        command.args(clusters.then_some("--clusters")).assert().success();
        let picture = vision::open(&output).unwrap();
        assert_eq!(picture.dimensions(), (panels * (640 + 8) - 8, 427));
    }
}

#[test]
fn classes_and_facts_are_printed() {
    let (_folder, segmenter, classifier) = models();
    let mut command = aff();
    command.arg("classify").arg(photo()).arg("--model").arg(&classifier).args(["--top", "3", "--json"]);
    let output = command.assert().success().get_output().stdout.clone();
    let found: Value = serde_json::from_slice(&output).unwrap();
    let classes = found["classes"].as_array().unwrap();
    let scores: Vec<f64> = classes.iter().map(|class| class["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b));
    assert_eq!(found["source"], photo().to_str().unwrap());
    let error = failure(aff().arg("classify").arg(photo()).arg("--model").arg(&segmenter));
    assert!(error.contains("is a segmenter, not a classifier"), "{error}");

    let text = stdout(aff().arg("info").arg("random:aff-mini").args(["--size", "224"]));
    assert!(text.contains("6754451") && text.contains("1000 classes"), "{text}");
}

#[test]
fn a_bad_photo_among_good_ones_is_skipped_and_the_exit_code_says_so() {
    let (folder, segmenter, _) = models();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    std::fs::copy(photo(), photos.join("a.jpg")).unwrap();
    std::fs::write(photos.join("b.png"), "no picture").unwrap();
    // A header that promises 60,000 x 60,000 pixels, and a name that wants to be a command.
    let mut huge = b"BM".to_vec();
    huge.extend([0; 8]);
    huge.extend(54_u32.to_le_bytes());
    huge.extend(40_u32.to_le_bytes());
    huge.extend(60_000_u32.to_le_bytes());
    huge.extend(60_000_u32.to_le_bytes());
    huge.extend([1, 0, 24, 0]);
    huge.extend([0; 24]);
    std::fs::write(photos.join("c.bmp"), huge).unwrap();
    vision::write_png(photos.join("d 'quoted' $(name).png"), &vision::RgbImage::new(1, 1)).unwrap();
    let output = folder.path().join("out");
    let mut command = aff();
    command.arg("predict").arg(&photos).arg("--model").arg(&segmenter).arg("-o").arg(&output);
    let error = String::from_utf8(command.assert().failure().get_output().stderr.clone()).unwrap();
    assert!(error.contains("b.png") && error.contains("is not an image"), "{error}");
    assert!(error.contains("c.bmp") && error.contains("exceeds the limit"), "{error}");
    assert!(error.contains("2 of 4 photos were skipped"), "{error}");
    assert!(output.join("a.overlay.png").exists() && output.join("d 'quoted' $(name).map.png").exists());
    assert!(!output.join("b.map.png").exists() && !output.join("c.map.png").exists());
}

#[test]
fn photos_to_classify_are_named_in_every_way() {
    let (folder, _, classifier) = models();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for name in ["a.png", "b.png"] {
        write_picture(photos.join(name));
    }
    let run = |source: &Path| {
        let mut command = aff();
        command.arg("classify").arg(source).arg("--model").arg(&classifier).args(["--json", "--top", "1"]);
        command
    };
    let lines =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let in_folder = lines(&stdout(&mut run(&photos)));
    assert_eq!(in_folder.len(), 2);
    assert_eq!(in_folder, lines(&stdout(&mut run(&photos.join("*.png")))));
    let stdin = std::fs::read(photos.join("a.png")).unwrap();
    let piped = lines(&stdout(run(Path::new("-")).write_stdin(stdin)));
    assert_eq!(piped[0]["classes"], in_folder[0]["classes"]);
    assert_eq!(piped[0]["source"], "-");

    std::fs::write(photos.join("c.png"), "no picture").unwrap();
    let mut command = run(&photos);
    let output = command.assert().code(3).get_output().clone();
    let found = lines(&String::from_utf8(output.stdout).unwrap());
    assert!(found.len() == 3 && found[2]["error"].as_str().unwrap().contains("is not an image"));
    assert!(stderr(&mut command, 3).ends_with("error: 1 of 3 photos were skipped\n"));
}

#[test]
fn pixel_values_are_known_by_their_content() {
    let (folder, segmenter, _) = models();
    let expected = fixture("segment-nano/expected.safetensors");
    let values = read_tensor_file(&expected, &Device::Cpu).unwrap()["pixel_values"].clone();
    let source = folder.path().join("values.bin");
    write_tensor_file(&source, &[("pixel_values".to_owned(), values)].into()).unwrap();
    let run = |source: &Path| {
        let mut command = aff();
        command.arg("features").arg(source).arg("--model").arg(&segmenter);
        command.arg("-o").arg(folder.path().join("features"));
        command
    };
    run(&source).assert().success();
    // A photo under the name of tensors is a photo all the same.
    let named_wrongly = folder.path().join("photo.safetensors");
    write_picture(&named_wrongly);
    run(&named_wrongly).assert().success();
    let other = folder.path().join("other.bin");
    std::fs::copy(segmenter.join("model.safetensors"), &other).unwrap();
    assert!(failure(&mut run(&other)).contains("it has no `pixel_values`"));
    let text = folder.path().join("text.safetensors");
    std::fs::write(&text, "neither tensors nor an image").unwrap();
    assert!(failure(&mut run(&text)).contains("is not an image"));
}

#[test]
fn pictures_of_tokens_are_png_by_name_too() {
    let output = tempfile::tempdir().unwrap();
    for name in ["tokens.jpg", "tokens.WebP"] {
        let mut command = aff();
        command.arg("tokens").arg(photo()).arg("-o").arg(output.path().join(name));
        let error = refusal(&mut command);
        assert!(error.contains("--output") && error.contains(".png"), "{error}");
    }
}

#[test]
fn a_model_is_loaded_by_its_weights_file_too() {
    let (folder, segmenter, _) = models();
    let mut command = aff();
    command.arg("predict").arg(photo()).arg("--model").arg(segmenter.join("model.safetensors"));
    command.arg("-o").arg(folder.path().join("out")).assert().success();
}
