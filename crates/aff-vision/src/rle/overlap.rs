//! What two masks have in common, run by run: time and memory in proportion to the runs, not to the pixels.

use super::{Rle, RleBuilder};
use crate::VisionError;

impl Rle {
    /// Number of pixels inside both masks.
    ///
    /// # Errors
    /// [`VisionError::RunLengths`] if the masks belong to pictures of different sizes.
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let size = ImageSize::new(1, 4);
    /// let left = Rle::from_bitmap(size, &[true, true, true, false])?;
    /// let right = Rle::from_bitmap(size, &[false, true, true, true])?;
    /// assert_eq!(left.intersection_area(&right)?, 2);
    /// # Ok::<(), aff_vision::VisionError>(())
    /// ```
    pub fn intersection_area(&self, other: &Self) -> Result<u64, VisionError> {
        self.check_same_size(other)?;
        let (mut ours, mut theirs) = (self.runs(), other.runs());
        let (mut our_run, mut their_run) = (ours.next(), theirs.next());
        let mut area = 0;
        while let (Some((start, length)), Some((other_start, other_length))) = (our_run, their_run) {
            let (end, other_end) = (start + length, other_start + other_length);
            area += end.min(other_end).saturating_sub(start.max(other_start)) as u64;
            if end <= other_end {
                our_run = ours.next();
            } else {
                their_run = theirs.next();
            }
        }
        Ok(area)
    }

    /// Intersection over union, 0 for two empty masks.
    ///
    /// # Errors
    /// As [`intersection_area`](Self::intersection_area).
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let size = ImageSize::new(1, 4);
    /// let left = Rle::from_bitmap(size, &[true, true, true, false])?;
    /// let right = Rle::from_bitmap(size, &[false, true, true, true])?;
    /// assert_eq!(left.iou(&right)?, 0.5);
    /// # Ok::<(), aff_vision::VisionError>(())
    /// ```
    pub fn iou(&self, other: &Self) -> Result<f64, VisionError> {
        let intersection = self.intersection_area(other)?;
        let union = self.area() + other.area() - intersection;
        Ok(if union == 0 { 0.0 } else { intersection as f64 / union as f64 })
    }

    /// The pixels inside either mask.
    ///
    /// # Errors
    /// As [`intersection_area`](Self::intersection_area).
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let size = ImageSize::new(1, 4);
    /// let left = Rle::from_counts(size, &[0, 1, 3])?;
    /// let right = Rle::from_counts(size, &[1, 1, 2])?;
    /// assert_eq!(left.union(&right)?.counts(), [0, 2, 2]);
    /// # Ok::<(), aff_vision::VisionError>(())
    /// ```
    pub fn union(&self, other: &Self) -> Result<Self, VisionError> {
        self.check_same_size(other)?;
        let mut runs: Vec<(usize, usize)> = self.runs().chain(other.runs()).collect();
        runs.sort_unstable();
        Ok(RleBuilder::from_sorted_runs(self.size, runs))
    }

    fn check_same_size(&self, other: &Self) -> Result<(), VisionError> {
        if self.size == other.size {
            return Ok(());
        }
        let reason = format!("the other mask belongs to a picture of {}; expected the same size", other.size);
        Err(VisionError::RunLengths { size: self.size, reason })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ImageSize;

    fn pairs() -> impl Strategy<Value = (ImageSize, Vec<(bool, bool)>)> {
        (1usize..12, 1usize..12).prop_flat_map(|(height, width)| {
            let size = ImageSize::new(height as u32, width as u32);
            (Just(size), prop::collection::vec(any::<(bool, bool)>(), height * width))
        })
    }

    proptest! {
        #[test]
        fn runs_give_what_pixels_give((size, pixels) in pairs()) {
            let ours: Vec<bool> = pixels.iter().map(|pair| pair.0).collect();
            let theirs: Vec<bool> = pixels.iter().map(|pair| pair.1).collect();
            let either: Vec<bool> = pixels.iter().map(|pair| pair.0 || pair.1).collect();
            let (left, right) = (Rle::from_bitmap(size, &ours).unwrap(), Rle::from_bitmap(size, &theirs).unwrap());
            let both = pixels.iter().filter(|pair| pair.0 && pair.1).count() as u64;
            let union = either.iter().filter(|&&inside| inside).count() as f64;
            prop_assert_eq!(left.intersection_area(&right).unwrap(), both);
            prop_assert_eq!(left.union(&right).unwrap(), Rle::from_bitmap(size, &either).unwrap());
            prop_assert_eq!(left.iou(&right).unwrap(), if union == 0.0 { 0.0 } else { both as f64 / union });
        }
    }

    #[test]
    fn sizes_must_agree() {
        let wide = Rle::from_counts(ImageSize::new(1, 4), &[0, 4]).unwrap();
        let high = Rle::from_counts(ImageSize::new(4, 1), &[0, 4]).unwrap();
        let error = wide.intersection_area(&high).unwrap_err().to_string();
        assert!(error.contains("1 x 4 (width x height); expected the same size"), "{error}");
        assert!(wide.union(&high).is_err() && wide.iou(&high).is_err());
    }
}
