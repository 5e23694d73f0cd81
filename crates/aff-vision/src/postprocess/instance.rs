//! One mask for each object.

use rayon::prelude::*;

use super::axis::combine;
use super::band::Upsampling;
use super::prediction::Prediction;
use super::sigmoid::sigmoid;
use crate::rle::RleBuilder;
use crate::{ImageSize, Rle, VisionError};

/// What [`instances`] keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceOptions {
    /// The most pairs of a query and a class that are looked at: 100 in the published models, 250 for the Base ones.
    pub max_instances: usize,
    /// Lowest score that is kept, 0 to 1. 0 keeps all, as evaluation wants it.
    pub threshold: f32,
    /// A pixel belongs to a mask if the mask's probability there exceeds this; 0.5 in the published models.
    pub mask_threshold: f32,
    /// Classes that are objects; others are dropped, after the best `max_instances` were taken (as the reference
    /// does for panoptic models). `None` keeps every class.
    pub classes: Option<Vec<u32>>,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self { max_instances: 100, threshold: 0.0, mask_threshold: 0.5, classes: None }
    }
}

/// One object that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceMask {
    /// Its class.
    pub label_id: u32,
    /// Class probability times the mean mask probability inside the mask.
    pub score: f32,
    /// Query that found it.
    pub query: usize,
    /// Its pixels, at the size of the source.
    pub mask: Rle,
}

/// Objects, best first: of all pairs of a query and a class the `max_instances` most probable ones, each with the
/// pixels where its mask exceeds `mask_threshold`. Ties go to the lower query, then to the lower class.
///
/// Empty masks are left out. Masks of different objects may overlap. Each mask is upsampled once, column by column, so
/// that memory is that of the run lengths and, per thread, one mask of canvas width by source height.
///
/// # Errors
/// A threshold that is not within 0 to 1.
///
/// ```
/// use aff_vision::{ImageSize, InstanceOptions, Prediction, PredictionParts, instances};
///
/// # fn main() -> Result<(), aff_vision::VisionError> {
/// let prediction = Prediction::new(PredictionParts {
///     class_logits: &[9.0, 0.0, 0.0],
///     mask_logits: &[5.0, -5.0],
///     num_queries: 1,
///     num_classes: 2,
///     canvas: ImageSize::new(1, 2),
///     padded: ImageSize::new(4, 8),
///     content: ImageSize::new(4, 8),
///     source: ImageSize::new(1, 4),
/// })?;
/// let found = instances(&prediction, &InstanceOptions { threshold: 0.5, ..InstanceOptions::default() })?;
/// assert_eq!(found.len(), 1);
/// assert_eq!((found[0].label_id, found[0].mask.counts()), (0, &[0, 2, 2][..]));
/// # Ok(())
/// # }
/// ```
pub fn instances(
    prediction: &Prediction<'_>,
    options: &InstanceOptions,
) -> Result<Vec<InstanceMask>, VisionError> {
    super::check_probability("threshold", options.threshold)?;
    super::check_probability("mask_threshold", options.mask_threshold)?;
    // Exactly 0 for 0.5; infinite for 0 and 1.
    let level = (options.mask_threshold / (1.0 - options.mask_threshold)).ln();
    let probabilities = prediction.class_probabilities();
    let mut pairs: Vec<(usize, usize, f32)> = Vec::new();
    for (query, row) in probabilities.iter().enumerate() {
        let classes = row[..prediction.num_classes()].iter().enumerate();
        pairs.extend(classes.map(|(class, &probability)| (query, class, probability)));
    }
    // Stable, so that ties stay in the order of queries and classes.
    pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
    pairs.truncate(options.max_instances);
    // The mean mask probability is at most 1, so that these scores can only fall.
    pairs.retain(|&(_, class, probability)| {
        let is_wanted = options.classes.as_ref().is_none_or(|wanted| wanted.contains(&(class as u32)));
        is_wanted && probability >= options.threshold
    });

    let mut queries: Vec<usize> = pairs.iter().map(|pair| pair.0).collect();
    queries.sort_unstable();
    queries.dedup();
    let upsampling = Upsampling::to_source(prediction);
    let upsample = |&query: &usize| Mask::new(prediction, &upsampling, query, level);
    let masks: Vec<Mask> = queries.par_iter().map(upsample).collect();

    let mut found = Vec::with_capacity(pairs.len());
    for (query, class, probability) in pairs {
        let Ok(slot) = queries.binary_search(&query) else { continue };
        let mask = &masks[slot];
        let score = (f64::from(probability) * mask.mean_probability) as f32;
        if mask.mean_probability > 0.0 && score >= options.threshold {
            found.push(InstanceMask { label_id: class as u32, score, query, mask: mask.pixels.clone() });
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(found)
}

/// A mask at the size of the source.
struct Mask {
    pixels: Rle,
    /// Over the pixels inside; 0 where there are none.
    mean_probability: f64,
}

impl Mask {
    /// The pixels with logits above `level`, column by column, which is the order of the run lengths.
    fn new(prediction: &Prediction<'_>, upsampling: &Upsampling, query: usize, level: f32) -> Self {
        let (canvas, source) = (prediction.parts().canvas, prediction.source());
        let columns = stretch_columns(prediction.mask(query), canvas, upsampling);
        let mut column = vec![0.0; source.rows()];
        let mut builder = RleBuilder::default();
        let (mut inside, mut sum) = (0u64, 0.0f64);
        for x in 0..source.columns() {
            let taps = upsampling.columns.taps(x).iter();
            combine(
                taps.map(|(index, weight)| (&columns[index * source.rows()..][..source.rows()], weight)),
                &mut column,
            );
            if column.iter().all(|&logit| logit <= level) {
                builder.push(false, source.height);
                continue;
            }
            for run in column.chunk_by(|&a, &b| (a > level) == (b > level)) {
                let is_inside = run[0] > level;
                builder.push(is_inside, run.len() as u32);
                if is_inside {
                    inside += run.len() as u64;
                    sum += run.iter().map(|&logit| f64::from(sigmoid(logit))).sum::<f64>();
                }
            }
        }
        let mean_probability = if inside == 0 { 0.0 } else { sum / inside as f64 };
        Self { pixels: builder.finish(source), mean_probability }
    }
}

/// The mask `[canvas.height, canvas.width]` stretched to the source's height and transposed:
/// `[canvas.width, source.height]`.
fn stretch_columns(mask: &[f32], canvas: ImageSize, upsampling: &Upsampling) -> Vec<f32> {
    let mut column = vec![0.0; canvas.rows()];
    let height = upsampling.rows.len();
    let mut stretched = vec![0.0; canvas.columns() * height];
    for (x, out) in stretched.chunks_exact_mut(height).enumerate() {
        for (to, from) in column.iter_mut().zip(mask.chunks_exact(canvas.columns())) {
            *to = from[x];
        }
        upsampling.rows.stretch(&column, out);
    }
    stretched
}
