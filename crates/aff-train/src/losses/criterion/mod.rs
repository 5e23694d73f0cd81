//! All losses of a batch.

use aff_model::{MaskOutput, MaskPrediction};
use aff_vision::LabelMap;
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

use crate::losses::classification::{CrossEntropy, cross_entropy};
use crate::losses::mask::{binary_cross_entropy, dice_loss};
use crate::losses::matcher::{HostPrediction, match_image};
use crate::losses::matching::Match;
use crate::losses::points::{MapSize, Point, PointTable, Stencil, random_points};
use crate::losses::semantic::{SemanticTarget, semantic_loss};
use crate::losses::{LossOptions, Losses};
use crate::random::{Purpose, generator, mix};
use crate::targets::SegmentTarget;

/// The losses of Mask2Former: every segment of an image is a target that one query is matched with.
///
/// Each decoder output has its own matching and its own points.
#[derive(Debug, Clone)]
pub struct Criterion {
    options: LossOptions,
    classes: usize,
    /// Weight of every class in the semantic loss.
    class_weights: Vec<f32>,
}

/// What sums are divided by, so that the mean over the passes of an update is what one pass over all of its images would give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalizer {
    /// Targets.
    pub targets: f64,
    /// Weights of all queries in the classification.
    pub class_weights: f64,
    /// Images.
    pub images: f64,
}

/// What a batch should be recognised as.
#[derive(Debug, Clone, Copy)]
pub struct BatchTargets<'a> {
    /// The segments of each image, none of them a crowd; masks are of the size of the network's input.
    pub segments: &'a [SegmentTarget],
    /// The class of each pixel of each image, for the semantic loss; empty without it.
    pub labels: &'a [LabelMap],
    /// What sums are divided by.
    pub normalizer: Normalizer,
    /// Decides at which points masks are compared, together with the number of the image.
    pub seed: u64,
    /// Number of the batch's first image in its update.
    pub first_image: u64,
}

/// A matched mask: which map of the batch, and what it should be.
struct MatchedMask {
    /// Place among the maps of the batch, `image * queries + query`.
    map: usize,
    image: usize,
    /// Index among the segments of the image.
    segment: usize,
}

/// A prediction as the losses take it.
struct Maps {
    /// `[B*Q,K+1]`
    class_logits: Tensor,
    /// `[B*Q,h*w]`
    masks: Tensor,
    queries: usize,
    size: MapSize,
}

impl Criterion {
    /// Losses over `classes`, of which the shares of the labelled pixels are `frequencies` (for the semantic loss).
    pub fn new(options: LossOptions, frequencies: &[f64]) -> Self {
        let class_weights = balanced_weights(frequencies, options.semantic_balance);
        Self { options, classes: frequencies.len(), class_weights }
    }

    /// Weights and settings.
    pub fn options(&self) -> &LossOptions {
        &self.options
    }

    /// What the sums of each of `passes` are divided by, from the numbers of targets of all images of the update.
    pub fn normalizer(&self, targets: &[usize], queries: usize, passes: usize) -> Normalizer {
        let matched: usize = targets.iter().map(|&count| count.min(queries)).sum();
        let others = (targets.len() * queries - matched) as f64;
        let each = |sum: f64| sum / passes.max(1) as f64;
        Normalizer {
            targets: each(targets.iter().sum::<usize>() as f64),
            class_weights: each(matched as f64 + others * f64::from(self.options.no_object as f32)),
            images: each(targets.len() as f64),
        }
    }

    /// The losses of a batch, weighted and summed over the decoder's outputs, and what the head wants held down besides.
    ///
    /// # Errors
    /// If targets and output do not fit, or a class is none of the network's.
    pub fn losses(&self, output: &MaskOutput, targets: &BatchTargets<'_>) -> Result<Losses> {
        self.check(targets)?;
        let predictions = output.auxiliary.iter().chain([&output.prediction]);
        let mut sums: Vec<(&'static str, Tensor)> = Vec::new();
        for (layer, prediction) in predictions.enumerate() {
            let of_layer = BatchTargets { seed: mix(targets.seed, layer as u64), ..*targets };
            let parts = self.layer_losses(prediction, &of_layer)?;
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

    fn check(&self, targets: &BatchTargets<'_>) -> Result<()> {
        for segment in targets.segments.iter().flat_map(SegmentTarget::segments) {
            if segment.class as usize >= self.classes {
                bail!("losses: class {}; expected one of {} classes", segment.class, self.classes)
            }
        }
        if self.options.semantic > 0.0 && targets.labels.len() != targets.segments.len() {
            bail!(
                "losses: the semantic loss takes a label map for each of the {} images",
                targets.segments.len()
            )
        }
        Ok(())
    }

    fn layer_losses(
        &self,
        prediction: &MaskPrediction,
        targets: &BatchTargets<'_>,
    ) -> Result<Vec<(&'static str, Tensor)>> {
        let (batch, queries, height, width) = prediction.mask_logits.dims4()?;
        if batch != targets.segments.len() {
            bail!("losses: {batch} images and the targets of {}", targets.segments.len())
        }
        let maps = Maps {
            class_logits: prediction.class_logits.to_dtype(DType::F32)?.reshape((batch * queries, ()))?,
            masks: prediction.mask_logits.to_dtype(DType::F32)?.reshape((batch * queries, height * width))?,
            queries,
            size: MapSize { height, width },
        };
        let host_masks: Vec<f32> = maps.masks.flatten_all()?.to_vec1()?;
        let matches = self.matches(&maps, &host_masks, targets)?;
        let mut parts = vec![("class", self.class_loss(&maps, targets, &matches)?)];
        let matched = matched_masks(queries, &matches);
        let (mask, dice) = self.mask_losses(&maps, &host_masks, targets, &matched)?;
        parts.extend([("mask", mask), ("dice", dice)]);
        if self.options.semantic > 0.0 {
            parts.push(("semantic", self.semantic_losses(&maps, targets)?));
        }
        Ok(parts)
    }

    /// Which query answers for which segment, image by image.
    fn matches(
        &self,
        maps: &Maps,
        host_masks: &[f32],
        targets: &BatchTargets<'_>,
    ) -> Result<Vec<Vec<Match>>> {
        let host_classes: Vec<f32> = maps.class_logits.flatten_all()?.to_vec1()?;
        let batch = targets.segments.len();
        let (of_classes, of_masks) = (host_classes.len() / batch, host_masks.len() / batch);
        let matches = targets.segments.par_iter().enumerate().map(|(image, segments)| {
            let prediction = HostPrediction {
                class_logits: &host_classes[image * of_classes..][..of_classes],
                mask_logits: &host_masks[image * of_masks..][..of_masks],
                queries: maps.queries,
                size: maps.size,
            };
            let mut rng = generator(targets.seed, Purpose::Points, targets.first_image + image as u64);
            let points = random_points(self.options.points, &mut rng);
            match_image(&prediction, segments, &points, &self.options)
        });
        Ok(matches.collect())
    }

    /// Matched queries should say their target's class, all others "no object".
    fn class_loss(&self, maps: &Maps, targets: &BatchTargets<'_>, matches: &[Vec<Match>]) -> Result<Tensor> {
        let no_object = self.classes as u32;
        let mut wanted = vec![no_object; maps.class_logits.dim(0)?];
        for (image, (segments, matches)) in targets.segments.iter().zip(matches).enumerate() {
            for matched in matches {
                wanted[image * maps.queries + matched.query] = segments.segments()[matched.target].class;
            }
        }
        let mut weights = vec![1.0; self.classes + 1];
        weights[self.classes] = self.options.no_object as f32;
        let options = CrossEntropy {
            weights: Some(&weights),
            label_smoothing: self.options.label_smoothing,
            normalizer: Some(targets.normalizer.class_weights),
        };
        cross_entropy(&maps.class_logits, &wanted, options)? * self.options.class
    }

    /// Binary cross entropy and dice loss of the matched masks, summed and divided by the number of targets.
    fn mask_losses(
        &self,
        maps: &Maps,
        host_masks: &[f32],
        targets: &BatchTargets<'_>,
        matched: &[MatchedMask],
    ) -> Result<(Tensor, Tensor)> {
        if matched.is_empty() {
            let zero = (maps.masks.narrow(0, 0, 1)?.sum_all()? * 0.0)?;
            return Ok((zero.clone(), zero));
        }
        let places = maps.size.height * maps.size.width;
        let first_map = targets.first_image * maps.queries as u64;
        let points: Vec<Vec<Point>> = matched
            .par_iter()
            .map(|mask| {
                let map = &host_masks[mask.map * places..][..places];
                self.uncertain_points(map, maps.size, mix(targets.seed, first_map + mask.map as u64))
            })
            .collect();
        self.mask_losses_at(maps, targets, matched, &points)
    }

    /// The same at given points of each matched mask.
    fn mask_losses_at(
        &self,
        maps: &Maps,
        targets: &BatchTargets<'_>,
        matched: &[MatchedMask],
        points: &[Vec<Point>],
    ) -> Result<(Tensor, Tensor)> {
        let device = maps.masks.device();
        let wanted: Vec<Vec<f32>> = matched
            .par_iter()
            .zip(points)
            .map(|(mask, points)| {
                let segments = &targets.segments[mask.image];
                let (reader, size) = (segments.reader(mask.segment), MapSize::of(segments.size()));
                points.iter().map(|&point| reader.share(&Stencil::at(point, size))).collect()
            })
            .collect();
        let rows: Vec<u32> = matched.iter().map(|mask| mask.map as u32).collect();
        let masks = maps.masks.index_select(&Tensor::from_vec(rows, matched.len(), device)?, 0)?;
        let logits = PointTable::new(points, maps.size, device)?.read(&masks)?;
        let wanted = Tensor::from_vec(wanted.concat(), logits.shape(), device)?;
        let count = targets.normalizer.targets;
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
    fn semantic_losses(&self, maps: &Maps, targets: &BatchTargets<'_>) -> Result<Tensor> {
        let mut sum = (maps.masks.narrow(0, 0, 1)?.sum_all()? * 0.0)?;
        for (image, labels) in targets.labels.iter().enumerate() {
            let number = (1 << 32) + targets.first_image + image as u64;
            let mut rng = generator(targets.seed, Purpose::Points, number);
            let points = random_points(self.options.points, &mut rng);
            let target = SemanticTarget { labels, points, class_weights: &self.class_weights };
            let rows = |all: &Tensor| all.narrow(0, image * maps.queries, maps.queries);
            let loss = semantic_loss(&rows(&maps.class_logits)?, &rows(&maps.masks)?, maps.size, &target)?;
            if let Some(loss) = loss {
                sum = (sum + loss)?;
            }
        }
        sum * (self.options.semantic / targets.normalizer.images)
    }
}

fn matched_masks(queries: usize, matches: &[Vec<Match>]) -> Vec<MatchedMask> {
    let masks = matches.iter().enumerate().flat_map(|(image, matches)| {
        matches.iter().map(move |matched| MatchedMask {
            map: image * queries + matched.query,
            image,
            segment: matched.target,
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
mod tests;
