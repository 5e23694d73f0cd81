//! Classes of pixels: intersection over union and accuracy, as the scripts of Cityscapes compute them.

use serde::Serialize;

use crate::data::IGNORED;

/// Pixels by their true and their predicted class, counted image by image.
///
/// ```
/// use aff_train::ConfusionMatrix;
///
/// let mut counts = ConfusionMatrix::new(3);
/// counts.add(&[0, 0, 1, u16::MAX], &[0, 1, 1, 2]);
/// assert_eq!(counts.iou(0), Some(0.5));
/// assert_eq!(counts.iou(2), None);
/// assert_eq!(counts.mean_iou(), 0.5);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// `[true class][predicted class]`; the last column counts predictions that are none of the classes.
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// No pixels yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * (classes + 1)] }
    }

    /// Counts the pixels of an image. Those whose truth is none of the classes, such as [`IGNORED`], are left out.
    pub fn add(&mut self, truth: &[u16], predicted: &[u16]) {
        for (&truth, &predicted) in truth.iter().zip(predicted) {
            if usize::from(truth) < self.classes && truth != IGNORED {
                let column = usize::from(predicted).min(self.classes);
                self.counts[usize::from(truth) * (self.classes + 1) + column] += 1;
            }
        }
    }

    fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * (self.classes + 1) + predicted]
    }

    /// Pixels of a class.
    pub fn support(&self, class: usize) -> u64 {
        (0..=self.classes).map(|predicted| self.count(class, predicted)).sum()
    }

    /// Intersection over union of a class; `None` if it is neither there nor predicted.
    pub fn iou(&self, class: usize) -> Option<f64> {
        let intersection = self.count(class, class);
        let predicted: u64 = (0..self.classes).map(|truth| self.count(truth, class)).sum();
        let union = self.support(class) + predicted - intersection;
        (union > 0).then(|| intersection as f64 / union as f64)
    }

    /// Mean of the classes' intersection over union, over those that have one; 0 without any.
    pub fn mean_iou(&self) -> f64 {
        mean((0..self.classes).filter_map(|class| self.iou(class)))
    }

    /// Share of the pixels that are right; 0 without any.
    pub fn pixel_accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|class| self.count(class, class)).sum();
        let all: u64 = self.counts.iter().sum();
        if all == 0 { 0.0 } else { right as f64 / all as f64 }
    }

    /// Mean over the classes of the share of their pixels that are right.
    pub fn mean_accuracy(&self) -> f64 {
        let accuracy = |class: usize| {
            let support = self.support(class);
            (support > 0).then(|| self.count(class, class) as f64 / support as f64)
        };
        mean((0..self.classes).filter_map(accuracy))
    }

    /// All figures with the names of the classes.
    pub fn report(&self, names: &[String], images: usize) -> SemanticReport {
        let class = |(class, name): (usize, &String)| ClassReport {
            name: name.clone(),
            iou: self.iou(class),
            pixels: self.support(class),
        };
        SemanticReport {
            images,
            mean_iou: self.mean_iou(),
            pixel_accuracy: self.pixel_accuracy(),
            mean_accuracy: self.mean_accuracy(),
            classes: names.iter().take(self.classes).enumerate().map(class).collect(),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// What an evaluation of a semantic segmenter found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SemanticReport {
    /// Images looked at.
    pub images: usize,
    /// [`ConfusionMatrix::mean_iou`]
    pub mean_iou: f64,
    /// [`ConfusionMatrix::pixel_accuracy`]
    pub pixel_accuracy: f64,
    /// [`ConfusionMatrix::mean_accuracy`]
    pub mean_accuracy: f64,
    /// By class.
    pub classes: Vec<ClassReport>,
}

/// What was found for a class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub name: String,
    /// [`ConfusionMatrix::iou`]
    pub iou: Option<f64>,
    /// Pixels that are of the class in truth.
    pub pixels: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same figures by sets of pixels, class by class.
    fn by_sets(truth: &[u16], predicted: &[u16], classes: u16) -> (f64, f64) {
        let labelled: Vec<(u16, u16)> = truth
            .iter()
            .copied()
            .zip(predicted.iter().copied())
            .filter(|(truth, _)| *truth < classes)
            .collect();
        let ious: Vec<f64> = (0..classes)
            .filter_map(|class| {
                let both = labelled.iter().filter(|(t, p)| *t == class && *p == class).count();
                let either = labelled.iter().filter(|(t, p)| *t == class || *p == class).count();
                (either > 0).then(|| both as f64 / either as f64)
            })
            .collect();
        let right = labelled.iter().filter(|(truth, predicted)| truth == predicted).count();
        let mean = if ious.is_empty() { 0.0 } else { ious.iter().sum::<f64>() / ious.len() as f64 };
        let accuracy = if labelled.is_empty() { 0.0 } else { right as f64 / labelled.len() as f64 };
        (mean, accuracy)
    }

    proptest! {
        #[test]
        fn figures_are_those_of_sets(pixels in proptest::collection::vec((0u16..7, 0u16..8, any::<bool>()), 0..200)) {
            let truth: Vec<u16> = pixels.iter().map(|&(t, _, known)| if known { t } else { IGNORED }).collect();
            let predicted: Vec<u16> = pixels.iter().map(|&(_, p, _)| p).collect();
            let mut counts = ConfusionMatrix::new(5);
            // Streamed in two parts.
            let half = truth.len() / 2;
            counts.add(&truth[..half], &predicted[..half]);
            counts.add(&truth[half..], &predicted[half..]);
            let (mean, accuracy) = by_sets(&truth, &predicted, 5);
            prop_assert!((counts.mean_iou() - mean).abs() < 1e-12);
            prop_assert!((counts.pixel_accuracy() - accuracy).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_counts_as_nothing() {
        let counts = ConfusionMatrix::new(2);
        assert_eq!((counts.mean_iou(), counts.pixel_accuracy(), counts.mean_accuracy()), (0.0, 0.0, 0.0));
        let mut all_wrong = ConfusionMatrix::new(2);
        all_wrong.add(&[0, 1], &[1, 0]);
        assert_eq!((all_wrong.mean_iou(), all_wrong.iou(0)), (0.0, Some(0.0)));
    }
}
