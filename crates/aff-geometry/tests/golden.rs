//! The golden files of `fixtures/`, made by the published reference implementation in float32 with exact ordering.
//!
//! Orders, sets of nearest clusters, priors and selections must be equal; centres agree to 1e-5, the rounding of a mean of
//! at most 24 numbers below 100 in float32.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aff_geometry::{
    Canvas, ClusterMode, ClusterOptions, Curve, GridPrior, KeepReason, SelectionOptions, cluster,
    clusters_per_neighborhood, grid_prior, is_reserved, nearest_clusters, nearest_distances, select,
};
use safetensors::{Dtype, SafeTensors};

struct Golden {
    name: String,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        Self { name: path.file_name().unwrap().to_string_lossy().into_owned(), bytes, metadata }
    }

    fn all(folder: &str, prefix: &str) -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(folder);
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let named = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
        paths.iter().filter(named).map(|path| Self::read(path)).collect()
    }

    fn number<N: std::str::FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> N {
        self.metadata[key].parse().unwrap()
    }

    fn words(&self, key: &str, dtype: Dtype) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(key).unwrap();
        assert_eq!(tensor.dtype(), dtype, "{} {key}", self.name);
        tensor.data().chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
    }

    fn ints(&self, key: &str) -> Vec<i32> {
        self.words(key, Dtype::I32).into_iter().map(i32::from_le_bytes).collect()
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        self.words(key, Dtype::F32).into_iter().map(f32::from_le_bytes).collect()
    }

    fn flags(&self, key: &str) -> Vec<bool> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.tensor(key).unwrap().data().iter().map(|&byte| byte == 1).collect()
    }

    fn pos(&self) -> Vec<[i32; 2]> {
        self.ints("pos").chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
    }
}

fn sets(rows: &[u32], width: usize) -> Vec<Vec<u32>> {
    let sorted = |row: &[u32]| {
        let mut row = row.to_vec();
        row.sort_unstable();
        row
    };
    rows.chunks_exact(width).map(sorted).collect()
}

#[test]
fn clusters_and_their_neighborhoods_equal_the_reference() {
    let cases = Golden::all("geometry", "");
    assert_eq!(cases.len(), 9, "the golden files of clustering");
    for case in cases {
        let name = &case.name;
        let pos = case.pos();
        let canvas = Canvas::new(case.number("w"), case.number("h")).unwrap();
        assert_eq!(case.metadata["curve"], "scanline", "{name}");
        let mode = if case.number("anchors") { ClusterMode::Anchors } else { ClusterMode::Direct };
        let options =
            ClusterOptions { cluster_size: case.number("cluster_size"), curve: Curve::Scanline, mode };

        let clusters = cluster(&pos, canvas, &options).unwrap();
        let order: Vec<u32> = case.ints("order").into_iter().map(|token| token as u32).collect();
        assert_eq!(clusters.order(), order, "{name}");

        let expected = case.floats("cluster_center");
        assert_eq!(clusters.len(), expected.len() / 2, "{name}");
        for (center, expected) in clusters.centers().iter().zip(expected.chunks_exact(2)) {
            for axis in 0..2 {
                assert!((center[axis] - expected[axis]).abs() <= 1e-5, "{name}: {center:?} {expected:?}");
            }
        }

        let expected: Vec<u32> = case.ints("nearest_clusters").into_iter().map(|k| k as u32).collect();
        let width = expected.len() / pos.len();
        let neighborhood = if options.cluster_size == 24 { 144 } else { 48 };
        assert_eq!(
            clusters_per_neighborhood(neighborhood, options.cluster_size, clusters.len()),
            width,
            "{name}"
        );
        let nearest = nearest_clusters(&pos, &clusters, width).unwrap();
        assert_eq!(nearest.per_token(), width, "{name}");
        let found = sets(nearest.as_slice(), width);
        // The reference lists the rows in the sorted order.
        for (row, (&token, expected)) in clusters.order().iter().zip(sets(&expected, width)).enumerate() {
            assert_eq!(found[token as usize], expected, "{name}: row {row}, token {token}");
        }

        // The same positions as floats give the same result.
        let floats: Vec<[f32; 2]> = pos.iter().map(|p| p.map(|c| c as f32)).collect();
        assert_eq!(cluster(&floats, canvas, &options).unwrap(), clusters, "{name}");
    }
}

#[test]
fn selections_equal_the_reference() {
    let cases = Golden::all("ops", "adaptive_selection_");
    assert_eq!(cases.len(), 2, "the golden files of selection");
    for case in cases {
        let name = &case.name;
        let pos = case.pos();
        let canvas = Canvas::new(case.number("width"), case.number("height")).unwrap();
        let options = SelectionOptions {
            stride: case.number("stride"),
            rate: case.number("rate"),
            alpha: case.number("alpha"),
        };

        let reserved = case.flags("reserved");
        assert!(reserved.contains(&true) && reserved.contains(&false), "{name}");
        let found: Vec<bool> = pos.iter().map(|&point| is_reserved(point, options.stride)).collect();
        assert_eq!(found, reserved, "{name}");

        let prior: Vec<bool> = case.floats("grid_prior").into_iter().map(|g| g == 1.0).collect();
        assert_eq!(grid_prior(&pos, GridPrior::for_stride(options.stride)).unwrap(), prior, "{name}");

        // The fixture's local stride is t, twice the power of two next to the distance.
        for (distance, t) in nearest_distances(&pos).unwrap().into_iter().zip(case.ints("local_stride")) {
            let t = f64::from(t);
            assert!(t / 4.0 < distance && distance <= t / 2.0, "{name}: {distance} {t}");
        }

        let selection = select(&pos, canvas, &case.floats("score"), &options).unwrap();
        let expected: Vec<u32> = case.ints("selected").into_iter().map(|token| token as u32).collect();
        assert_eq!(selection.kept, expected, "{name}");
        assert_eq!(selection.grid_prior, prior, "{name}");
        for (&token, &reason) in selection.kept.iter().zip(&selection.reasons) {
            assert_eq!(reason == KeepReason::Reserved, reserved[token as usize], "{name}");
        }
    }
}
