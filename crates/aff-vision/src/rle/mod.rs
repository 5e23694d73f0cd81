//! Exact masks as run lengths, the form in which masks are kept, compared and written.

mod coco;
mod overlap;
mod polygon;

use std::collections::BTreeMap;

pub use coco::CocoRle;

use crate::{ImageSize, VisionError};

/// A binary mask as lengths of runs in column-major order (down the first column, then the next), as COCO has it.
///
/// The runs alternate between outside and inside, beginning with outside (so the first may be 0, and no other is).
/// Holes and separate parts are kept exactly. Equal masks are equal values.
///
/// ```
/// use aff_vision::{ImageSize, Rle};
///
/// # fn main() -> Result<(), aff_vision::VisionError> {
/// // 0 1 1
/// // 0 1 0
/// let mask = Rle::from_bitmap(ImageSize::new(2, 3), &[false, true, true, false, true, false])?;
/// assert_eq!(mask.counts(), [2, 3, 1]);
/// assert_eq!((mask.area(), mask.bbox()), (3, [1, 0, 2, 2]));
/// assert_eq!(mask.to_coco(), "231");
/// assert_eq!(Rle::from_coco(ImageSize::new(2, 3), "231")?, mask);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rle {
    size: ImageSize,
    counts: Vec<u32>,
}

impl Rle {
    /// A mask from its run lengths. Runs of length 0 after the first are merged away.
    ///
    /// # Errors
    /// When the runs do not add up to the number of pixels of `size`, or that exceeds 2^32 - 1.
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let error = Rle::from_counts(ImageSize::new(2, 3), &[2, 3]).unwrap_err().to_string();
    /// assert!(error.ends_with("they add up to 5 pixels; expected 6"), "{error}");
    /// ```
    pub fn from_counts(size: ImageSize, counts: &[u32]) -> Result<Self, VisionError> {
        check_size(size)?;
        let sum: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if sum != size.area() {
            let reason = format!("they add up to {sum} pixels; expected {}", size.area());
            return Err(VisionError::RunLengths { size, reason });
        }
        let mut builder = RleBuilder::default();
        let mut inside = false;
        for &count in counts {
            builder.push(inside, count);
            inside = !inside;
        }
        Ok(builder.finish(size))
    }

    /// A mask from one value a pixel in raster order (row by row).
    ///
    /// # Errors
    /// When `bitmap` has not one value a pixel, or there are more than 2^32 - 1.
    pub fn from_bitmap(size: ImageSize, bitmap: &[bool]) -> Result<Self, VisionError> {
        check_size(size)?;
        if bitmap.len() as u64 != size.area() {
            return Err(VisionError::Length {
                name: "bitmap",
                found: bitmap.len(),
                expected: size.area(),
                shape: size.to_string(),
            });
        }
        let mut builder = RleBuilder::default();
        for x in 0..size.columns() {
            for y in 0..size.rows() {
                builder.push(bitmap[y * size.columns() + x], 1);
            }
        }
        Ok(builder.finish(size))
    }

    /// The mask of each value that occurs in a map of one value a pixel, in raster order (row by row).
    ///
    /// # Errors
    /// As [`Self::from_bitmap`].
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let masks = Rle::of_values(ImageSize::new(2, 2), &[7u16, 7, 7, 3]).unwrap();
    /// assert_eq!(masks[&7].to_bitmap(), [true, true, true, false]);
    /// assert_eq!(masks[&3].to_bitmap(), [false, false, false, true]);
    /// ```
    pub fn of_values<T: Copy + Ord>(size: ImageSize, values: &[T]) -> Result<BTreeMap<T, Self>, VisionError> {
        check_size(size)?;
        if values.len() as u64 != size.area() {
            return Err(VisionError::Length {
                name: "values",
                found: values.len(),
                expected: size.area(),
                shape: size.to_string(),
            });
        }
        let (rows, columns) = (size.rows(), size.columns());
        let mut masks: BTreeMap<T, (RleBuilder, u32)> = BTreeMap::new();
        // Of each value the runs, with all that lies between two of them as one run outside.
        let mut push = |value: T, start: u32, length: u32| {
            let (builder, end) = masks.entry(value).or_default();
            builder.push(false, start - *end);
            builder.push(true, length);
            *end = start + length;
        };
        let mut column = Vec::with_capacity(rows);
        for x in 0..columns {
            column.clear();
            column.extend((0..rows).map(|y| values[y * columns + x]));
            let mut start = x * rows;
            for run in column.chunk_by(|a, b| a == b) {
                push(run[0], start as u32, run.len() as u32);
                start += run.len();
            }
        }
        let area = size.area() as u32;
        let finish = |(value, (mut builder, end)): (T, (RleBuilder, u32))| {
            builder.push(false, area - end);
            (value, builder.finish(size))
        };
        Ok(masks.into_iter().map(finish).collect())
    }

    /// One value a pixel, in raster order (row by row).
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let mask = Rle::from_counts(ImageSize::new(2, 2), &[1, 2, 1]).unwrap();
    /// assert_eq!(mask.to_bitmap(), [false, true, true, false]);
    /// ```
    #[must_use]
    pub fn to_bitmap(&self) -> Vec<bool> {
        let mut bitmap = vec![false; self.size.pixels()];
        for (start, length) in self.runs() {
            for at in start..start + length {
                let (x, y) = (at / self.size.rows(), at % self.size.rows());
                bitmap[y * self.size.columns() + x] = true;
            }
        }
        bitmap
    }

    /// Size of the picture that the mask belongs to.
    #[must_use]
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// The run lengths.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Number of pixels inside.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.runs().map(|(_, length)| length as u64).sum()
    }

    /// Smallest box around the pixels inside as `[x, y, width, height]`; zeros for an empty mask.
    #[must_use]
    pub fn bbox(&self) -> [u32; 4] {
        let rows = self.size.rows();
        let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
        for (start, length) in self.runs() {
            let last = start + length - 1;
            left = left.min(start / rows);
            right = right.max(last / rows);
            // A run that goes on into the next column touches the last row of one and the first of the other.
            let spans_columns = start / rows != last / rows;
            top = top.min(if spans_columns { 0 } else { start % rows });
            bottom = bottom.max(if spans_columns { rows - 1 } else { last % rows });
        }
        if left == usize::MAX {
            return [0; 4];
        }
        [left, top, right - left + 1, bottom - top + 1].map(|length| length as u32)
    }

    /// Start (column-major) and length of each run inside.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut at = 0;
        self.counts.chunks(2).filter_map(move |pair| {
            let start = at + pair[0] as usize;
            let length = pair.get(1).map_or(0, |&length| length as usize);
            at = start + length;
            (length > 0).then_some((start, length))
        })
    }
}

fn check_size(size: ImageSize) -> Result<(), VisionError> {
    if u32::try_from(size.area()).is_ok() {
        return Ok(());
    }
    let reason = format!("it has {} pixels; expected at most {}", size.area(), u32::MAX);
    Err(VisionError::RunLengths { size, reason })
}

/// Gathers runs in column-major order.
#[derive(Debug, Default)]
pub(crate) struct RleBuilder {
    counts: Vec<u32>,
    inside: bool,
    length: u32,
}

impl RleBuilder {
    /// Appends `count` pixels, all inside or all outside.
    pub(crate) fn push(&mut self, inside: bool, count: u32) {
        if count == 0 {
            return;
        }
        if inside != self.inside {
            self.counts.push(self.length);
            self.inside = inside;
            self.length = 0;
        }
        self.length += count;
    }

    /// The mask of runs of pixels inside (start and length), sorted by their start, which may overlap.
    pub(crate) fn from_sorted_runs(size: ImageSize, runs: impl IntoIterator<Item = (usize, usize)>) -> Rle {
        let (mut builder, mut at) = (Self::default(), 0);
        for (start, length) in runs {
            let (start, end) = (start.max(at), (start + length).max(at));
            builder.push(false, (start - at) as u32);
            builder.push(true, (end - start) as u32);
            at = end;
        }
        builder.push(false, (size.pixels() - at) as u32);
        builder.finish(size)
    }

    /// The mask; the caller has pushed as many pixels as `size` has.
    pub(crate) fn finish(mut self, size: ImageSize) -> Rle {
        if self.length > 0 {
            self.counts.push(self.length);
        }
        Rle { size, counts: self.counts }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masks() -> impl Strategy<Value = (ImageSize, Vec<bool>)> {
        (1usize..20, 1usize..20).prop_flat_map(|(height, width)| {
            let size = ImageSize::new(height as u32, width as u32);
            (Just(size), prop::collection::vec(any::<bool>(), height * width))
        })
    }

    proptest! {
        #[test]
        fn bitmaps_survive_the_round_trip((size, bitmap) in masks()) {
            let mask = Rle::from_bitmap(size, &bitmap).unwrap();
            prop_assert_eq!(mask.to_bitmap(), bitmap.clone());
            prop_assert_eq!(Rle::from_counts(size, mask.counts()).unwrap(), mask.clone());
            prop_assert_eq!(Rle::from_coco(size, &mask.to_coco()).unwrap(), mask.clone());
            prop_assert_eq!(mask.area(), bitmap.iter().filter(|&&inside| inside).count() as u64);

            let masks = Rle::of_values(size, &bitmap).unwrap();
            prop_assert_eq!(masks.get(&true), Some(&mask).filter(|mask| mask.area() > 0));
            prop_assert_eq!(masks.len(), bitmap.iter().collect::<std::collections::BTreeSet<_>>().len());

            let inside = || (0..bitmap.len()).filter(|&at| bitmap[at]).map(|at| (at % size.columns(), at / size.columns()));
            let left = inside().map(|(x, _)| x).min().unwrap_or(0);
            let top = inside().map(|(_, y)| y).min().unwrap_or(0);
            let right = inside().map(|(x, _)| x + 1).max().unwrap_or(0);
            let bottom = inside().map(|(_, y)| y + 1).max().unwrap_or(0);
            prop_assert_eq!(mask.bbox().map(|length| length as usize), [left, top, right - left, bottom - top]);
        }
    }

    #[test]
    fn empty_runs_are_merged() {
        let size = ImageSize::new(1, 6);
        assert_eq!(Rle::from_counts(size, &[1, 0, 2, 3, 0]).unwrap().counts(), [3, 3]);
        assert_eq!(Rle::from_counts(size, &[0, 6]).unwrap().counts(), [0, 6]);
        assert_eq!(Rle::from_counts(ImageSize::new(0, 6), &[]).unwrap().bbox(), [0; 4]);
    }
}
