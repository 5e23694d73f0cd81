//! Pictures at another size, bit for bit as Pillow resizes them.
//!
//! Two passes, one along the rows and one along the columns, each a weighted mean of neighbours. When the picture shrinks the filter is
//! widened by as much (antialiasing). Between the passes values are rounded to 8 bits, and the weights are whole numbers in units of
//! 2^-22: models were trained on exactly these pixels.
//!
//! The order of the passes decides some last bits. It is that of Pillow 13: along the rows first, unless much more is taken off the
//! height than off the width. Pillow up to 12.0 goes along the rows first in any case, which makes no difference to a picture that
//! keeps its shape and is at most twice as high as wide.

mod passes;
mod taps;

use image::RgbImage;

use crate::decode::MAX_PIXELS;
use crate::{ImageSize, Resample, VisionError};
use passes::{along_columns, along_rows};
use taps::Taps;

/// Bytes of a pixel.
const CHANNELS: usize = 3;

/// A picture at another size, bit for bit as Pillow's `Image.resize` makes it.
///
/// # Errors
/// [`VisionError::TooLarge`] for more than [`MAX_PIXELS`] pixels, [`VisionError::Option`] for no pixels.
///
/// ```
/// use aff_vision::{ImageSize, Resample, Rgb, RgbImage, resize};
///
/// let image = RgbImage::from_fn(4, 1, |x, _| Rgb([(80 * x) as u8, 7, 7]));
/// let resized = resize(&image, ImageSize::new(1, 3), Resample::Bilinear)?;
/// assert_eq!(resized.pixels().map(|pixel| pixel[0]).collect::<Vec<_>>(), [24, 120, 216]);
/// # Ok::<(), aff_vision::VisionError>(())
/// ```
pub fn resize(image: &RgbImage, to: ImageSize, filter: Resample) -> Result<RgbImage, VisionError> {
    Ok(resized(image, to, filter)?.unwrap_or_else(|| image.clone()))
}

/// `None` where the size is right already.
pub(crate) fn resized(
    image: &RgbImage,
    to: ImageSize,
    filter: Resample,
) -> Result<Option<RgbImage>, VisionError> {
    let from = ImageSize::of(image);
    if to == from {
        return Ok(None);
    }
    if from.is_empty() || to.is_empty() {
        let (name, size) = if to.is_empty() { ("size", to) } else { ("image", from) };
        return Err(VisionError::option(name, &size, "at least one pixel"));
    }
    if to.area() > MAX_PIXELS {
        return Err(VisionError::TooLarge {
            origin: "the resized image".to_owned(),
            found: to.to_string(),
            limit: format!("{MAX_PIXELS} pixels"),
        });
    }
    // A pass that would change nothing is left out. In either order what lies between the passes is smaller than the larger picture.
    let rows = (to.width != from.width).then(|| Taps::new(filter, from.columns(), to.columns()));
    let columns = (to.height != from.height).then(|| Taps::new(filter, from.rows(), to.rows()));
    let source = image.as_raw();
    let bytes = match (rows, columns) {
        (Some(rows), Some(columns)) if are_columns_first(from, to) => {
            along_rows(&along_columns(source, from, &columns), from.columns(), &rows)
        }
        (Some(rows), Some(columns)) => {
            let narrow = ImageSize { width: to.width, ..from };
            along_columns(&along_rows(source, from.columns(), &rows), narrow, &columns)
        }
        (Some(rows), None) => along_rows(source, from.columns(), &rows),
        (None, Some(columns)) => along_columns(source, from, &columns),
        (None, None) => source.clone(),
    };
    Ok(RgbImage::from_raw(to.width, to.height, bytes))
}

/// Whether the pass along the columns comes first: where it saves the other one most of its rows.
fn are_columns_first(from: ImageSize, to: ImageSize) -> bool {
    let taken_off = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let height = taken_off(from.height, to.height);
    height > 0 && height > 2 * taken_off(from.width, to.width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_cannot_be_resized() {
        let error = resize(&RgbImage::new(0, 5), ImageSize::new(1, 1), Resample::Bilinear).unwrap_err();
        assert!(error.to_string().starts_with("`image` is 0 x 5"), "{error}");
        assert!(resize(&RgbImage::new(1, 5), ImageSize::new(0, 1), Resample::Bilinear).is_err());
        let error =
            resize(&RgbImage::new(1, 5), ImageSize::new(20_000, 20_000), Resample::Bilinear).unwrap_err();
        assert!(matches!(error, VisionError::TooLarge { .. }), "{error}");
    }
}
