//! A set of objects and regions: class and mask of each, and its box.

use std::borrow::Cow;

use aff_vision::{ImageSize, LabelMap, Rle};

use super::view::View;
use super::{IGNORED, Target};
use crate::TrainError;
use crate::losses::Stencil;

/// Whether a segment is one object, or many that nobody told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crowd {
    /// One object, or a region of stuff.
    #[default]
    Single,
    /// A crowd: no target of a loss, and metrics neither demand nor punish what is found in it.
    Crowd,
}

/// What is known of a segment besides its mask.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TargetSegment {
    /// Its class: an index into the data set's categories.
    pub class: u32,
    /// Whether it is a crowd.
    pub crowd: Crowd,
    /// Left, top, width, height in pixels, if the annotation has it; [`SegmentTarget::bbox`] takes that of the mask otherwise.
    pub bbox: Option<[f32; 4]>,
    /// Pixels, if the annotation says how many; [`SegmentTarget::area`] counts those of the mask otherwise.
    pub area: Option<f64>,
}

impl TargetSegment {
    /// An object or region of a class.
    pub fn new(class: u32) -> Self {
        Self { class, crowd: Crowd::Single, bbox: None, area: None }
    }

    /// A crowd of a class.
    pub fn crowd(class: u32) -> Self {
        Self { crowd: Crowd::Crowd, ..Self::new(class) }
    }

    /// With the box of an annotation: left, top, width, height in pixels.
    #[must_use]
    pub fn with_bbox(self, bbox: [f32; 4]) -> Self {
        Self { bbox: Some(bbox), ..self }
    }

    /// With the area of an annotation, in pixels.
    #[must_use]
    pub fn with_area(self, area: f64) -> Self {
        Self { area: Some(area), ..self }
    }
}

/// A set of segments of an image. Masks stay run lengths, or one map of all where they do not overlap; losses read them at
/// sampled points alone.
///
/// ```
/// use aff_train::targets::{IGNORED, SegmentTarget, TargetSegment};
/// use aff_vision::{ImageSize, LabelMap};
///
/// // Two objects of class 4, and a pixel that nothing is known of.
/// let map = LabelMap::new(ImageSize::new(1, 4), vec![0, 0, IGNORED, 1])?;
/// let target = SegmentTarget::from_map(map, vec![TargetSegment::new(4), TargetSegment::new(4)])?;
/// assert_eq!((target.area(0), target.bbox(1)), (2.0, [3.0, 0.0, 1.0, 1.0]));
/// # Ok::<(), aff_train::TrainError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentTarget {
    size: ImageSize,
    segments: Vec<TargetSegment>,
    masks: Masks,
}

/// The pixels of segments.
#[derive(Debug, Clone, PartialEq)]
enum Masks {
    /// The index of each pixel's segment; [`IGNORED`] where there is none.
    Map(LabelMap),
    /// A mask for each segment; they may overlap.
    Runs(Vec<Rle>),
}

impl SegmentTarget {
    /// Segments that do not overlap. `map` says of each pixel which of `segments` it belongs to, [`IGNORED`] if to none.
    ///
    /// # Errors
    /// [`TrainError::Target`] if there are too many segments, or a pixel belongs to one that is not there.
    pub fn from_map(map: LabelMap, segments: Vec<TargetSegment>) -> Result<Self, TrainError> {
        let count = segments.len();
        if u32::try_from(map.size().area()).is_err() {
            let problem = format!("has {} pixels; expected at most {}", map.size().area(), u32::MAX);
            return Err(TrainError::Target { problem });
        }
        if count > usize::from(IGNORED) {
            let problem = format!("has {count} segments; expected at most {IGNORED} that share a map");
            return Err(TrainError::Target { problem });
        }
        let is_wrong = |&&label: &&u16| label != IGNORED && usize::from(label) >= count;
        if let Some(label) = map.labels().iter().find(is_wrong) {
            let problem = format!("has pixels of segment {label}; expected one of {count}, from 0");
            return Err(TrainError::Target { problem });
        }
        Ok(Self { size: map.size(), segments, masks: Masks::Map(map) })
    }

    /// Segments with a mask each; they may overlap.
    ///
    /// # Errors
    /// [`TrainError::Target`] if numbers or sizes differ.
    pub fn from_masks(
        size: ImageSize,
        segments: Vec<TargetSegment>,
        masks: Vec<Rle>,
    ) -> Result<Self, TrainError> {
        if segments.len() != masks.len() {
            let problem = format!("has {} segments and {} masks", segments.len(), masks.len());
            return Err(TrainError::Target { problem });
        }
        if let Some(mask) = masks.iter().find(|mask| mask.size() != size) {
            let problem = format!("has a mask of {}; expected {size}", mask.size());
            return Err(TrainError::Target { problem });
        }
        Ok(Self { size, segments, masks: Masks::Runs(masks) })
    }

    /// Each class that occurs in a label map as one segment, ascending.
    ///
    /// # Errors
    /// If the map cannot be made.
    pub fn of_classes(labels: &LabelMap) -> Result<Self, TrainError> {
        let mut index = vec![IGNORED; usize::from(u16::MAX) + 1];
        for &label in labels.labels() {
            index[usize::from(label)] = 0;
        }
        index[usize::from(IGNORED)] = IGNORED;
        let mut segments = Vec::new();
        for (class, place) in index.iter_mut().enumerate().filter(|(_, place)| **place == 0) {
            *place = segments.len() as u16;
            segments.push(TargetSegment::new(class as u32));
        }
        let map = labels.labels().iter().map(|&label| index[usize::from(label)]).collect();
        Self::from_map(LabelMap::new(labels.size(), map)?, segments)
    }

    /// Height and width of the image.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// What is known of each segment.
    pub fn segments(&self) -> &[TargetSegment] {
        &self.segments
    }

    /// The index of each pixel's segment, [`IGNORED`] where there is none; `None` if the masks may overlap.
    pub fn map(&self) -> Option<&LabelMap> {
        match &self.masks {
            Masks::Map(map) => Some(map),
            Masks::Runs(_) => None,
        }
    }

    /// The mask of a segment.
    ///
    /// # Errors
    /// [`TrainError::Target`] if there is no segment of that index.
    pub fn mask(&self, index: usize) -> Result<Cow<'_, Rle>, TrainError> {
        match &self.masks {
            Masks::Runs(masks) if index < masks.len() => Ok(Cow::Borrowed(&masks[index])),
            Masks::Map(map) if index < self.segments.len() => {
                let bitmap: Vec<bool> =
                    map.labels().iter().map(|&label| usize::from(label) == index).collect();
                Ok(Cow::Owned(Rle::from_bitmap(self.size, &bitmap)?))
            }
            Masks::Runs(_) | Masks::Map(_) => {
                let problem = format!("has no segment {index}; it has {}", self.segments.len());
                Err(TrainError::Target { problem })
            }
        }
    }

    /// Left, top, width and height of a segment in pixels: those of the annotation, else those of the mask. All 0 if there is no
    /// such segment.
    pub fn bbox(&self, index: usize) -> [f32; 4] {
        let annotated = self.segments.get(index).and_then(|segment| segment.bbox);
        annotated.unwrap_or_else(|| {
            self.mask(index).map_or([0; 4], |mask| mask.bbox()).map(|length| length as f32)
        })
    }

    /// Pixels of a segment: those of the annotation, else those of the mask. 0 if there is no such segment.
    pub fn area(&self, index: usize) -> f64 {
        let annotated = self.segments.get(index).and_then(|segment| segment.area);
        annotated.unwrap_or_else(|| self.mask(index).map_or(0, |mask| mask.area()) as f64)
    }

    /// Those segments alone that `keep` says yes to. Pixels of the others belong to none.
    ///
    /// # Errors
    /// If the map cannot be made.
    pub fn retained(&self, keep: impl Fn(&TargetSegment) -> bool) -> Result<Self, TrainError> {
        self.of_kept(&self.segments.iter().map(keep).collect::<Vec<_>>())
    }

    fn of_kept(&self, kept: &[bool]) -> Result<Self, TrainError> {
        if kept.iter().all(|&kept| kept) {
            return Ok(self.clone());
        }
        let places: Vec<usize> = (0..kept.len()).filter(|&place| kept[place]).collect();
        let masks = match &self.masks {
            Masks::Runs(masks) => Masks::Runs(places.iter().map(|&place| masks[place].clone()).collect()),
            Masks::Map(map) => {
                let mut index = vec![IGNORED; usize::from(IGNORED) + 1];
                for (new, &old) in places.iter().enumerate() {
                    index[old] = new as u16;
                }
                let labels = map.labels().iter().map(|&label| index[usize::from(label)]).collect();
                Masks::Map(LabelMap::new(map.size(), labels)?)
            }
        };
        let segments = places.iter().map(|&place| self.segments[place]).collect();
        Ok(Self { size: self.size, segments, masks })
    }

    pub(super) fn to_label_map(&self) -> Result<LabelMap, TrainError> {
        let class = |segment: &TargetSegment| {
            u16::try_from(segment.class).ok().filter(|&class| class != IGNORED).ok_or_else(|| {
                TrainError::Target {
                    problem: format!("has the class {}; expected at most 65534", segment.class),
                }
            })
        };
        let classes = self.segments.iter().map(class).collect::<Result<Vec<_>, _>>()?;
        let mut labels = vec![IGNORED; self.size.area() as usize];
        match &self.masks {
            Masks::Map(map) => {
                for (label, &segment) in labels.iter_mut().zip(map.labels()) {
                    *label = classes.get(usize::from(segment)).copied().unwrap_or(IGNORED);
                }
            }
            Masks::Runs(masks) => {
                for (mask, class) in masks.iter().zip(classes) {
                    for (label, inside) in labels.iter_mut().zip(mask.to_bitmap()) {
                        if inside {
                            *label = class;
                        }
                    }
                }
            }
        }
        Ok(LabelMap::new(self.size, labels)?)
    }

    /// The segments in a view of the image. Those of which nothing is left are gone.
    pub(super) fn viewed(&self, view: &View) -> Result<Self, TrainError> {
        let segments: Vec<TargetSegment> = self
            .segments
            .iter()
            .map(|segment| TargetSegment {
                bbox: segment.bbox.map(|bbox| view.bbox(bbox.map(f64::from)).map(|value| value as f32)),
                area: None,
                ..*segment
            })
            .collect();
        let masks = match &self.masks {
            Masks::Map(map) => Masks::Map(view.label_map(map)?),
            Masks::Runs(masks) => {
                Masks::Runs(masks.iter().map(|mask| viewed_mask(mask, view)).collect::<Result<_, _>>()?)
            }
        };
        Self { size: view.size(), segments, masks }.without_empty()
    }

    /// Those segments alone that have a pixel.
    ///
    /// # Errors
    /// If the map cannot be made.
    pub fn without_empty(&self) -> Result<Self, TrainError> {
        self.of_kept(&self.occurring())
    }

    /// Which segments have a pixel.
    fn occurring(&self) -> Vec<bool> {
        match &self.masks {
            Masks::Runs(masks) => masks.iter().map(|mask| mask.area() > 0).collect(),
            Masks::Map(map) => {
                let mut seen = vec![false; usize::from(IGNORED) + 1];
                map.labels().iter().for_each(|&label| seen[usize::from(label)] = true);
                seen.truncate(self.segments.len());
                seen
            }
        }
    }

    /// What reads the mask of a segment at points.
    pub(crate) fn reader(&self, index: usize) -> MaskReader<'_> {
        match &self.masks {
            Masks::Map(map) => MaskReader::Map { map: map.labels(), segment: index as u16 },
            Masks::Runs(masks) => {
                let mut edge = 0;
                let edges = masks[index].counts().iter().map(|count| {
                    edge += count;
                    edge
                });
                MaskReader::Runs { edges: edges.collect(), size: self.size }
            }
        }
    }
}

impl From<SegmentTarget> for Target {
    fn from(segments: SegmentTarget) -> Self {
        Self::Segments(segments)
    }
}

/// A mask in a view: its columns are taken one by one, in each its runs of rows.
fn viewed_mask(mask: &Rle, view: &View) -> Result<Rle, TrainError> {
    let source = mask.size();
    let firsts = view.rows.firsts(source.height);
    let runs = runs_by_column(mask);
    let height = view.rows.length();
    let mut counts = Vec::new();
    for column in view.columns.source() {
        let mut at = 0;
        for &(start, end) in column.map_or(&[][..], |column| &runs[column as usize]) {
            let first = firsts[start as usize].max(at);
            let last = firsts[end as usize];
            if first < last {
                counts.extend([first - at, last - first]);
                at = last;
            }
        }
        counts.extend([height - at, 0]);
    }
    Ok(Rle::from_counts(view.size(), &counts)?)
}

/// First and last row (exclusive) of the runs of each column, ascending.
fn runs_by_column(mask: &Rle) -> Vec<Vec<(u32, u32)>> {
    let size = mask.size();
    let mut runs = vec![Vec::new(); size.width as usize];
    let (mut at, height) = (0u64, u64::from(size.height));
    for (place, &count) in mask.counts().iter().enumerate() {
        let end = at + u64::from(count);
        while place % 2 == 1 && at < end {
            let column = at / height;
            let stop = end.min((column + 1) * height);
            runs[column as usize].push(((at - column * height) as u32, (stop - column * height) as u32));
            at = stop;
        }
        at = end;
    }
    runs
}

/// Reads a mask at places, without the mask ever being there as a picture.
#[derive(Debug)]
pub(crate) enum MaskReader<'a> {
    /// The pixels of a map that have this segment.
    Map { map: &'a [u16], segment: u16 },
    /// Places, column by column, where runs begin and end in turns.
    Runs { edges: Vec<u32>, size: ImageSize },
}

impl MaskReader<'_> {
    /// Share of the mask in the places around a point.
    pub(crate) fn share(&self, stencil: &Stencil) -> f32 {
        let places = stencil.places.iter().zip(&stencil.weights);
        places
            .filter(|(place, weight)| **weight > 0.0 && self.contains(**place))
            .map(|(_, weight)| weight)
            .sum()
    }

    /// Whether a place, counted row by row, is inside.
    fn contains(&self, place: u32) -> bool {
        match self {
            Self::Map { map, segment } => map[place as usize] == *segment,
            Self::Runs { edges, size } => {
                let (row, column) = (place / size.width, place % size.width);
                let place = column * size.height + row;
                edges.partition_point(|&edge| edge <= place) % 2 == 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NUMBER: u32 = 5;

    /// A map of some segments, and the same as masks.
    fn pair(size: ImageSize, labels: &[u16]) -> (SegmentTarget, SegmentTarget) {
        let segments: Vec<_> = (0..NUMBER).map(TargetSegment::new).collect();
        let labels: Vec<u16> =
            labels.iter().map(|&label| if u32::from(label) < NUMBER { label } else { IGNORED }).collect();
        let masks = (0..NUMBER as u16).map(|segment| {
            let bitmap: Vec<bool> = labels.iter().map(|&label| label == segment).collect();
            Rle::from_bitmap(size, &bitmap).unwrap()
        });
        let masks = SegmentTarget::from_masks(size, segments.clone(), masks.collect()).unwrap();
        (SegmentTarget::from_map(LabelMap::new(size, labels).unwrap(), segments).unwrap(), masks)
    }

    fn assert_same(map: &SegmentTarget, masks: &SegmentTarget) {
        assert_eq!(map.segments(), masks.segments());
        for index in 0..map.segments().len() {
            assert_eq!(map.mask(index).unwrap(), masks.mask(index).unwrap());
            assert_eq!((map.area(index), map.bbox(index)), (masks.area(index), masks.bbox(index)));
            for place in 0..map.size().area() as u32 {
                let whole = Stencil { places: [place; 4], weights: [1.0, 0.0, 0.0, 0.0] };
                assert_eq!(map.reader(index).share(&whole), masks.reader(index).share(&whole));
            }
        }
    }

    proptest! {
        #[test]
        fn run_lengths_move_as_maps_do(
            (height, width) in (1u32..9, 1u32..9), labels: [u16; 64], scale in (1u32..12, 1u32..12),
            crop in (0u32..4, 0u32..4, 1u32..12, 1u32..12), flip: bool,
        ) {
            let size = ImageSize::new(height, width);
            let labels: Vec<u16> = labels[..size.area() as usize].iter().map(|label| label % 7).collect();
            let (map, masks) = pair(size, &labels);
            assert_same(&map, &masks);
            let whole = View::of(size);
            let columns = whole.columns.scaled(scale.1).cropped(crop.1.min(scale.1 - 1), crop.3);
            let view = View {
                rows: whole.rows.scaled(scale.0).cropped(crop.0.min(scale.0 - 1), crop.2),
                columns: if flip { columns.flipped() } else { columns },
            };
            assert_same(&map.viewed(&view).unwrap(), &masks.viewed(&view).unwrap());
        }
    }

    #[test]
    fn annotated_boxes_move_with_the_masks() {
        let size = ImageSize::new(4, 6);
        let bitmap: Vec<bool> = (0..24).map(|place| place % 6 < 2 && place / 6 < 3).collect();
        let segment = TargetSegment::new(1).with_bbox([0.0, 0.0, 2.0, 3.0]).with_area(5.5);
        let target =
            SegmentTarget::from_masks(size, vec![segment], vec![Rle::from_bitmap(size, &bitmap).unwrap()])
                .unwrap();
        assert_eq!(target.area(0), 5.5);
        let whole = View::of(size);
        let view =
            View { rows: whole.rows.scaled(8).cropped(2, 6), columns: whole.columns.scaled(12).flipped() };
        let viewed = target.viewed(&view).unwrap();
        assert_eq!(viewed.bbox(0), [8.0, 0.0, 4.0, 4.0]);
        assert_eq!(viewed.mask(0).unwrap().bbox(), [8, 0, 4, 4]);
        assert_eq!(viewed.area(0), 16.0);
        // Nothing of it is left in the right half.
        let view = View { rows: whole.rows.clone(), columns: whole.columns.cropped(3, 3) };
        assert_eq!(target.viewed(&view).unwrap().segments(), []);
    }

    #[test]
    fn segments_that_do_not_fit_are_refused() {
        let map = || LabelMap::new(ImageSize::new(1, 2), vec![0, 2]).unwrap();
        let error = SegmentTarget::from_map(map(), vec![TargetSegment::new(0); 2]).unwrap_err().to_string();
        assert!(error.contains("pixels of segment 2; expected one of 2"), "{error}");
        let mask = Rle::from_counts(ImageSize::new(2, 2), &[4]).unwrap();
        for masks in [vec![], vec![mask]] {
            let size = ImageSize::new(1, 2);
            assert!(SegmentTarget::from_masks(size, vec![TargetSegment::new(0)], masks).is_err());
        }
        let target = SegmentTarget::from_map(map(), vec![TargetSegment::new(0); 3]).unwrap();
        assert!(target.mask(3).is_err());
    }

    #[test]
    fn classes_of_a_label_map_become_segments_and_come_back() {
        let labels = LabelMap::new(ImageSize::new(1, 5), vec![9, IGNORED, 3, 3, 9]).unwrap();
        let target = SegmentTarget::of_classes(&labels).unwrap();
        assert_eq!(target.segments(), [TargetSegment::new(3), TargetSegment::new(9)]);
        assert_eq!(target.to_label_map().unwrap(), labels);
        let things = target.retained(|segment| segment.class == 9).unwrap();
        assert_eq!(things.to_label_map().unwrap().labels(), [9, IGNORED, IGNORED, IGNORED, 9]);
    }
}
