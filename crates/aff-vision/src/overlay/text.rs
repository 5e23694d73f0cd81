//! Small text on pictures.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use image::RgbImage;

use super::blend;
use crate::VisionError;

/// The bundled font, a subset of Open Sans SemiBold (SIL Open Font License 1.1): Latin letters, digits, punctuation.
pub static FONT: &[u8] = include_bytes!("../../assets/OpenSans-SemiBold-subset.ttf");

/// The bundled font at one size.
pub(super) struct Pen {
    font: FontRef<'static>,
    scale: PxScale,
}

/// Text that was laid out, from the top left corner of its box.
pub(super) struct Line {
    glyphs: Vec<Glyph>,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Pen {
    /// A pen for lines `height` pixels high.
    pub(super) fn new(height: f32) -> Result<Self, VisionError> {
        let font = FontRef::try_from_slice(FONT)
            .map_err(|error| VisionError::option("font", &error, "the bundled font"))?;
        Ok(Self { font, scale: PxScale::from(height) })
    }

    pub(super) fn line(&self, text: &str) -> Line {
        let font = self.font.as_scaled(self.scale);
        let (mut at, mut last) = (0.0, None);
        let mut glyphs = Vec::with_capacity(text.len());
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            at += last.map_or(0.0, |last| font.kern(last, id));
            glyphs.push(id.with_scale_and_position(self.scale, point(at, font.ascent())));
            at += font.h_advance(id);
            last = Some(id);
        }
        Line { glyphs, width: at.ceil() as u32, height: font.height().ceil() as u32 }
    }

    /// Draws a line with its top left corner at `(left, top)`; what lies outside the picture is cut off.
    pub(super) fn draw(&self, image: &mut RgbImage, line: &Line, [left, top]: [i64; 2], color: [u8; 3]) {
        for glyph in &line.glyphs {
            let Some(outline) = self.font.outline_glyph(glyph.clone()) else { continue };
            let corner = outline.px_bounds().min;
            let (left, top) = (left + corner.x as i64, top + corner.y as i64);
            outline.draw(|x, y, coverage| {
                let place = [left + i64::from(x), top + i64::from(y)];
                let [x, y] = place.map(|coordinate| u32::try_from(coordinate).ok());
                let pixel = x.zip(y).and_then(|(x, y)| image.get_pixel_mut_checked(x, y));
                if let Some(pixel) = pixel {
                    blend(&mut pixel.0, color, coverage);
                }
            });
        }
    }
}
