//! PNG, row by row: beside the picture only a row of the file's own samples is held, whatever they are.

use std::io::{Cursor, ErrorKind};

use image::RgbImage;
use image::metadata::Orientation;
use png::{ColorType, DecodingError, InterlaceInfo, Transformations};

use super::limits::DecodeLimits;
use super::{check_size, damaged, too_much_memory};
use crate::{ImageSize, VisionError};

const FORMAT: &str = "Png";
/// Bytes of a pixel of the picture.
const CHANNELS: usize = 3;

/// The picture and how it has to be turned.
pub(super) fn decode(
    bytes: &[u8],
    origin: &str,
    limits: &DecodeLimits,
) -> Result<(RgbImage, Orientation), VisionError> {
    let translate = |error: DecodingError| translate(error, origin, limits);
    let of_decoder = png::Limits { bytes: usize::try_from(limits.memory_bytes()).unwrap_or(usize::MAX) };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), of_decoder);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // The upper byte of 16-bit samples, as Pillow takes it.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let info = decoder.read_header_info().map_err(translate)?;
    let size = ImageSize { width: info.width, height: info.height };
    check_size(size, CHANNELS as u64, FORMAT, origin, limits)?;
    let mut reader = decoder.read_info().map_err(translate)?;
    let orientation = reader.info().exif_metadata.as_deref().and_then(Orientation::from_exif_chunk);
    let colour = reader.output_color_type().0;

    let mut picture = RgbImage::new(size.width, size.height);
    let stride = size.columns() * CHANNELS;
    let (mut line, mut pixels) = (0, vec![0; stride]);
    while let Some(row) = reader.next_interlaced_row().map_err(translate)? {
        match row.interlace() {
            InterlaceInfo::Null(_) => {
                if let Some(to) = picture.chunks_exact_mut(stride).nth(line) {
                    into_rgb(row.data(), colour, to);
                }
                line += 1;
            }
            InterlaceInfo::Adam7(info) => {
                let count = row.data().len() / colour.samples();
                let narrow = &mut pixels[..count * CHANNELS];
                into_rgb(row.data(), colour, narrow);
                png::expand_interlaced_row(&mut picture, stride, narrow, info, 8 * CHANNELS as u8);
            }
        }
    }
    Ok((picture, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// Grey is repeated, alpha dropped.
fn into_rgb(from: &[u8], colour: ColorType, to: &mut [u8]) {
    let (to, _) = to.as_chunks_mut::<CHANNELS>();
    match colour {
        // Palettes are looked up by the decoder.
        ColorType::Grayscale | ColorType::Indexed => {
            to.iter_mut().zip(from).for_each(|(to, &grey)| *to = [grey; CHANNELS]);
        }
        ColorType::GrayscaleAlpha => {
            let (from, _) = from.as_chunks::<2>();
            to.iter_mut().zip(from).for_each(|(to, &[grey, _])| *to = [grey; CHANNELS]);
        }
        ColorType::Rgb => to.as_flattened_mut().copy_from_slice(from),
        ColorType::Rgba => {
            let (from, _) = from.as_chunks::<4>();
            to.iter_mut().zip(from).for_each(|(to, &[red, green, blue, _])| *to = [red, green, blue]);
        }
    }
}

fn translate(error: DecodingError, origin: &str, limits: &DecodeLimits) -> VisionError {
    match error {
        DecodingError::LimitsExceeded => too_much_memory(origin, limits),
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            damaged(origin, FORMAT, "the file ends before the picture does")
        }
        other => damaged(origin, FORMAT, &other.to_string()),
    }
}
