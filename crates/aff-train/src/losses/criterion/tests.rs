//! The losses against PyTorch, finite differences and each other.

use aff_vision::{ImageSize, Rle};
use candle_core::{Device, Var};

use super::*;
use crate::targets::{Crowd, IGNORED, TargetSegment};

/// What `tests/make_golden.py` wrote.
#[derive(serde::Deserialize)]
struct Golden {
    class_logits: Vec<f32>,
    mask_logits: Vec<f32>,
    labels: Vec<u16>,
    points: Vec<Point>,
    class: f32,
    mask: f32,
    dice: f32,
    semantic: f32,
}

const SIZE: MapSize = MapSize { height: 4, width: 6 };
const QUERIES: usize = 4;

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/data/losses.json")).unwrap()
}

fn label_map(golden: &Golden) -> LabelMap {
    LabelMap::new(ImageSize::new(8, 12), golden.labels.clone()).unwrap()
}

fn maps(class_logits: &[f32], mask_logits: &[f32], queries: usize) -> Maps {
    let rows = mask_logits.len() / (SIZE.height * SIZE.width);
    let tensor =
        |values: &[f32]| Tensor::from_slice(values, (rows, values.len() / rows), &Device::Cpu).unwrap();
    Maps { class_logits: tensor(class_logits), masks: tensor(mask_logits), queries, size: SIZE }
}

fn batch<'a>(
    criterion: &Criterion,
    segments: &'a [SegmentTarget],
    labels: &'a [LabelMap],
    queries: usize,
) -> BatchTargets<'a> {
    let counts: Vec<usize> = segments.iter().map(|segments| segments.segments().len()).collect();
    let normalizer = criterion.normalizer(&counts, queries, 1);
    BatchTargets { segments, labels, normalizer, seed: 0, first_image: 0 }
}

/// The losses of a semantic batch.
fn losses(output: &MaskOutput, labels: &[LabelMap], seed: u64) -> Result<Tensor> {
    let segments: Vec<_> = labels.iter().map(|map| SegmentTarget::of_classes(map).unwrap()).collect();
    let targets = BatchTargets { seed, ..batch(&criterion(), &segments, labels, QUERIES) };
    criterion().losses(output, &targets)?.total()
}

fn scalar(tensor: &Tensor) -> f32 {
    tensor.to_scalar().unwrap()
}

#[test]
fn losses_at_fixed_points_under_a_fixed_matching_are_those_of_pytorch() {
    let golden = golden();
    let options = LossOptions { class: 1.0, mask: 1.0, dice: 1.0, ..LossOptions::default() };
    let criterion = Criterion::new(options, &[1.0 / 3.0; 3]);
    let labels = label_map(&golden);
    let segments = [SegmentTarget::of_classes(&labels).unwrap()];
    let targets = batch(&criterion, &segments, &[], QUERIES);
    let matches =
        [vec![(2, 0), (0, 1), (3, 2)].into_iter().map(|(query, target)| Match { query, target }).collect()];
    let maps = maps(&golden.class_logits, &golden.mask_logits, QUERIES);
    let class = criterion.class_loss(&maps, &targets, &matches).unwrap();
    let matched = matched_masks(QUERIES, &matches);
    let points = vec![golden.points.clone(); 3];
    let (mask, dice) = criterion.mask_losses_at(&maps, &targets, &matched, &points).unwrap();
    let target =
        SemanticTarget { labels: &labels, points: golden.points.clone(), class_weights: &[1.0, 2.0, 0.5] };
    let semantic = semantic_loss(&maps.class_logits, &maps.masks, SIZE, &target).unwrap().unwrap();
    for (found, expected) in
        [(class, golden.class), (mask, golden.mask), (dice, golden.dice), (semantic, golden.semantic)]
    {
        assert!((scalar(&found) - expected).abs() < 1e-5, "{found} {expected}");
    }
}

fn output(golden: &Golden, shift: f64) -> (MaskOutput, [Var; 2]) {
    let var = |values: &[f32], shape: &[usize]| {
        let tensor = (Tensor::from_slice(values, shape, &Device::Cpu).unwrap() + shift).unwrap();
        Var::from_tensor(&tensor).unwrap()
    };
    let vars = [var(&golden.class_logits, &[1, QUERIES, 4]), var(&golden.mask_logits, &[1, QUERIES, 4, 6])];
    let prediction = MaskPrediction {
        class_logits: vars[0].as_tensor().clone(),
        mask_logits: vars[1].as_tensor().clone(),
    };
    (MaskOutput::new(vec![prediction.clone(), prediction], None).unwrap(), vars)
}

fn criterion() -> Criterion {
    let options = LossOptions { points: 64, semantic: 1.0, semantic_balance: 0.5, ..LossOptions::default() };
    Criterion::new(options, &[0.5, 0.3, 0.2])
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let golden = golden();
    let (output, vars) = output(&golden, 0.0);
    let labels = [label_map(&golden)];
    let total = losses(&output, &labels, 3).unwrap();
    let gradients = total.backward().unwrap();
    // Changed a little, so that matching and choice of points stay.
    for (index, var) in vars.iter().enumerate() {
        let gradient: Vec<f32> = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let at = |place: usize, change: f32| {
            let mut changed = values.clone();
            changed[place] += change;
            var.set(&Tensor::from_vec(changed, var.shape(), &Device::Cpu).unwrap()).unwrap();
            scalar(&losses(&output, &labels, 3).unwrap())
        };
        let step = 5e-3;
        let mut worst = 0f32;
        for place in (0..values.len()).step_by(5) {
            let difference = (at(place, step) - at(place, -step)) / (2.0 * step);
            worst = worst.max((difference - gradient[place]).abs());
        }
        let scale = gradient.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(scale > 0.01 && worst < 0.05 * scale, "{index}: {worst} of {scale}");
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}

#[test]
fn the_same_seed_gives_the_same_losses_and_images_without_labels_are_no_targets() {
    let golden = golden();
    let (output, _) = output(&golden, 0.25);
    let at = |labels: &LabelMap, seed| scalar(&losses(&output, std::slice::from_ref(labels), seed).unwrap());
    let labels = label_map(&golden);
    assert_eq!(at(&labels, 1), at(&labels, 1));
    assert_ne!(at(&labels, 1), at(&labels, 2));
    let nothing = LabelMap::new(ImageSize::new(8, 12), vec![IGNORED; 96]).unwrap();
    assert!(at(&nothing, 1) > 0.0);
    let wrong = LabelMap::new(ImageSize::new(8, 12), vec![3; 96]).unwrap();
    assert!(losses(&output, &[wrong], 1).is_err());
    assert!(losses(&output, &[], 1).is_err());
}

#[test]
fn points_are_where_the_mask_is_least_sure() {
    let mut map = vec![10.0; 24];
    map[7] = 0.0;
    let options =
        LossOptions { points: 100, importance_share: 1.0, oversample_ratio: 10.0, ..LossOptions::default() };
    let doubtful = Criterion::new(options, &[1.0]).uncertain_points(&map, SIZE, 5);
    let value = |point: &Point| Stencil::at(*point, SIZE).read(&map);
    let mean = doubtful.iter().map(value).sum::<f32>() / 100.0;
    let options = LossOptions { points: 100, importance_share: 0.0, ..LossOptions::default() };
    let anywhere = Criterion::new(options, &[1.0]).uncertain_points(&map, SIZE, 5);
    let anywhere = anywhere.iter().map(value).sum::<f32>() / 100.0;
    assert!(doubtful.len() == 100 && mean < 0.9 * anywhere, "{mean} {anywhere}");
}

#[test]
fn rare_classes_weigh_more() {
    assert_eq!(balanced_weights(&[0.64, 0.16, 0.04, 0.0], 0.5), [0.5, 1.0, 2.0, 1.0]);
    assert_eq!(balanced_weights(&[0.9, 0.1], 0.0), [1.0, 1.0]);
}

/// What `tests/make_golden_segments.py` wrote.
#[derive(serde::Deserialize)]
struct SegmentsGolden {
    class_logits: Vec<f32>,
    mask_logits: Vec<f32>,
    points: Vec<Point>,
    instance: SegmentsCase,
    panoptic: SegmentsCase,
}

#[derive(serde::Deserialize)]
struct SegmentsCase {
    images: Vec<Vec<SegmentGolden>>,
    /// The query of each target, image by image.
    matching: Vec<Vec<usize>>,
    class: f32,
    mask: f32,
    dice: f32,
}

#[derive(serde::Deserialize)]
struct SegmentGolden {
    class: u32,
    crowd: bool,
    bitmap: Vec<u8>,
}

impl SegmentGolden {
    fn segment(&self) -> TargetSegment {
        if self.crowd { TargetSegment::crowd(self.class) } else { TargetSegment::new(self.class) }
    }
}

/// Masks that overlap are run lengths, others share a map.
fn segment_target(segments: &[SegmentGolden]) -> SegmentTarget {
    let size = ImageSize::new(8, 12);
    let table = segments.iter().map(SegmentGolden::segment).collect();
    let covered = |place: usize| segments.iter().filter(move |segment| segment.bitmap[place] == 1).count();
    if (0..96).all(|place| covered(place) < 2) {
        let segment_of = |place: usize| segments.iter().position(|segment| segment.bitmap[place] == 1);
        let map = (0..96).map(|place| segment_of(place).map_or(IGNORED, |segment| segment as u16));
        return SegmentTarget::from_map(LabelMap::new(size, map.collect()).unwrap(), table).unwrap();
    }
    let mask = |segment: &SegmentGolden| {
        let bitmap: Vec<bool> = segment.bitmap.iter().map(|&inside| inside == 1).collect();
        Rle::from_bitmap(size, &bitmap).unwrap()
    };
    SegmentTarget::from_masks(size, table, segments.iter().map(mask).collect()).unwrap()
}

#[test]
fn losses_of_instance_and_panoptic_targets_are_those_of_pytorch() {
    let golden: SegmentsGolden =
        serde_json::from_str(include_str!("../../../tests/data/segments.json")).unwrap();
    let queries = 5;
    let maps = maps(&golden.class_logits, &golden.mask_logits, queries);
    let criterion = Criterion::new(LossOptions::default(), &[1.0 / 3.0; 3]);
    for (case, shares_a_map) in [(&golden.instance, false), (&golden.panoptic, true)] {
        let all: Vec<SegmentTarget> = case.images.iter().map(|image| segment_target(image)).collect();
        assert_eq!(all[0].map().is_some(), shares_a_map);
        let is_target = |segment: &TargetSegment| segment.crowd == Crowd::Single;
        let segments: Vec<_> = all.iter().map(|target| target.retained(is_target).unwrap()).collect();
        assert!(segments[0].segments().len() < all[0].segments().len());
        let matches: Vec<Vec<Match>> = segments
            .iter()
            .enumerate()
            .map(|(image, segments)| {
                let prediction = HostPrediction {
                    class_logits: &golden.class_logits[image * queries * 4..][..queries * 4],
                    mask_logits: &golden.mask_logits[image * queries * 24..][..queries * 24],
                    queries,
                    size: SIZE,
                };
                match_image(&prediction, segments, &golden.points, criterion.options())
            })
            .collect();
        for (found, expected) in matches.iter().zip(&case.matching) {
            let queries: Vec<usize> = found.iter().map(|matched| matched.query).collect();
            assert_eq!(&queries, expected);
        }
        let targets = batch(&criterion, &segments, &[], queries);
        let class = criterion.class_loss(&maps, &targets, &matches).unwrap();
        let matched = matched_masks(queries, &matches);
        let points = vec![golden.points.clone(); matched.len()];
        let (mask, dice) = criterion.mask_losses_at(&maps, &targets, &matched, &points).unwrap();
        for (found, expected) in [(class, case.class), (mask, case.mask), (dice, case.dice)] {
            assert!((scalar(&found) - expected).abs() < 2e-5, "{found} {expected}");
        }
    }
}

#[test]
fn what_the_head_wants_held_down_is_a_loss() {
    let golden = golden();
    let (mut output, _) = output(&golden, 0.25);
    let labels = [label_map(&golden)];
    let without = scalar(&losses(&output, &labels, 1).unwrap());
    output.regularization = Some(Tensor::new(0.5f32, &Device::Cpu).unwrap());
    assert!((scalar(&losses(&output, &labels, 1).unwrap()) - without - 0.5).abs() < 1e-5);
}
