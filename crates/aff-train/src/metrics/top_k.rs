//! Classes of images: how often the right one is among the most probable.

use serde::Serialize;

/// How often the right class is among the most probable ones.
///
/// ```
/// use aff_train::TopK;
///
/// let mut counts = TopK::default();
/// counts.add(&[0.1, 0.9, 0.0], 1);
/// counts.add(&[0.5, 0.4, 0.3], 1);
/// assert_eq!((counts.top1(), counts.top5()), (0.5, 1.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopK {
    images: u64,
    first: u64,
    among_five: u64,
}

impl TopK {
    /// Counts an image by its logits. Of equal logits those of lower classes come first; logits that are not numbers come last.
    pub fn add(&mut self, logits: &[f32], target: usize) {
        self.images += 1;
        let Some(&own) = logits.get(target).filter(|own| !own.is_nan()) else { return };
        let is_before = |&(class, &logit): &(usize, &f32)| logit > own || (logit == own && class < target);
        let before = logits.iter().enumerate().filter(is_before).count();
        self.first += u64::from(before == 0);
        self.among_five += u64::from(before < 5);
    }

    /// Share of the images whose most probable class is right.
    pub fn top1(&self) -> f64 {
        self.share(self.first)
    }

    /// Share of the images whose class is among the five most probable.
    pub fn top5(&self) -> f64 {
        self.share(self.among_five)
    }

    /// Both figures.
    pub fn report(&self) -> ClassificationReport {
        ClassificationReport { images: self.images as usize, top1: self.top1(), top5: self.top5() }
    }

    fn share(&self, count: u64) -> f64 {
        if self.images == 0 { 0.0 } else { count as f64 / self.images as f64 }
    }
}

/// What an evaluation of a classifier found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassificationReport {
    /// Images looked at.
    pub images: usize,
    /// [`TopK::top1`]
    pub top1: f64,
    /// [`TopK::top5`]
    pub top5: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_nonsense_are_ranked() {
        let mut counts = TopK::default();
        counts.add(&[1.0, 1.0], 1);
        counts.add(&[f32::NAN, 0.0], 1);
        counts.add(&[f32::NAN, 0.0], 0);
        counts.add(&[0.0], 3);
        assert_eq!((counts.top1(), counts.top5()), (0.25, 0.5));
    }
}
