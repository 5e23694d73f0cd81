//! Against Pillow and pycocotools: files in `tests/data`, made by the script beside them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use aff_vision::{
    CocoRle, ImageSize, LabelMap, PanopticMap, PreprocessorConfig, Resample, RgbImage, Rle, SegmentInfo,
};
use sha2::{Digest, Sha256};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn open(name: &str) -> RgbImage {
    aff_vision::open(data(name)).unwrap()
}

fn worst_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn files_are_decoded_as_pillow_does() {
    for (name, tolerance) in [
        ("plain.bmp", 0),
        ("plain.tiff", 0),
        ("lossless.webp", 0),
        ("animated.webp", 0),
        ("palette.png", 0),
        ("grey.png", 0),
        ("alpha.png", 0),
        ("grey16.png", 0),
        // Decoders of JPEG may round in their own ways.
        ("plain.jpg", 3),
        ("rotated.jpg", 3),
    ] {
        let worst = worst_difference(&open(name), &open(&format!("{name}.expected.png")));
        assert!(worst <= tolerance, "{name}: {worst}");
    }
    let error = aff_vision::open(data("cmyk.jpg")).unwrap_err().to_string();
    assert!(error.contains("CMYK") && error.contains("cmyk.jpg"), "{error}");
}

#[test]
fn pictures_are_resized_as_pillow_does() {
    let crop = open("crop.png");
    for (name, resample) in [
        ("bilinear_down", Resample::Bilinear),
        ("bilinear_up", Resample::Bilinear),
        ("bilinear_narrow", Resample::Bilinear),
        ("bicubic_down", Resample::Bicubic),
        ("bicubic_up", Resample::Bicubic),
    ] {
        let expected = open(&format!("resize_{name}.png"));
        let size = ImageSize::of(&expected);
        let config: PreprocessorConfig = serde_json::from_value(serde_json::json!({
            "do_resize": true, "size": {"shortest_edge": size.height.min(size.width)},
            "resample": match resample { Resample::Bilinear => 2, Resample::Bicubic => 3 },
            "do_rescale": false, "rescale_factor": 1.0, "do_normalize": false,
            "image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0],
        }))
        .unwrap();
        let found = config.apply_to_size(&crop, size).unwrap();
        for (channel, plane) in found.data.chunks_exact(size.area() as usize).enumerate() {
            for (value, pixel) in plane.iter().zip(expected.pixels()) {
                assert_eq!(*value as u8, pixel.0[channel], "{name}");
            }
        }
    }
}

/// The noise of `make_resize_golden.py`.
fn noise(case: u32, size: ImageSize) -> RgbImage {
    RgbImage::from_fn(size.width, size.height, |x, y| {
        let place = (x + case).wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77);
        let hash = place.wrapping_mul(0xC2B2_AE3D);
        let pixel = [(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8];
        aff_vision::Rgb(if case % 2 == 1 {
            pixel.map(|value| if value < 128 { 0 } else { 255 })
        } else {
            pixel
        })
    })
}

#[test]
fn two_hundred_sizes_are_resized_bit_for_bit_as_pillow_does() {
    let cases: Vec<(u32, u32, u32, u32, u32, String, String)> =
        serde_json::from_slice(&std::fs::read(data("resize.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 200);
    for (case, width, height, to_width, to_height, filter, expected) in cases {
        let filter = match filter.as_str() {
            "bilinear" => Resample::Bilinear,
            "bicubic" => Resample::Bicubic,
            other => panic!("{other}"),
        };
        let image = noise(case, ImageSize::new(height, width));
        let resized = aff_vision::resize(&image, ImageSize::new(to_height, to_width), filter).unwrap();
        let digest = Sha256::digest(resized.as_raw());
        let found: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            found, expected,
            "case {case}: {width} x {height} to {to_width} x {to_height}, {filter:?}"
        );
    }
}

#[test]
fn masks_equal_those_of_pycocotools() {
    let masks: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(data("masks.json")).unwrap()).unwrap();
    assert_eq!(masks.len(), 6);
    for mask in masks {
        let coco: CocoRle = serde_json::from_value(mask.clone()).unwrap();
        let [height, width] = coco.size;
        let bits: Vec<bool> = mask["bits"].as_str().unwrap().bytes().map(|bit| bit == b'1').collect();
        let found = Rle::from_bitmap(ImageSize::new(height, width), &bits).unwrap();
        assert_eq!(CocoRle::from(&found), coco);
        assert_eq!(Rle::try_from(&coco).unwrap().to_bitmap(), bits);
        assert_eq!(found.area(), mask["area"].as_u64().unwrap());
        let bbox: Vec<u32> = serde_json::from_value(mask["bbox"].clone()).unwrap();
        assert_eq!(found.bbox()[..], bbox);
    }
}

#[test]
fn panoptic_entries_have_the_boxes_of_their_segments() {
    let segment = |id, label_id, area| SegmentInfo { id, label_id, score: 0.5, was_fused: false, area };
    let ids = vec![0, 1, 1, 2, 2, 1];
    let map = PanopticMap::new(ImageSize::new(2, 3), ids, vec![segment(1, 0, 3), segment(2, 1, 2)]).unwrap();
    let coco = map.to_coco(7, "seven.png", &[18, 92]).unwrap();
    let json = serde_json::to_value(&coco).unwrap();
    assert_eq!(
        json["segments_info"][0],
        serde_json::json!({"id": 1, "category_id": 18, "area": 3, "bbox": [1, 0, 2, 2], "iscrowd": 0})
    );
    assert_eq!(json["segments_info"][1]["bbox"], serde_json::json!([0, 1, 2, 1]));
    assert!(map.to_coco(7, "seven.png", &[18]).unwrap_err().to_string().contains("categories"));
}

#[test]
fn label_maps_survive_their_file_and_get_a_data_sets_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.png");
    let map = LabelMap::new(ImageSize::new(1, 3), vec![0, 2, 1]).unwrap();
    let ade20k: Vec<u16> = (1..=150).collect();
    map.renumbered(&ade20k).unwrap().write_png(&path).unwrap();
    assert_eq!(LabelMap::read_png(&path).unwrap().labels(), [1, 3, 2]);
    assert!(map.renumbered(&[1, 2]).is_err());
    let colour = LabelMap::read_png(data("crop.png")).unwrap_err().to_string();
    assert!(colour.contains("grey PNG"), "{colour}");
}
