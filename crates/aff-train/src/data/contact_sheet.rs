//! A picture of many images with their labels painted on, to see at a glance whether a data set was understood.

use aff_vision::{
    CaptionedBox, ImageSize, InstanceMask, LabelMap, OverlayOptions, Regions, Resample, Rgb, RgbImage,
    draw_boxes, overlay, resize,
};

use super::{DataSet, Sample};
use crate::TrainError;
use crate::targets::Target;

/// Width and height of the space for an image, in pixels.
const CELL: [u32; 2] = [240, 180];
const GAP: u32 = 4;
const BACKGROUND: Rgb<u8> = Rgb([32, 32, 32]);

/// The images `indices` of a data set with their labels painted on, `columns` in a row. Images that cannot be read stay empty.
///
/// # Errors
/// If there is no image or no column, or the picture would be too large.
pub fn contact_sheet(data: &dyn DataSet, indices: &[usize], columns: u32) -> Result<RgbImage, TrainError> {
    let places = (0..).zip(indices);
    let rows = (indices.len() as u64).div_ceil(u64::from(columns.max(1)));
    let size = [u64::from(columns) * u64::from(CELL[0] + GAP), rows * u64::from(CELL[1] + GAP)];
    if size[0] * size[1] == 0 || size[0] * size[1] > 1 << 28 {
        let expected = "some images, as many as fit into 268 megapixels";
        return Err(TrainError::value(
            "contact_sheet",
            format!("{} images in {columns} columns", indices.len()),
            expected,
        ));
    }
    let mut sheet = RgbImage::from_pixel((size[0] as u32) + GAP, (size[1] as u32) + GAP, BACKGROUND);
    for (place, &index) in places {
        let painted = data.load(index).and_then(|sample| painted(&sample, &data.class_names()));
        if let Ok(picture) = painted {
            let left = GAP + place % columns * (CELL[0] + GAP) + (CELL[0] - picture.width()) / 2;
            let top = GAP + place / columns * (CELL[1] + GAP) + (CELL[1] - picture.height()) / 2;
            for (x, y, &pixel) in picture.enumerate_pixels() {
                sheet.put_pixel(left + x, top + y, pixel);
            }
        }
    }
    Ok(sheet)
}

/// An image with its labels, small enough for a cell.
fn painted(sample: &Sample, names: &[String]) -> Result<RgbImage, TrainError> {
    let small = fitting(ImageSize::of(&sample.image));
    let options = OverlayOptions { alpha: 0.5, boundaries: true, captions: false, legend: false };
    Ok(match &sample.target {
        // A label is written on the picture, as the legend of an overlay that covers nothing.
        Target::Class(class) => {
            let picture = resize(&sample.image, small, Resample::Bilinear)?;
            let label = class.most_probable().min(u32::from(u16::MAX)) as u16;
            let map = LabelMap::new(small, vec![label; small.area() as usize])?;
            let options = OverlayOptions { alpha: 0.0, boundaries: false, legend: true, ..options };
            overlay(&picture, &Regions::of_labels(&map, names), &options)?
        }
        Target::Semantic(map) => {
            let picture = overlay(&sample.image, &Regions::of_labels(map, names), &options)?;
            resize(&picture, small, Resample::Bilinear)?
        }
        Target::Segments(target) => {
            let object = |(index, segment): (usize, &crate::targets::TargetSegment)| {
                let mask = target.mask(index)?.into_owned();
                Ok(InstanceMask { label_id: segment.class, score: 1.0, query: index, mask })
            };
            let objects =
                target.segments().iter().enumerate().map(object).collect::<Result<Vec<_>, TrainError>>()?;
            let regions = Regions::of_instances(target.size(), &objects, names);
            resize(&overlay(&sample.image, &regions, &options)?, small, Resample::Bilinear)?
        }
        Target::Boxes(target) => {
            let boxes = target.boxes().iter().map(|object| CaptionedBox {
                label_id: object.class,
                caption: names.get(object.class as usize).cloned().unwrap_or_default(),
                bbox: object.bbox.map(|value| value as f32),
            });
            let picture = draw_boxes(&sample.image, &boxes.collect::<Vec<_>>())?;
            resize(&picture, small, Resample::Bilinear)?
        }
    })
}

/// The largest size of the same shape that fits into a cell.
fn fitting(size: ImageSize) -> ImageSize {
    let scale = (f64::from(CELL[0]) / f64::from(size.width)).min(f64::from(CELL[1]) / f64::from(size.height));
    let scaled = |length: u32, most: u32| ((f64::from(length) * scale).round() as u32).clamp(1, most);
    ImageSize::new(scaled(size.height, CELL[1]), scaled(size.width, CELL[0]))
}
