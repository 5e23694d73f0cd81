//! Objects as boxes, without masks.

use aff_vision::ImageSize;

use super::{Crowd, Target, View};
use crate::TrainError;
use crate::losses::ImageBoxes;

/// Share of its area that a box must keep in a view.
const LEAST_SHARE: f64 = 0.1;
/// Pixels of width and of height that a box must keep in a view.
const LEAST_SIDE: f64 = 1.0;

/// An object with its box.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TargetBox {
    /// Its class: an index into the data set's categories.
    pub class: u32,
    /// Whether it is a crowd, which is no target of a loss.
    pub crowd: Crowd,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// Pixels of the object as the annotation counts them, else the area of the box.
    pub area: f64,
}

impl TargetBox {
    /// One object of a class.
    pub fn new(class: u32, bbox: [f64; 4]) -> Self {
        Self { class, crowd: Crowd::Single, bbox, area: bbox[2] * bbox[3] }
    }

    /// What makes it no box in an image of a size, if anything: a number that is none, a negative size, or a place outside.
    pub(crate) fn defect(&self, size: ImageSize) -> Option<String> {
        let [left, top, width, height] = self.bbox;
        let is_box = self.bbox.iter().all(|value| value.is_finite()) && width >= 0.0 && height >= 0.0;
        let is_inside = left <= f64::from(size.width)
            && top <= f64::from(size.height)
            && left + width >= 0.0
            && top + height >= 0.0;
        (!is_box || !is_inside).then(|| {
            format!(
                "its box is [{left}, {top}, {width}, {height}]; expected finite numbers, width and height from 0, and a part inside the \
                 image of {size}"
            )
        })
    }
}

/// The boxes of an image.
///
/// In a view of the image (scaled, cut out, mirrored) a box is cut where the image or the view ends. It is dropped if less than a tenth
/// of its area, or less than a pixel of its width or height, is left; so are boxes that have no width or height from the beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxTarget {
    size: ImageSize,
    boxes: Vec<TargetBox>,
}

impl BoxTarget {
    /// The boxes of an image. They may stick out of it, and have no width or height: metrics see them as they are.
    ///
    /// # Errors
    /// [`TrainError::Target`] names the first that is not finite, has a negative size or lies outside the image.
    pub fn new(size: ImageSize, boxes: Vec<TargetBox>) -> Result<Self, TrainError> {
        for (place, object) in boxes.iter().enumerate() {
            if let Some(defect) = object.defect(size) {
                return Err(TrainError::Target {
                    problem: format!("has a wrong box (number {place}): {defect}"),
                });
            }
        }
        Ok(Self { size, boxes })
    }

    /// Height and width of the image.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// The objects.
    pub fn boxes(&self) -> &[TargetBox] {
        &self.boxes
    }

    /// The boxes of some objects.
    #[must_use]
    pub fn retained(mut self, keep: impl FnMut(&TargetBox) -> bool) -> Self {
        self.boxes.retain(keep);
        self
    }

    /// What the losses look for: the boxes in fractions of the image, without crowds and without those that have no area.
    ///
    /// # Errors
    /// [`TrainError::Target`] if the image is empty.
    pub fn to_image_boxes(&self) -> Result<ImageBoxes, TrainError> {
        let (height, width) = (f64::from(self.size.height), f64::from(self.size.width));
        let is_learnt =
            |object: &&TargetBox| object.crowd == Crowd::Single && object.bbox[2] * object.bbox[3] > 0.0;
        let fraction = |object: &TargetBox| {
            let [left, top, w, h] = object.bbox;
            (object.class, [(left + w / 2.0) / width, (top + h / 2.0) / height, w / width, h / height])
        };
        let (classes, boxes) = self.boxes.iter().filter(is_learnt).map(fraction).unzip();
        ImageBoxes::new(classes, boxes)
    }

    /// The boxes in a view of the image.
    pub(super) fn viewed(&self, view: &View) -> Self {
        let viewed = |object: &TargetBox| {
            let whole = view.area(object.bbox);
            let bbox = view.bbox(cut(object.bbox, self.size));
            let [_, _, width, height] = bbox;
            let is_left = width.min(height) >= LEAST_SIDE && width * height >= LEAST_SHARE * whole;
            is_left.then_some(TargetBox { bbox, area: width * height, ..*object })
        };
        Self { size: view.size(), boxes: self.boxes.iter().filter_map(viewed).collect() }
    }
}

/// A box, cut where the image ends.
fn cut([left, top, width, height]: [f64; 4], size: ImageSize) -> [f64; 4] {
    let within = |start: f64, length: f64, most: u32| {
        let at = |place: f64| place.clamp(0.0, f64::from(most));
        (at(start), at(start + length) - at(start))
    };
    let ((left, width), (top, height)) = (within(left, width, size.width), within(top, height, size.height));
    [left, top, width, height]
}

impl From<BoxTarget> for Target {
    fn from(boxes: BoxTarget) -> Self {
        Self::Boxes(boxes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ImageSize = ImageSize::new(40, 60);

    fn target(boxes: &[[f64; 4]]) -> BoxTarget {
        let boxes = boxes.iter().map(|&bbox| TargetBox::new(0, bbox));
        BoxTarget::new(SIZE, boxes.collect()).unwrap()
    }

    fn boxes(target: &BoxTarget) -> Vec<[f64; 4]> {
        target.boxes().iter().map(|object| object.bbox).collect()
    }

    #[test]
    fn boxes_move_and_are_dropped_by_the_rule() {
        let whole = View::of(SIZE);
        // The columns 20 to 50, twice as large, mirrored; all rows, twice as large.
        let columns = whole.columns.scaled(120).cropped(40, 60).flipped();
        let view = View { rows: whole.rows.scaled(80), columns };
        let found = target(&[
            // Inside.
            [30.0, 10.0, 5.0, 20.0],
            // A tenth of it is inside, and a little less.
            [11.0, 0.0, 10.0, 10.0],
            [10.9, 0.0, 10.0, 10.0],
            // All of it, but less than a pixel wide.
            [30.0, 0.0, 0.4, 10.0],
            // Outside; without height; beyond the lower edge of the image.
            [0.0, 0.0, 10.0, 10.0],
            [30.0, 5.0, 5.0, 0.0],
            [40.0, 30.0, 10.0, 20.0],
        ])
        .viewed(&view);
        let expected = [[30.0, 20.0, 10.0, 40.0], [58.0, 0.0, 2.0, 20.0], [0.0, 60.0, 20.0, 20.0]];
        assert_eq!((boxes(&found).as_slice(), found.size()), (expected.as_slice(), ImageSize::new(80, 60)));
        assert_eq!(found.boxes()[0].area, 400.0);
        let fractions = found.to_image_boxes().unwrap();
        let near = |a: [f64; 4], b: [f64; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(fractions.boxes()[2], [10.0 / 60.0, 70.0 / 80.0, 20.0 / 60.0, 20.0 / 80.0]));
    }

    #[test]
    fn crowds_and_boxes_without_area_are_not_learnt() {
        let mut all = target(&[[1.0, 1.0, 5.0, 5.0], [1.0, 1.0, 5.0, 0.0], [2.0, 2.0, 3.0, 3.0]]);
        all.boxes[2].crowd = Crowd::Crowd;
        assert_eq!(all.to_image_boxes().unwrap().boxes().len(), 1);
    }

    #[test]
    fn boxes_that_are_none_are_named() {
        for wrong in [
            [f64::NAN, 0.0, 1.0, 1.0],
            [0.0, f64::INFINITY, 1.0, 1.0],
            [0.0, 0.0, -1.0, 1.0],
            [61.0, 0.0, 5.0, 5.0],
            [0.0, -6.0, 5.0, 5.0],
        ] {
            let boxes = vec![TargetBox::new(0, [0.0, 0.0, 1.0, 1.0]), TargetBox::new(0, wrong)];
            let error = BoxTarget::new(SIZE, boxes).unwrap_err().to_string();
            assert!(error.contains("(number 1): its box is ["), "{error}");
        }
    }
}
