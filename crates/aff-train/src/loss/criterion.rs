//! All losses of a batch.

use aff_model::{MaskOutput, MaskPrediction};
use aff_vision::LabelMap;
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

use super::classification::{CrossEntropy, cross_entropy};
use super::mask::{binary_cross_entropy, dice_loss};
use super::matcher::{HostPrediction, ImageTargets, match_image};
use super::points::{MapSize, Point, PointTable, Stencil, random_points};
use super::semantic::{SemanticTarget, semantic_loss};
use super::{LossOptions, Losses};
use crate::data::IGNORED;
use crate::matching::Match;
use crate::random::{Purpose, generator, mix};

/// The losses of Mask2Former for semantic segmentation: in every image each class is one target.
///
/// Each decoder output has its own matching and its own points.
#[derive(Debug, Clone)]
pub struct Criterion {
    options: LossOptions,
    classes: usize,
    /// Weight of every class in the semantic loss.
    class_weights: Vec<f32>,
}

/// A matched mask: which map of the batch, and what it should be.
struct MatchedMask {
    /// Place among the maps of the batch, `image * queries + query`.
    map: usize,
    image: usize,
    class: u16,
}

impl Criterion {
    /// Losses over `classes`, of which the shares of the labelled pixels are `frequencies` (for the semantic loss).
    pub fn new(options: LossOptions, frequencies: &[f64]) -> Self {
        let class_weights = balanced_weights(frequencies, options.semantic_balance);
        Self { options, classes: frequencies.len(), class_weights }
    }

    /// The losses of a batch, weighted and summed over the decoder's outputs. Points depend on `seed` alone.
    ///
    /// # Shapes
    /// One of `labels` for each of the B images of `output`; its size is that of the network's input.
    ///
    /// # Errors
    /// If they do not fit, or a label is none of the classes.
    pub fn losses(&self, output: &MaskOutput, labels: &[LabelMap], seed: u64) -> Result<Losses> {
        let targets = labels.iter().map(|map| self.targets(map)).collect::<Result<Vec<_>>>()?;
        let predictions = output.auxiliary.iter().chain([&output.prediction]);
        let mut sums: Vec<(&'static str, Tensor)> = Vec::new();
        for (layer, prediction) in predictions.enumerate() {
            let parts = self.layer_losses(prediction, labels, &targets, mix(seed, layer as u64))?;
            if sums.is_empty() {
                sums = parts;
            } else {
                for ((_, sum), (_, part)) in sums.iter_mut().zip(parts) {
                    *sum = (&*sum + part)?;
                }
            }
        }
        if let Some(regularization) = &output.regularization {
            sums.push(("regularization", regularization.clone()));
        }
        Ok(Losses { parts: sums })
    }

    fn targets<'a>(&self, labels: &'a LabelMap) -> Result<ImageTargets<'a>> {
        let mut seen = vec![false; self.classes];
        for &label in labels.labels() {
            match seen.get_mut(usize::from(label)) {
                Some(seen) => *seen = true,
                None if label == IGNORED => {}
                None => bail!("losses: label {label}; expected one of {} classes", self.classes),
            }
        }
        let classes = (0..).zip(seen).filter(|(_, seen)| *seen).map(|(class, _)| class).collect();
        let size = labels.size();
        let label_size = MapSize { height: size.height as usize, width: size.width as usize };
        Ok(ImageTargets { classes, labels: labels.labels(), label_size })
    }

    fn layer_losses(
        &self,
        prediction: &MaskPrediction,
        labels: &[LabelMap],
        targets: &[ImageTargets<'_>],
        seed: u64,
    ) -> Result<Vec<(&'static str, Tensor)>> {
        let (batch, queries, height, width) = prediction.mask_logits.dims4()?;
        if batch != labels.len() {
            bail!("losses: {batch} images and {} label maps", labels.len())
        }
        let size = MapSize { height, width };
        let class_logits = prediction.class_logits.to_dtype(DType::F32)?.reshape((batch * queries, ()))?;
        let masks =
            prediction.mask_logits.to_dtype(DType::F32)?.reshape((batch * queries, height * width))?;
        let host_classes: Vec<f32> = class_logits.flatten_all()?.to_vec1()?;
        let host_masks: Vec<f32> = masks.flatten_all()?.to_vec1()?;

        let matches: Vec<Vec<Match>> = targets
            .par_iter()
            .enumerate()
            .map(|(image, targets)| {
                let (classes, maps) = (host_classes.len() / batch, host_masks.len() / batch);
                let prediction = HostPrediction {
                    class_logits: &host_classes[image * classes..][..classes],
                    mask_logits: &host_masks[image * maps..][..maps],
                    queries,
                    size,
                };
                let mut rng = generator(seed, Purpose::Points, image as u64);
                let points = random_points(self.options.points, &mut rng);
                match_image(&prediction, targets, &points, &self.options)
            })
            .collect();

        let mut parts = vec![("class", self.class_loss(&class_logits, queries, targets, &matches)?)];
        let matched = matched_masks(queries, targets, &matches);
        let (mask, dice) = self.mask_losses(&masks, &host_masks, size, targets, &matched, seed)?;
        parts.extend([("mask", mask), ("dice", dice)]);
        if self.options.semantic > 0.0 {
            let semantic = self.semantic_losses(&class_logits, &masks, size, labels, seed)?;
            parts.push(("semantic", semantic));
        }
        Ok(parts)
    }

    /// Matched queries should say their target's class, all others "no object".
    fn class_loss(
        &self,
        class_logits: &Tensor,
        queries: usize,
        targets: &[ImageTargets<'_>],
        matches: &[Vec<Match>],
    ) -> Result<Tensor> {
        let no_object = self.classes as u32;
        let mut wanted = vec![no_object; class_logits.dim(0)?];
        for (image, (targets, matches)) in targets.iter().zip(matches).enumerate() {
            for matched in matches {
                wanted[image * queries + matched.query] = u32::from(targets.classes[matched.target]);
            }
        }
        let mut weights = vec![1.0; self.classes + 1];
        weights[self.classes] = self.options.no_object as f32;
        let label_smoothing = self.options.label_smoothing;
        let options = CrossEntropy { weights: Some(&weights), label_smoothing };
        cross_entropy(class_logits, &wanted, options)? * self.options.class
    }

    /// Binary cross entropy and dice loss of the matched masks, summed and divided by the number of targets.
    fn mask_losses(
        &self,
        masks: &Tensor,
        host_masks: &[f32],
        size: MapSize,
        targets: &[ImageTargets<'_>],
        matched: &[MatchedMask],
        seed: u64,
    ) -> Result<(Tensor, Tensor)> {
        if matched.is_empty() {
            let zero = (masks.narrow(0, 0, 1)?.sum_all()? * 0.0)?;
            return Ok((zero.clone(), zero));
        }
        let places = size.height * size.width;
        let points: Vec<Vec<Point>> = matched
            .par_iter()
            .map(|mask| {
                let map = &host_masks[mask.map * places..][..places];
                self.uncertain_points(map, size, mix(seed, mask.map as u64))
            })
            .collect();
        self.mask_losses_at(masks, size, targets, matched, &points)
    }

    /// The same at given points of each matched mask.
    fn mask_losses_at(
        &self,
        masks: &Tensor,
        size: MapSize,
        targets: &[ImageTargets<'_>],
        matched: &[MatchedMask],
        points: &[Vec<Point>],
    ) -> Result<(Tensor, Tensor)> {
        let device = masks.device();
        let wanted: Vec<Vec<f32>> = matched
            .par_iter()
            .zip(points)
            .map(|(mask, points)| {
                let targets = &targets[mask.image];
                let share =
                    |&point: &Point| Stencil::at(point, targets.label_size).share(targets.labels, mask.class);
                points.iter().map(share).collect()
            })
            .collect();
        let rows: Vec<u32> = matched.iter().map(|mask| mask.map as u32).collect();
        let maps = masks.index_select(&Tensor::from_vec(rows, matched.len(), device)?, 0)?;
        let logits = PointTable::new(points, size, device)?.read(&maps)?;
        let wanted = Tensor::from_vec(wanted.concat(), logits.shape(), device)?;
        let count = targets.iter().map(|targets| targets.classes.len()).sum::<usize>() as f64;
        let mask = (binary_cross_entropy(&logits, &wanted)?.sum_all()? * (self.options.mask / count))?;
        let dice = (dice_loss(&logits, &wanted)?.sum_all()? * (self.options.dice / count))?;
        Ok((mask, dice))
    }

    /// Points of a mask: a share of those it is least sure of (of several times as many), the rest anywhere.
    fn uncertain_points(&self, map: &[f32], size: MapSize, seed: u64) -> Vec<Point> {
        let options = &self.options;
        let mut rng = generator(seed, Purpose::Points, u64::MAX);
        let candidates = random_points((options.points as f64 * options.oversample_ratio) as usize, &mut rng);
        let chosen = ((options.points as f64 * options.importance_share) as usize).min(candidates.len());
        let mut by_doubt: Vec<(f32, usize)> = candidates
            .iter()
            .enumerate()
            .map(|(index, &point)| (Stencil::at(point, size).read(map).abs(), index))
            .collect();
        if 0 < chosen && chosen < by_doubt.len() {
            by_doubt.select_nth_unstable_by(chosen - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        by_doubt.truncate(chosen);
        // In the order they were drawn, so that sums do not depend on how the selection orders them.
        by_doubt.sort_unstable_by_key(|&(_, index)| index);
        let mut points: Vec<Point> = by_doubt.into_iter().map(|(_, index)| candidates[index]).collect();
        points.extend(random_points(options.points - points.len(), &mut rng));
        points
    }

    /// The mean over the images.
    fn semantic_losses(
        &self,
        class_logits: &Tensor,
        masks: &Tensor,
        size: MapSize,
        labels: &[LabelMap],
        seed: u64,
    ) -> Result<Tensor> {
        let queries = masks.dim(0)? / labels.len();
        let mut sum = (masks.narrow(0, 0, 1)?.sum_all()? * 0.0)?;
        for (image, labels) in labels.iter().enumerate() {
            let mut rng = generator(seed, Purpose::Points, (1 << 32) + image as u64);
            let points = random_points(self.options.points, &mut rng);
            let target = SemanticTarget { labels, points, class_weights: &self.class_weights };
            let rows = |all: &Tensor| all.narrow(0, image * queries, queries);
            if let Some(loss) = semantic_loss(&rows(class_logits)?, &rows(masks)?, size, &target)? {
                sum = (sum + loss)?;
            }
        }
        sum * (self.options.semantic / labels.len() as f64)
    }
}

fn matched_masks(queries: usize, targets: &[ImageTargets<'_>], matches: &[Vec<Match>]) -> Vec<MatchedMask> {
    let images = targets.iter().zip(matches).enumerate();
    let masks = images.flat_map(|(image, (targets, matches))| {
        matches.iter().map(move |matched| MatchedMask {
            map: image * queries + matched.query,
            image,
            class: targets.classes[matched.target],
        })
    });
    masks.collect()
}

/// `(median / frequency)^power`: 1 for a class in the middle. Classes that never occur weigh 1.
fn balanced_weights(frequencies: &[f64], power: f64) -> Vec<f32> {
    let mut occurring: Vec<f64> = frequencies.iter().copied().filter(|&share| share > 0.0).collect();
    occurring.sort_by(f64::total_cmp);
    let Some(&median) = occurring.get(occurring.len() / 2) else { return vec![1.0; frequencies.len()] };
    let weight = |&share: &f64| if share > 0.0 { (median / share).powf(power) as f32 } else { 1.0 };
    frequencies.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use aff_vision::ImageSize;
    use candle_core::{Device, Var};

    use super::*;

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
        serde_json::from_str(include_str!("../../tests/data/losses.json")).unwrap()
    }

    fn label_map(golden: &Golden) -> LabelMap {
        LabelMap::new(ImageSize::new(8, 12), golden.labels.clone()).unwrap()
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
        let targets = [criterion.targets(&labels).unwrap()];
        assert_eq!(targets[0].classes, [0, 1, 2]);
        let matches = [vec![(2, 0), (0, 1), (3, 2)]
            .into_iter()
            .map(|(query, target)| Match { query, target })
            .collect()];
        let class_logits = Tensor::from_slice(&golden.class_logits, (QUERIES, 4), &Device::Cpu).unwrap();
        let masks = Tensor::from_slice(&golden.mask_logits, (QUERIES, 24), &Device::Cpu).unwrap();

        let class = criterion.class_loss(&class_logits, QUERIES, &targets, &matches).unwrap();
        let matched = matched_masks(QUERIES, &targets, &matches);
        let points = vec![golden.points.clone(); 3];
        let (mask, dice) = criterion.mask_losses_at(&masks, SIZE, &targets, &matched, &points).unwrap();
        let target = SemanticTarget {
            labels: &labels,
            points: golden.points.clone(),
            class_weights: &[1.0, 2.0, 0.5],
        };
        let semantic = semantic_loss(&class_logits, &masks, SIZE, &target).unwrap().unwrap();
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
        let vars =
            [var(&golden.class_logits, &[1, QUERIES, 4]), var(&golden.mask_logits, &[1, QUERIES, 4, 6])];
        let prediction = MaskPrediction {
            class_logits: vars[0].as_tensor().clone(),
            mask_logits: vars[1].as_tensor().clone(),
        };
        (MaskOutput::new(vec![prediction.clone(), prediction], None).unwrap(), vars)
    }

    fn criterion() -> Criterion {
        let options =
            LossOptions { points: 64, semantic: 1.0, semantic_balance: 0.5, ..LossOptions::default() };
        Criterion::new(options, &[0.5, 0.3, 0.2])
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let golden = golden();
        let (output, vars) = output(&golden, 0.0);
        let labels = [label_map(&golden)];
        let total = criterion().losses(&output, &labels, 3).unwrap().total().unwrap();
        let gradients = total.backward().unwrap();
        // Changed a little, so that matching and choice of points stay.
        for (index, var) in vars.iter().enumerate() {
            let gradient: Vec<f32> = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
            let at = |place: usize, change: f32| {
                let mut changed = values.clone();
                changed[place] += change;
                var.set(&Tensor::from_vec(changed, var.shape(), &Device::Cpu).unwrap()).unwrap();
                scalar(&criterion().losses(&output, &labels, 3).unwrap().total().unwrap())
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
        let losses = |labels: &LabelMap, seed| {
            scalar(&criterion().losses(&output, std::slice::from_ref(labels), seed).unwrap().total().unwrap())
        };
        let labels = label_map(&golden);
        assert_eq!(losses(&labels, 1), losses(&labels, 1));
        assert_ne!(losses(&labels, 1), losses(&labels, 2));
        let nothing = LabelMap::new(ImageSize::new(8, 12), vec![IGNORED; 96]).unwrap();
        assert!(losses(&nothing, 1) > 0.0);
        let wrong = LabelMap::new(ImageSize::new(8, 12), vec![3; 96]).unwrap();
        assert!(criterion().losses(&output, &[wrong], 1).is_err());
        assert!(criterion().losses(&output, &[], 1).is_err());
    }

    #[test]
    fn what_the_head_wants_held_down_is_a_loss() {
        let golden = golden();
        let (mut output, _) = output(&golden, 0.25);
        let labels = label_map(&golden);
        let total = |output: &MaskOutput| {
            let losses = criterion().losses(output, std::slice::from_ref(&labels), 1).unwrap();
            scalar(&losses.total().unwrap())
        };
        let without = total(&output);
        output.regularization = Some(Tensor::new(0.5f32, &Device::Cpu).unwrap());
        assert!((total(&output) - without - 0.5).abs() < 1e-5);
    }

    #[test]
    fn points_are_where_the_mask_is_least_sure() {
        let mut map = vec![10.0; 24];
        map[7] = 0.0;
        let options = LossOptions {
            points: 100,
            importance_share: 1.0,
            oversample_ratio: 10.0,
            ..LossOptions::default()
        };
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
}
