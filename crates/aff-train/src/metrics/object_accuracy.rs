//! Right objects over all objects, found or missed: the figure of StarDist and Cellpose, which they call AP at an IoU.

use std::collections::BTreeMap;

use super::shape::{check_objects, intersections};
use super::{FoundObject, MetricError, RegionKind, Shape, TrueObject};

/// TP / (TP + FP + FN) at overlaps of 0.50 to 0.95, over all objects of all images: equal to `stardist.matching.matching_dataset`.
///
/// True and found objects of a class are paired so that as many pairs as can be overlap enough (at least the IoU), as StarDist and Cellpose
/// do; `average_precision` of Cellpose is this figure of a single image. There are no scores in it: what is less sure than `min_score` is left
/// out, and the rest counts alike. Crowds, which those tools do not know, are left out of the truth. Boxes count as masks do.
///
/// ```
/// use aff_train::{FoundObject, ObjectAccuracy, TrueObject};
/// use aff_vision::{ImageSize, Rle};
///
/// let size = ImageSize::new(1, 5);
/// let truth = TrueObject::new(0, Rle::from_counts(size, &[0, 3, 2])?);
/// let near = FoundObject { class: 0, shape: Rle::from_counts(size, &[0, 2, 3])?, score: 0.9 };
/// let far = FoundObject { class: 0, shape: Rle::from_counts(size, &[4, 1])?, score: 0.6 };
///
/// let mut accuracy = ObjectAccuracy::new(0.5);
/// accuracy.add(&[truth], &[near, far])?;
/// assert_eq!((accuracy.at(0), accuracy.figures()["0.7"]), (0.5, 0.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ObjectAccuracy {
    min_score: f64,
    paired: [u64; OVERLAPS],
    truths: u64,
    found: u64,
}

/// Overlaps: 0.50, 0.55, to 0.95.
const OVERLAPS: usize = 10;

impl ObjectAccuracy {
    /// No images yet; objects count from a score of `min_score`.
    #[must_use]
    pub fn new(min_score: f64) -> Self {
        Self { min_score, paired: [0; OVERLAPS], truths: 0, found: 0 }
    }

    /// Counts an image.
    ///
    /// # Errors
    /// If masks belong to pictures of different sizes, a box is none, or a score is not a number.
    pub fn add<S: Shape>(
        &mut self,
        truths: &[TrueObject<S>],
        found: &[FoundObject<S>],
    ) -> Result<(), MetricError> {
        check_objects(truths, found, usize::MAX)?;
        let truths: Vec<&TrueObject<S>> =
            truths.iter().filter(|truth| truth.kind == RegionKind::Object).collect();
        let found: Vec<&FoundObject<S>> =
            found.iter().filter(|object| object.score >= self.min_score).collect();
        let overlaps = overlaps(&truths, &found);
        for (step, paired) in self.paired.iter_mut().enumerate() {
            *paired += most_pairs(&overlaps, truths.len(), overlap_at(step)) as u64;
        }
        self.truths += truths.len() as u64;
        self.found += found.len() as u64;
        Ok(())
    }

    /// The figure at an overlap of 0.50 + 0.05 `step`, `step` up to 9; 0 without any object.
    #[must_use]
    pub fn at(&self, step: usize) -> f64 {
        let paired = self.paired.get(step).copied().unwrap_or(0);
        let all = self.truths + self.found - paired;
        if all == 0 { 0.0 } else { paired as f64 / all as f64 }
    }

    /// The figures by overlap, `"0.5"` to `"0.95"`.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, f64> {
        (0..OVERLAPS).map(|step| (overlap_at(step).to_string(), self.at(step))).collect()
    }
}

/// The double nearest to the decimal number, which a quotient of whole numbers can equal.
fn overlap_at(step: usize) -> f64 {
    (50 + 5 * step) as f64 / 100.0
}

/// For each found object the overlapping objects of the truth of its class, with the intersection over union.
fn overlaps<S: Shape>(truths: &[&TrueObject<S>], found: &[&FoundObject<S>]) -> Vec<Vec<(usize, f64)>> {
    let true_areas: Vec<f64> = truths.iter().map(|truth| truth.shape.area()).collect();
    let row = |(object, areas): (&&FoundObject<S>, Vec<f64>)| {
        let area = object.shape.area();
        let of_class = |(index, intersection): (usize, f64)| {
            let is_pair = intersection > 0.0 && truths[index].class == object.class;
            is_pair.then(|| (index, intersection / (area + true_areas[index] - intersection)))
        };
        areas.into_iter().enumerate().filter_map(of_class).collect()
    };
    found.iter().zip(intersections(found, truths)).map(row).collect()
}

/// The most pairs that overlap by `least` or more, each object in one: Kuhn's augmenting paths.
fn most_pairs(overlaps: &[Vec<(usize, f64)>], truths: usize, least: f64) -> usize {
    let mut partner: Vec<Option<usize>> = vec![None; truths];
    let mut pairs = 0;
    for object in 0..overlaps.len() {
        let mut was_tried = vec![false; truths];
        pairs += usize::from(find_partner(object, overlaps, least, &mut partner, &mut was_tried));
    }
    pairs
}

fn find_partner(
    object: usize,
    overlaps: &[Vec<(usize, f64)>],
    least: f64,
    partner: &mut [Option<usize>],
    was_tried: &mut [bool],
) -> bool {
    for &(truth, _) in overlaps[object].iter().filter(|pair| pair.1 >= least) {
        if std::mem::replace(&mut was_tried[truth], true) {
            continue;
        }
        // At overlaps from a half chains are short: only objects that overlap each other make any.
        if partner[truth].is_none_or(|other| find_partner(other, overlaps, least, partner, was_tried)) {
            partner[truth] = Some(object);
            return true;
        }
    }
    false
}
