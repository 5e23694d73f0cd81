//! Polygons against pycocotools, on the cases of `fixtures/metrics` (made by `scripts/metric_goldens.py`).

use aff_vision::{ImageSize, Rle};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    size: [u32; 2],
    polygons: Vec<Vec<f64>>,
    counts: String,
}

#[test]
fn polygons_are_filled_as_pycocotools_fills_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/metrics/polygons.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    for case in cases {
        let size = ImageSize::new(case.size[0], case.size[1]);
        let found = Rle::from_polygons(size, &case.polygons).unwrap();
        assert_eq!(found, Rle::from_coco(size, &case.counts).unwrap(), "{}: {:?}", case.name, case.polygons);
    }
}

#[test]
fn polygons_that_are_none_are_refused() {
    let size = ImageSize::new(8, 8);
    for (polygon, part) in [
        (vec![1.0; 4], "polygon 0 has 4 numbers; expected an even number from 6 on"),
        (vec![1.0; 7], "polygon 0 has 7 numbers"),
        (vec![1.0, f64::NAN, 1.0, 1.0, 1.0, 1.0], "polygon 0 has the coordinate NaN"),
        (vec![1.0, 1e300, 1.0, 1.0, 1.0, 1.0], "expected one from -8 to 16"),
    ] {
        let error = Rle::from_polygons(size, &[polygon]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(Rle::from_polygons(ImageSize::new(1 << 20, 1 << 20), &[]).is_err());
}
