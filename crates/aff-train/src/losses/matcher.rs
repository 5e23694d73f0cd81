//! The costs that queries are matched with targets by.

use super::LossOptions;
use super::matching::{Match, match_queries};
use super::points::MapSize;
use super::points::{Point, Stencil};
use crate::targets::SegmentTarget;

/// One image's prediction in memory.
pub(super) struct HostPrediction<'a> {
    /// `[Q][K+1]`
    pub(super) class_logits: &'a [f32],
    /// `[Q][h*w]`
    pub(super) mask_logits: &'a [f32],
    pub(super) queries: usize,
    pub(super) size: MapSize,
}

/// Matches queries with the segments of an image, comparing their masks at the given points.
pub(super) fn match_image(
    prediction: &HostPrediction<'_>,
    targets: &SegmentTarget,
    points: &[Point],
    options: &LossOptions,
) -> Vec<Match> {
    let costs = costs(prediction, targets, points, options);
    match_queries(&costs, prediction.queries)
}

/// `[targets][queries]`: class * -p(c) + mask * binary cross entropy + dice * dice loss.
fn costs(
    prediction: &HostPrediction<'_>,
    targets: &SegmentTarget,
    points: &[Point],
    options: &LossOptions,
) -> Vec<f32> {
    let outputs = prediction.class_logits.len() / prediction.queries;
    let places = prediction.size.height * prediction.size.width;
    let stencils: Vec<Stencil> = points.iter().map(|&point| Stencil::at(point, prediction.size)).collect();
    let size = MapSize::of(targets.size());
    let target_stencils: Vec<Stencil> = points.iter().map(|&point| Stencil::at(point, size)).collect();
    let masks: Vec<Vec<f32>> = (0..targets.segments().len())
        .map(|segment| {
            let reader = targets.reader(segment);
            target_stencils.iter().map(|stencil| reader.share(stencil)).collect()
        })
        .collect();
    let sizes: Vec<f32> = masks.iter().map(|mask| mask.iter().sum()).collect();

    let mut costs = vec![0.0; masks.len() * prediction.queries];
    let mut logits = vec![0.0; points.len()];
    let mut probabilities = vec![0.0; points.len()];
    for query in 0..prediction.queries {
        let map = &prediction.mask_logits[query * places..][..places];
        let (mut softplus, mut size) = (0.0, 0.0);
        for ((logit, probability), stencil) in logits.iter_mut().zip(&mut probabilities).zip(&stencils) {
            *logit = stencil.read(map);
            let exponential = (-logit.abs()).exp();
            softplus += logit.max(0.0) + exponential.ln_1p();
            let near_one = 1.0 / (1.0 + exponential);
            *probability = if *logit >= 0.0 { near_one } else { exponential * near_one };
            size += *probability;
        }
        let classes = &prediction.class_logits[query * outputs..][..outputs];
        let highest = classes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = classes.iter().map(|logit| (logit - highest).exp()).sum();
        for (target, mask) in masks.iter().enumerate() {
            let class = targets.segments()[target].class as usize;
            let probability = (classes[class] - highest).exp() / sum;
            let cross_entropy = (softplus - dot(&logits, mask)) / points.len() as f32;
            let dice = 1.0 - (2.0 * dot(&probabilities, mask) + 1.0) / (size + sizes[target] + 1.0);
            costs[target * prediction.queries + query] = options.class as f32 * -probability
                + options.mask as f32 * cross_entropy
                + options.dice as f32 * dice;
        }
    }
    costs
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use aff_vision::{ImageSize, LabelMap};

    use super::*;
    use crate::targets::IGNORED;

    /// Two queries, two classes on a map of 2 x 2 read at its centres; every number worked out by hand.
    #[test]
    fn costs_are_those_of_the_formula() {
        let prediction = HostPrediction {
            class_logits: &[2f32.ln(), 0.0, 0.0, 0.0, 3f32.ln(), 0.0],
            mask_logits: &[0.0, 0.0, 0.0, 0.0, 3f32.ln(), -3f32.ln(), 3f32.ln(), -3f32.ln()],
            queries: 2,
            size: MapSize { height: 2, width: 2 },
        };
        let map = LabelMap::new(ImageSize::new(2, 2), vec![1, 0, 1, IGNORED]).unwrap();
        let targets = SegmentTarget::of_classes(&map).unwrap();
        let points = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]];
        let options = LossOptions { class: 1.0, mask: 10.0, dice: 100.0, ..LossOptions::default() };
        let costs = costs(&prediction, &targets, &points, &options);
        let ln = f32::ln;
        let expected = [
            // Class 0 has one point. Query 0: p = 1/2 everywhere; its classes are (1/2, 1/4, 1/4).
            -0.5 + 10.0 * ln(2.0) + 100.0 * (1.0 - (2.0 * 0.5 + 1.0) / (2.0 + 1.0 + 1.0)),
            // Query 1: p = (3/4, 1/4, 3/4, 1/4); softplus(+-ln 3) = ln 4, ln 4/3.
            -0.2 + 10.0 * ((2.0 * ln(4.0) + 2.0 * ln(4.0 / 3.0) + ln(3.0)) / 4.0)
                + 100.0 * (1.0 - (2.0 * 0.25 + 1.0) / (2.0 + 1.0 + 1.0)),
            // Class 1 has two points.
            -0.25 + 10.0 * ln(2.0) + 100.0 * (1.0 - (2.0 * 1.0 + 1.0) / (2.0 + 2.0 + 1.0)),
            -0.6 + 10.0 * ((2.0 * ln(4.0) + 2.0 * ln(4.0 / 3.0) - 2.0 * ln(3.0)) / 4.0)
                + 100.0 * (1.0 - (2.0 * 1.5 + 1.0) / (2.0 + 2.0 + 1.0)),
        ];
        for (found, expected) in costs.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        let matches = match_image(&prediction, &targets, &points, &options);
        assert_eq!(matches, [Match { query: 0, target: 0 }, Match { query: 1, target: 1 }]);
    }
}
