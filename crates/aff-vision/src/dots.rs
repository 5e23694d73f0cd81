//! Points on pictures.

use image::{Rgb, RgbImage};

use crate::VisionError;

/// Draws a dot at each point `(x, y)`, coloured by its value from 0 (blue) over green to 1 (red), or white without values.
///
/// # Errors
/// If there is not a value for each point, or a radius that is not positive.
///
/// ```
/// let mut picture = image::RgbImage::new(9, 9);
/// aff_vision::draw_dots(&mut picture, &[[4.5, 4.5]], None, 1.5).unwrap();
/// assert_eq!(picture.get_pixel(4, 4).0, [255; 3]);
/// assert_eq!(picture.get_pixel(0, 0).0, [0; 3]);
/// ```
pub fn draw_dots(
    picture: &mut RgbImage,
    points: &[[f32; 2]],
    values: Option<&[f32]>,
    radius: f32,
) -> Result<(), VisionError> {
    if let Some(values) = values.filter(|values| values.len() != points.len()) {
        return Err(VisionError::Length {
            name: "values",
            found: values.len(),
            expected: points.len() as u64,
            shape: "one a point".to_owned(),
        });
    }
    if !(radius > 0.0 && radius.is_finite()) {
        return Err(VisionError::option("radius", &radius, "a positive number"));
    }
    for (place, &[x, y]) in points.iter().enumerate() {
        let color = values.map_or([255; 3], |values| heat(values[place]));
        let range = |center: f32, length: u32| {
            let clamp = |at: f32| at.clamp(0.0, length as f32) as u32;
            clamp((center - radius).floor())..clamp((center + radius).ceil())
        };
        for row in range(y, picture.height()) {
            for column in range(x, picture.width()) {
                let (dx, dy) = (column as f32 + 0.5 - x, row as f32 + 0.5 - y);
                if dx * dx + dy * dy <= radius * radius {
                    picture.put_pixel(column, row, Rgb(color));
                }
            }
        }
    }
    Ok(())
}

/// Blue, cyan, green, yellow, red.
fn heat(value: f32) -> [u8; 3] {
    let value = if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
    let ramp = |center: f32| ((1.5 - (4.0 * (value - center)).abs()).clamp(0.0, 1.0) * 255.0) as u8;
    [ramp(0.75), ramp(0.5), ramp(0.25)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_go_from_blue_to_red() {
        assert_eq!((heat(0.0)[2] > heat(0.0)[0], heat(1.0)[0] > heat(1.0)[2]), (true, true));
        assert_eq!(heat(f32::NAN), heat(0.0));
    }

    #[test]
    fn dots_outside_and_wrong_values_do_no_harm() {
        let mut picture = RgbImage::new(4, 4);
        draw_dots(&mut picture, &[[-9.0, 2.0], [100.0, 100.0], [f32::NAN, 1.0]], None, 2.0).unwrap();
        assert!(picture.pixels().all(|pixel| pixel.0 == [0; 3]));
        assert!(draw_dots(&mut picture, &[[1.0, 1.0]], Some(&[]), 2.0).is_err());
        assert!(draw_dots(&mut picture, &[], None, 0.0).is_err());
    }
}
