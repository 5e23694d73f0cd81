//! Slow, readable twins: every mask is upsampled in full, in the two steps and in the order of the published code.

use proptest::prelude::*;

use super::prediction::{Prediction, PredictionParts};
use super::{InstanceOptions, PanopticOptions, ScoredLabelMap, SumResolution, instances, panoptic, semantic};
use crate::ImageSize;

/// A dense map, `values[y * width + x]`.
struct Dense {
    size: ImageSize,
    values: Vec<f64>,
}

impl Dense {
    fn resize(&self, to: ImageSize) -> Self {
        let along = |at: u32, from: u32, to: u32| {
            let position = ((f64::from(at) + 0.5) * f64::from(from) / f64::from(to) - 0.5).max(0.0);
            let low = (position as u32).min(from - 1);
            (low, (low + 1).min(from - 1), position - f64::from(low))
        };
        let at = |y: u32, x: u32| self.values[y as usize * self.size.columns() + x as usize];
        let mut values = Vec::new();
        for y in 0..to.height {
            let (top, bottom, down) = along(y, self.size.height, to.height);
            for x in 0..to.width {
                let (left, right, across) = along(x, self.size.width, to.width);
                let upper = at(top, left) * (1.0 - across) + at(top, right) * across;
                let lower = at(bottom, left) * (1.0 - across) + at(bottom, right) * across;
                values.push(upper * (1.0 - down) + lower * down);
            }
        }
        Self { size: to, values }
    }

    fn crop(&self, to: ImageSize) -> Self {
        let rows = self.values.chunks(self.size.columns()).take(to.rows());
        Self { size: to, values: rows.flat_map(|row| row[..to.columns()].to_vec()).collect() }
    }

    fn sigmoid(mut self) -> Self {
        for value in &mut self.values {
            *value = 1.0 / (1.0 + (-*value).exp());
        }
        self
    }
}

fn at_padded(prediction: &Prediction<'_>, query: usize) -> Dense {
    let parts = prediction.parts();
    let values = prediction.mask(query).iter().map(|&logit| f64::from(logit)).collect();
    Dense { size: parts.canvas, values }.resize(parts.padded)
}

fn at_source(prediction: &Prediction<'_>, query: usize) -> Dense {
    at_padded(prediction, query).crop(prediction.parts().content).resize(prediction.source())
}

/// `[num_classes]` maps.
fn class_maps(prediction: &Prediction<'_>, masks: &[Dense]) -> Vec<Dense> {
    let probabilities = prediction.class_probabilities();
    let size = masks[0].size;
    let map = |class: usize| {
        let sum = |pixel: usize| {
            masks
                .iter()
                .zip(&probabilities)
                .map(|(mask, row)| f64::from(row[class]) * mask.values[pixel])
                .sum()
        };
        Dense { size, values: (0..size.pixels()).map(sum).collect() }
    };
    (0..prediction.num_classes()).map(map).collect()
}

fn semantic_maps(prediction: &Prediction<'_>, resolution: SumResolution) -> Vec<Dense> {
    let queries = 0..prediction.parts().num_queries;
    match resolution {
        SumResolution::Source => {
            let masks: Vec<Dense> = queries.map(|query| at_source(prediction, query).sigmoid()).collect();
            class_maps(prediction, &masks)
        }
        SumResolution::Input => {
            let masks: Vec<Dense> = queries.map(|query| at_padded(prediction, query).sigmoid()).collect();
            let maps = class_maps(prediction, &masks);
            maps.iter().map(|map| map.crop(prediction.parts().content).resize(prediction.source())).collect()
        }
    }
}

/// Owned parts of a random prediction.
#[derive(Debug, Clone)]
struct Sample {
    class_logits: Vec<f32>,
    mask_logits: Vec<f32>,
    num_queries: usize,
    num_classes: usize,
    canvas: ImageSize,
    content: ImageSize,
    source: ImageSize,
}

impl Sample {
    fn prediction(&self) -> Prediction<'_> {
        Prediction::new(PredictionParts {
            class_logits: &self.class_logits,
            mask_logits: &self.mask_logits,
            num_queries: self.num_queries,
            num_classes: self.num_classes,
            canvas: self.canvas,
            padded: ImageSize::new(self.canvas.height * 4, self.canvas.width * 4),
            content: self.content,
            source: self.source,
        })
        .unwrap()
    }
}

fn samples() -> impl Strategy<Value = Sample> {
    let sizes = prop_oneof![
        (1u32..60, 1u32..300).prop_map(|(height, width)| ImageSize::new(height, width)),
        Just(ImageSize::new(1, 1)),
        Just(ImageSize::new(500, 1)),
        Just(ImageSize::new(1, 500)),
    ];
    (1usize..6, 1usize..10, 1u32..9, 1u32..9, 0u32..4, 0u32..4, sizes).prop_flat_map(
        |(num_queries, num_classes, rows, columns, below, right, source)| {
            let canvas = ImageSize::new(rows, columns);
            let class = prop::collection::vec(-6f32..6.0, num_queries * (num_classes + 1));
            let mask = prop::collection::vec(-8f32..8.0, num_queries * canvas.pixels());
            (class, mask).prop_map(move |(class_logits, mask_logits)| Sample {
                class_logits,
                mask_logits,
                num_queries,
                num_classes,
                canvas,
                content: ImageSize::new(4 * rows - below, 4 * columns - right),
                source,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn semantic_equals_the_twin(sample in samples(), is_at_source: bool) {
        let resolution = if is_at_source { SumResolution::Source } else { SumResolution::Input };
        let prediction = sample.prediction();
        let ScoredLabelMap { map, scores } = semantic(&prediction, resolution);
        prop_assert_eq!(map.size(), sample.source);
        let maps = semantic_maps(&prediction, resolution);
        let mut shares = vec![(0.0, 0); sample.num_classes];
        for (pixel, &label) in map.labels().iter().enumerate() {
            let best = maps.iter().map(|map| map.values[pixel]).fold(f64::MIN, f64::max);
            // Another class may win only if the two are equal up to rounding.
            prop_assert!(maps[usize::from(label)].values[pixel] > best - 1e-5);
            let total: f64 = maps.iter().map(|map| map.values[pixel]).sum();
            let (sum, pixels) = &mut shares[usize::from(label)];
            *sum += best / total;
            *pixels += 1;
        }
        for (&score, (sum, pixels)) in scores.iter().zip(shares) {
            let mean = if pixels > 0 { sum / f64::from(pixels) } else { 0.0 };
            prop_assert!((f64::from(score) - mean).abs() < 1e-4, "{score} {mean}");
        }
    }

    #[test]
    fn instances_equal_the_twin(
        sample in samples(),
        max_instances in 0usize..8,
        threshold in 0f32..0.6,
        mask_threshold in 0.2f32..0.8,
    ) {
        let prediction = sample.prediction();
        let options = InstanceOptions { max_instances, threshold, mask_threshold, classes: None };
        let found = instances(&prediction, &options).unwrap();
        let level = f64::from(mask_threshold / (1.0 - mask_threshold)).ln();
        prop_assert!(found.len() <= max_instances);
        prop_assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        let probabilities = prediction.class_probabilities();
        for instance in &found {
            prop_assert!(instance.score >= threshold);
            prop_assert_eq!(instance.mask.size(), sample.source);
            let logits = at_source(&prediction, instance.query);
            let (mut sum, mut count) = (0.0, 0.0);
            for (&inside, &logit) in instance.mask.to_bitmap().iter().zip(&logits.values) {
                prop_assert!(inside == (logit > level) || (logit - level).abs() < 1e-5);
                if inside {
                    sum += 1.0 / (1.0 + (-logit).exp());
                    count += 1.0;
                }
            }
            let score = f64::from(probabilities[instance.query][instance.label_id as usize]) * sum / count;
            prop_assert!((score - f64::from(instance.score)).abs() < 1e-5);
        }
    }

    #[test]
    fn panoptic_equals_the_twin(sample in samples(), threshold in 0f32..0.6, overlap_threshold in 0f32..1.0) {
        let prediction = sample.prediction();
        let options = PanopticOptions { threshold, mask_threshold: 0.5, overlap_threshold, thing_ids: vec![0, 2, 4] };
        let map = panoptic(&prediction, &options).unwrap();
        prop_assert_eq!(map.size(), sample.source);

        // Areas add up, no id is unknown.
        let checked = crate::PanopticMap::new(map.size(), map.ids().to_vec(), map.segments().to_vec());
        prop_assert!(checked.is_ok(), "{:?}", checked.err());
        for (index, segment) in map.segments().iter().enumerate() {
            prop_assert_eq!(segment.id as usize, index + 1);
            prop_assert!(segment.area > 0 && segment.score > threshold);
            prop_assert_eq!(segment.was_fused, !options.thing_ids.contains(&segment.label_id));
            let same = map.segments().iter().filter(|other| other.label_id == segment.label_id).count();
            prop_assert!(same == 1 || !segment.was_fused);
        }

        let (expected, near_ties) = panoptic_twin(&prediction, &options);
        if !near_ties {
            prop_assert_eq!(map.ids(), expected);
        }
    }
}

/// Ids as the published code finds them, and whether a comparison was too close to be decided the same in other
/// arithmetic.
fn panoptic_twin(prediction: &Prediction<'_>, options: &PanopticOptions) -> (Vec<u32>, bool) {
    let mut near_ties = false;
    let mut kept: Vec<(usize, f64, Dense)> = Vec::new();
    for (query, row) in prediction.class_probabilities().iter().enumerate() {
        let best = (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        if best != prediction.num_classes() && row[best] > options.threshold {
            kept.push((best, f64::from(row[best]), at_source(prediction, query).sigmoid()));
        }
    }
    let pixels = prediction.source().pixels();
    let mut ids = vec![0; pixels];
    if kept.is_empty() {
        return (ids, false);
    }
    let mut winners = vec![0; pixels];
    for (pixel, winner) in winners.iter_mut().enumerate() {
        let values: Vec<f64> = kept.iter().map(|(_, score, mask)| score * mask.values[pixel]).collect();
        let best = values.iter().copied().fold(f64::MIN, f64::max);
        near_ties |= values.iter().filter(|&&value| value > best - 1e-5).count() > 1;
        *winner = values.iter().position(|&value| value == best).unwrap();
        near_ties |= kept.iter().any(|(_, _, mask)| (mask.values[pixel] - 0.5).abs() < 1e-5);
    }
    let mut next = 0;
    let mut stuff = std::collections::BTreeMap::new();
    for (slot, (class, _, mask)) in kept.iter().enumerate() {
        let won = winners.iter().filter(|&&winner| winner == slot).count();
        let original = mask.values.iter().filter(|&&value| value >= 0.5).count();
        let inside: Vec<usize> =
            (0..pixels).filter(|&at| winners[at] == slot && mask.values[at] >= 0.5).collect();
        let share = won as f64 / original as f64;
        if inside.is_empty() || share < f64::from(options.overlap_threshold) {
            continue;
        }
        let is_thing = options.thing_ids.contains(&(*class as u32));
        let id = match stuff.get(class) {
            Some(&id) if !is_thing => id,
            _ => {
                next += 1;
                stuff.insert(*class, next);
                next
            }
        };
        for at in inside {
            ids[at] = id;
        }
    }
    (ids, near_ties)
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let value = |index: usize| ((index * 7919 % 1009) as f32 / 100.0 - 5.0).sin() * 6.0;
    let sample = Sample {
        class_logits: (0..20 * 8).map(value).collect(),
        mask_logits: (0..20 * 12 * 10).map(|index| value(index + 500)).collect(),
        num_queries: 20,
        num_classes: 7,
        canvas: ImageSize::new(12, 10),
        content: ImageSize::new(45, 40),
        source: ImageSize::new(301, 267),
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let prediction = sample.prediction();
            (
                semantic(&prediction, SumResolution::Source),
                semantic(&prediction, SumResolution::Input),
                instances(&prediction, &InstanceOptions::default()).unwrap(),
                panoptic(&prediction, &PanopticOptions { threshold: 0.3, ..PanopticOptions::default() })
                    .unwrap(),
            )
        })
    };
    let one = run(1);
    assert!(!one.2.is_empty() && !one.3.segments().is_empty());
    assert_eq!(one, run(3));
}

#[test]
fn bad_outputs_are_refused() {
    let parts = PredictionParts {
        class_logits: &[0.0, 1.0],
        mask_logits: &[0.0],
        num_queries: 1,
        num_classes: 1,
        canvas: ImageSize::new(1, 1),
        padded: ImageSize::new(4, 4),
        content: ImageSize::new(4, 4),
        source: ImageSize::new(9, 9),
    };
    let refused = |parts: PredictionParts<'_>| Prediction::new(parts).unwrap_err().to_string();
    assert_eq!(
        refused(PredictionParts { mask_logits: &[f32::NAN], ..parts }),
        "`mask_logits`[0] is NaN; expected finite numbers (were the weights loaded, and in a wide enough type?)"
    );
    assert!(
        refused(PredictionParts { content: ImageSize::new(5, 4), ..parts }).contains("`content` is 4 x 5")
    );
    assert!(refused(PredictionParts { source: ImageSize::new(0, 4), ..parts }).contains("`source`"));
    assert!(refused(PredictionParts { num_classes: 2, ..parts }).contains("expected 3"));
    let prediction = Prediction::new(parts).unwrap();
    let options = PanopticOptions { threshold: f32::NAN, ..PanopticOptions::default() };
    assert_eq!(
        panoptic(&prediction, &options).unwrap_err().to_string(),
        "`threshold` is NaN; expected 0 to 1"
    );
}

#[test]
fn no_query_is_no_segment() {
    let prediction = Prediction::new(PredictionParts {
        class_logits: &[],
        mask_logits: &[],
        num_queries: 0,
        num_classes: 1,
        canvas: ImageSize::new(1, 1),
        padded: ImageSize::new(4, 4),
        content: ImageSize::new(4, 4),
        source: ImageSize::new(2, 2),
    })
    .unwrap();
    assert_eq!(semantic(&prediction, SumResolution::Source).map.labels(), [0; 4]);
    assert!(instances(&prediction, &InstanceOptions::default()).unwrap().is_empty());
    assert_eq!(panoptic(&prediction, &PanopticOptions::default()).unwrap().ids(), [0; 4]);
}
