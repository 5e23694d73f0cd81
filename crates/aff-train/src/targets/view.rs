//! Views of an image: scaled, cropped, padded, mirrored.
//!
//! Every such view takes each of its rows from one row of the source and each of its columns from one column, or from none where
//! it is padded. So whatever was done one after the other is two lists, and masks of any form follow them in one step.

use aff_vision::{ImageSize, LabelMap};

use super::IGNORED;
use crate::TrainError;

/// Stands for no row or column: padding.
const NONE: u32 = u32::MAX;

/// Where the rows, or the columns, of a view come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// For each place of the view, that of the source; [`NONE`] for padding.
    source: Vec<u32>,
    /// A position x of the source, in pixels from the edge, is at `scale * x + offset` in the view.
    scale: f64,
    offset: f64,
}

impl Axis {
    /// All of a source.
    pub(crate) fn of(length: u32) -> Self {
        Self { source: (0..length).collect(), scale: 1.0, offset: 0.0 }
    }

    pub(crate) fn length(&self) -> u32 {
        self.source.len() as u32
    }

    /// For each place of the view, that of the source.
    pub(crate) fn source(&self) -> impl Iterator<Item = Option<u32>> + '_ {
        self.source.iter().map(|&place| (place != NONE).then_some(place))
    }

    /// Scaled to a length: each place is the nearest of those before, for labels have no average.
    pub(crate) fn scaled(&self, to: u32) -> Self {
        let from = self.length();
        let nearest = |place: u32| (u64::from(2 * place + 1) * u64::from(from) / u64::from(2 * to)) as usize;
        let factor = f64::from(to) / f64::from(from);
        Self {
            source: (0..to).map(|place| self.source[nearest(place)]).collect(),
            scale: self.scale * factor,
            offset: self.offset * factor,
        }
    }

    /// A part, padded at its end where there is no more.
    pub(crate) fn cropped(&self, start: u32, length: u32) -> Self {
        let place = |place: u32| self.source.get((start + place) as usize).copied().unwrap_or(NONE);
        Self {
            source: (0..length).map(place).collect(),
            scale: self.scale,
            offset: self.offset - f64::from(start),
        }
    }

    /// Mirrored.
    pub(crate) fn flipped(&self) -> Self {
        Self {
            source: self.source.iter().rev().copied().collect(),
            scale: -self.scale,
            offset: f64::from(self.length()) - self.offset,
        }
    }

    /// A span of the source in the view, cut where the view ends.
    fn span(&self, start: f64, length: f64) -> (f64, f64) {
        let at = |position: f64| (self.scale * position + self.offset).clamp(0.0, f64::from(self.length()));
        let (a, b) = (at(start), at(start + length));
        (a.min(b), (b - a).abs())
    }

    /// For each place of the source, and its end, the first place of the view that shows it or a later one. The places of the
    /// view must ascend, as those of rows do.
    pub(super) fn firsts(&self, length: u32) -> Vec<u32> {
        let mut place = 0;
        let first = |source: u32| {
            while self.source.get(place).is_some_and(|&shown| shown < source) {
                place += 1;
            }
            place as u32
        };
        (0..=length).map(first).collect()
    }
}

/// A view of an image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Ascending: views are mirrored from left to right alone.
    pub(crate) rows: Axis,
    pub(crate) columns: Axis,
}

impl View {
    /// All of an image.
    pub(crate) fn of(size: ImageSize) -> Self {
        Self { rows: Axis::of(size.height), columns: Axis::of(size.width) }
    }

    pub(crate) fn size(&self) -> ImageSize {
        ImageSize::new(self.rows.length(), self.columns.length())
    }

    /// A box (left, top, width, height) in the view, cut at its edges; empty if none of it is there.
    pub(super) fn bbox(&self, [left, top, width, height]: [f64; 4]) -> [f64; 4] {
        let (left, width) = self.columns.span(left, width);
        let (top, height) = self.rows.span(top, height);
        [left, top, width, height]
    }

    /// The area that a box would have if the view did not end.
    pub(super) fn area(&self, [_, _, width, height]: [f64; 4]) -> f64 {
        (self.columns.scale * width).abs() * (self.rows.scale * height).abs()
    }

    /// A label map in the view; padding is [`IGNORED`].
    pub(crate) fn label_map(&self, map: &LabelMap) -> Result<LabelMap, TrainError> {
        let (size, width) = (self.size(), map.size().width as usize);
        let mut labels = Vec::with_capacity(size.area() as usize);
        for row in self.rows.source() {
            match row {
                None => labels.extend(std::iter::repeat_n(IGNORED, size.width as usize)),
                Some(row) => {
                    let row = &map.labels()[row as usize * width..][..width];
                    labels.extend(
                        self.columns
                            .source()
                            .map(|column| column.map_or(IGNORED, |column| row[column as usize])),
                    );
                }
            }
        }
        Ok(LabelMap::new(size, labels)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_compose() {
        let axis = Axis::of(4).scaled(8).cropped(1, 9).flipped();
        let source: Vec<_> = axis.source().collect();
        let some = |places: [u32; 7]| places.map(Some).to_vec();
        assert_eq!(source, [vec![None, None], some([3, 3, 2, 2, 1, 1, 0])].concat());
        // The pixel 1..2 of the source is 2..4 when scaled, 1..3 of the crop, 6..8 of its mirror image.
        assert_eq!(axis.span(1.0, 1.0), (6.0, 2.0));
        // What lies outside is cut: -1..1 of the crop, 8..9 of its mirror image.
        assert_eq!(axis.span(0.0, 1.0), (8.0, 1.0));
    }

    #[test]
    fn scaling_takes_the_nearest() {
        let source = |axis: Axis| axis.source().flatten().collect::<Vec<_>>();
        assert_eq!(source(Axis::of(3).scaled(6)), [0, 0, 1, 1, 2, 2]);
        assert_eq!(source(Axis::of(6).scaled(3)), [1, 3, 5]);
    }

    #[test]
    fn padding_is_ignored() {
        let map = LabelMap::new(ImageSize::new(1, 2), vec![5, 6]).unwrap();
        let whole = View::of(map.size());
        let view = View { rows: whole.rows.cropped(0, 2), columns: whole.columns.flipped() };
        assert_eq!(view.label_map(&map).unwrap().labels(), [6, 5, IGNORED, IGNORED]);
    }
}
