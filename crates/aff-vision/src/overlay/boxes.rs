//! The photo with boxes drawn over it.

use image::RgbImage;

use super::text::Pen;
use super::{Area, DARK, LEAST_EDGE_FOR_TEXT, LIGHT, class_color, fill};
use crate::{ImageSize, VisionError};

/// A box and what is written at it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptionedBox {
    /// The class, which decides the colour.
    pub label_id: u32,
    /// What is written above the box, or where there is no room inside it.
    pub caption: String,
    /// Left, top, width, height in pixels.
    pub bbox: [f32; 4],
}

/// Draws boxes over a photo in the colours of their classes, the first on top. Captions that would cover that of a box before them are
/// left out, and so are all on pictures that are too small for text.
///
/// # Errors
/// [`VisionError`] if the bundled font cannot be read.
///
/// ```
/// use aff_vision::{CaptionedBox, class_color, draw_boxes};
///
/// let bbox = CaptionedBox { label_id: 3, caption: "car 90%".to_owned(), bbox: [2.0, 1.0, 5.0, 4.0] };
/// let picture = draw_boxes(&image::RgbImage::new(10, 10), &[bbox])?;
/// assert_eq!(picture.get_pixel(2, 1).0, class_color(3));
/// assert_eq!(picture.get_pixel(4, 3).0, [0; 3]);
/// # Ok::<(), aff_vision::VisionError>(())
/// ```
pub fn draw_boxes(photo: &RgbImage, boxes: &[CaptionedBox]) -> Result<RgbImage, VisionError> {
    let mut picture = photo.clone();
    let size = ImageSize::of(photo);
    let edge = size.height.min(size.width);
    let thickness = 1 + i64::from(edge) / 400;
    for object in boxes.iter().rev() {
        draw_frame(&mut picture, area(object.bbox), thickness, class_color(object.label_id));
    }
    if edge < LEAST_EDGE_FOR_TEXT {
        return Ok(picture);
    }
    let pen = Pen::new((edge as f32 / 35.0).max(12.0))?;
    let mut taken: Vec<Area> = Vec::new();
    for object in boxes {
        let line = pen.line(&object.caption);
        let (width, height) = (i64::from(line.width) + 6, i64::from(line.height));
        let [left, top, ..] = area(object.bbox);
        let left = left.clamp(0, (i64::from(size.width) - width).max(0));
        let top = if top >= height { top - height } else { top.max(0) };
        let place = [left, top, left + width, top + height];
        let overlaps = |other: &Area| {
            place[0] < other[2] && other[0] < place[2] && place[1] < other[3] && other[1] < place[3]
        };
        if object.caption.is_empty() || taken.iter().any(overlaps) {
            continue;
        }
        taken.push(place);
        fill(&mut picture, place, DARK, 0.6);
        pen.draw(&mut picture, &line, [left + 3, top], LIGHT);
    }
    Ok(picture)
}

/// The pixels that a box touches.
fn area([left, top, width, height]: [f32; 4]) -> Area {
    let (right, bottom) = ((left + width).ceil() as i64, (top + height).ceil() as i64);
    let (left, top) = (left.floor() as i64, top.floor() as i64);
    [left, top, right.max(left + 1), bottom.max(top + 1)]
}

fn draw_frame(picture: &mut RgbImage, [left, top, right, bottom]: Area, thickness: i64, color: [u8; 3]) {
    let across = thickness.min(bottom - top);
    let along = thickness.min(right - left);
    for side in [
        [left, top, right, top + across],
        [left, bottom - across, right, bottom],
        [left, top, left + along, bottom],
        [right - along, top, right, bottom],
    ] {
        fill(picture, side, color, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captioned(label_id: u32, bbox: [f32; 4]) -> CaptionedBox {
        CaptionedBox { label_id, caption: format!("class {label_id}"), bbox }
    }

    #[test]
    fn frames_are_of_the_class_and_the_first_is_on_top() {
        let boxes = [captioned(1, [2.0, 2.0, 6.0, 5.0]), captioned(2, [2.0, 2.0, 4.0, 4.0])];
        let picture = draw_boxes(&RgbImage::new(20, 20), &boxes).unwrap();
        assert_eq!(picture.get_pixel(2, 2).0, class_color(1));
        assert_eq!(picture.get_pixel(7, 6).0, class_color(1));
        assert_eq!(picture.get_pixel(5, 5).0, class_color(2));
        assert_eq!(picture.get_pixel(8, 7).0, [0; 3]);
    }

    #[test]
    fn any_box_on_any_picture() {
        for (width, height) in [(1, 1), (3, 200), (400, 300)] {
            for bbox in [[0.0; 4], [-5.0, -5.0, 1e6, 1e6], [1e9, 1e9, 5.0, 5.0], [0.5, 0.5, 0.0, 0.0]] {
                let picture = draw_boxes(&RgbImage::new(width, height), &[captioned(0, bbox)]).unwrap();
                assert_eq!(picture.dimensions(), (width, height));
            }
        }
    }

    #[test]
    fn captions_are_written_and_never_over_another() {
        let written = |boxes: &[CaptionedBox]| {
            let picture = draw_boxes(&RgbImage::from_pixel(300, 200, image::Rgb([90; 3])), boxes).unwrap();
            picture.pixels().filter(|pixel| pixel.0.iter().all(|&value| value > 200)).count()
        };
        let (a, b) = (captioned(1, [50.0, 50.0, 90.0, 90.0]), captioned(1, [54.0, 50.0, 90.0, 90.0]));
        assert!(written(std::slice::from_ref(&a)) > 10);
        assert_eq!(written(&[a.clone(), b]), written(&[a]));
    }
}
