//! One label for an image, or shares of several.

use crate::TrainError;

/// A distribution over classes: one label, or what mixing images makes of two.
///
/// ```
/// use aff_train::targets::ClassTarget;
///
/// let cat = ClassTarget::of(3);
/// let both = cat.mixed(&ClassTarget::of(5), 0.25);
/// assert_eq!(both.shares(), [(3, 0.75), (5, 0.25)]);
/// assert_eq!((cat.most_probable(), both.most_probable()), (3, 3));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClassTarget {
    /// Class and probability, ascending by class; they add up to 1.
    shares: Vec<(u32, f32)>,
}

impl ClassTarget {
    /// One label.
    pub fn of(class: u32) -> Self {
        Self { shares: vec![(class, 1.0)] }
    }

    /// Shares of classes, which are scaled so that they add up to 1.
    ///
    /// # Errors
    /// [`TrainError::Target`] if there are none, one is negative or not finite, or all are 0.
    pub fn soft(shares: impl IntoIterator<Item = (u32, f32)>) -> Result<Self, TrainError> {
        let shares: Vec<(u32, f32)> = shares.into_iter().collect();
        let sum: f32 = shares.iter().map(|(_, share)| share).sum();
        if shares.iter().any(|(_, share)| !(0.0..=f32::MAX).contains(share))
            || !(sum > 0.0 && sum.is_finite())
        {
            let problem = format!("has the shares {shares:?}; expected some from 0 on that are not all 0");
            return Err(TrainError::Target { problem });
        }
        let mut target = Self { shares: Vec::with_capacity(shares.len()) };
        for (class, share) in shares {
            target.add(class, share / sum);
        }
        Ok(target)
    }

    /// Class and probability, ascending by class, without those of probability 0.
    pub fn shares(&self) -> &[(u32, f32)] {
        &self.shares
    }

    /// The class with the greatest share, of equal ones the lowest.
    pub fn most_probable(&self) -> u32 {
        let best = self.shares.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(0, |(class, _)| *class)
    }

    /// This with the share `1 - other_share`, `other` with `other_share`.
    #[must_use]
    pub fn mixed(&self, other: &Self, other_share: f32) -> Self {
        let mut mixed = Self { shares: Vec::new() };
        for (from, share) in [(self, 1.0 - other_share), (other, other_share)] {
            for &(class, part) in &from.shares {
                mixed.add(class, part * share);
            }
        }
        mixed
    }

    fn add(&mut self, class: u32, share: f32) {
        match self.shares.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(place) => self.shares[place].1 += share,
            Err(place) if share > 0.0 => self.shares.insert(place, (class, share)),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_scaled_merged_and_checked() {
        let target = ClassTarget::soft([(7, 1.0), (2, 2.0), (7, 1.0), (4, 0.0)]).unwrap();
        assert_eq!(target.shares(), [(2, 0.5), (7, 0.5)]);
        assert_eq!(target.most_probable(), 2);
        assert_eq!(target.mixed(&ClassTarget::of(2), 1.0).shares(), [(2, 1.0)]);
        for wrong in [vec![], vec![(1, 0.0)], vec![(1, -1.0), (2, 3.0)], vec![(1, f32::NAN)]] {
            assert!(ClassTarget::soft(wrong).is_err());
        }
    }
}
