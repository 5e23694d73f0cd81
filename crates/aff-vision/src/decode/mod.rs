//! Files and bytes to 8-bit RGB pictures, the right way up.
//!
//! The pixels are those of Pillow's `ImageOps.exif_transpose(image).convert("RGB")`, which the models were trained
//! with: alpha is dropped (not composited), a palette is looked up, grey is repeated, of 16-bit samples the upper 8
//! bits are kept. Of an animation the first frame is taken.

mod format;
mod jpeg;
mod limits;
mod png;

use std::io::{Cursor, Read};
use std::path::Path;

use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits, Pixel, RgbImage,
};

use crate::{ImageSize, VisionError};
pub(crate) use limits::MAX_LABEL_BYTES;
pub use limits::{DecodeLimits, MAX_PIXELS};

/// Reads an image file within [`MAX_PIXELS`].
///
/// # Errors
/// A file that is missing, empty, a folder, not an image, too large, damaged, or of a refused kind (CMYK,
/// floating-point samples).
///
/// ```
/// # fn main() -> Result<(), aff_vision::VisionError> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/grey16.png");
/// let image = aff_vision::open(path)?;
/// assert_eq!((image.width(), image.height()), (7, 5));
///
/// let error = aff_vision::open("no/such/photo.jpg").unwrap_err().to_string();
/// assert_eq!(error, "cannot read \"no/such/photo.jpg\": there is no such file; check the path");
/// # Ok(())
/// # }
/// ```
pub fn open(path: impl AsRef<Path>) -> Result<RgbImage, VisionError> {
    open_within(path, &DecodeLimits::default())
}

/// As [`open`], within other limits.
///
/// # Errors
/// The same.
pub fn open_within(path: impl AsRef<Path>, limits: &DecodeLimits) -> Result<RgbImage, VisionError> {
    let path = path.as_ref();
    let refuse =
        |reason: &str, source| VisionError::Read { path: path.to_owned(), reason: reason.to_owned(), source };
    let read_error = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse("there is no such file; check the path", Some(error)),
        _ => refuse(&error.to_string(), Some(error)),
    };
    let metadata = std::fs::metadata(path).map_err(read_error)?;
    if metadata.is_dir() {
        return Err(refuse("it is a folder; name an image file inside it", None));
    }
    if !metadata.is_file() {
        return Err(refuse("it is a device or a pipe; save the image to a file first", None));
    }
    let origin = format!("{path:?}");
    if metadata.len() > limits.file_bytes() {
        return Err(too_many_bytes(origin, metadata.len(), limits));
    }
    let file = std::fs::File::open(path).map_err(read_error)?;
    let bytes = read_bytes(file, &origin, limits, read_error)?;
    decode_from(&bytes, origin, limits)
}

/// Reads an image from a stream, such as standard input, which errors call `origin`. What is no image is refused by its first bytes, and
/// no more is read than an image within the limits may have: a stream may have no end.
///
/// # Errors
/// As for [`open`].
///
/// ```
/// use aff_vision::DecodeLimits;
///
/// let error = aff_vision::read_from(std::io::repeat(0), "standard input", &DecodeLimits::default());
/// assert!(error.unwrap_err().to_string().starts_with("standard input is not an image"));
/// ```
pub fn read_from(reader: impl Read, origin: &str, limits: &DecodeLimits) -> Result<RgbImage, VisionError> {
    let read_error = |error: std::io::Error| VisionError::Read {
        path: origin.into(),
        reason: error.to_string(),
        source: Some(error),
    };
    let bytes = read_bytes(reader, origin, limits, read_error)?;
    decode_from(&bytes, origin.to_owned(), limits)
}

/// Decodes an image that is in memory, within [`MAX_PIXELS`].
///
/// # Errors
/// As for [`open`], except those of the file itself.
///
/// ```
/// let error = aff_vision::decode(b"# A text").unwrap_err().to_string();
/// assert_eq!(
///     error,
///     "the given bytes is not an image: its first bytes are \"# A text\"; \
///      expected a JPEG, PNG, WebP, BMP or TIFF file",
/// );
/// ```
pub fn decode(bytes: &[u8]) -> Result<RgbImage, VisionError> {
    decode_within(bytes, &DecodeLimits::default())
}

/// As [`decode`], within other limits.
///
/// # Errors
/// The same.
///
/// ```
/// use aff_vision::{DecodeLimits, decode_within, write_png};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("small.png");
/// write_png(&path, &aff_vision::RgbImage::new(30, 20)).unwrap();
/// let bytes = std::fs::read(&path).unwrap();
/// let limits = DecodeLimits::default().with_max_pixels(599);
/// let error = decode_within(&bytes, &limits).unwrap_err().to_string();
/// assert!(error.contains("exceeds the limit of 599 pixels"), "{error}");
/// assert!(decode_within(&bytes, &limits.with_max_pixels(600)).is_ok());
/// ```
pub fn decode_within(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, VisionError> {
    decode_from(bytes, "the given bytes".to_owned(), limits)
}

/// The bytes of an image: only the first of what is none, and never many more than the limit.
fn read_bytes(
    mut reader: impl Read,
    origin: &str,
    limits: &DecodeLimits,
    read_error: impl Fn(std::io::Error) -> VisionError,
) -> Result<Vec<u8>, VisionError> {
    let mut bytes = Vec::new();
    reader.by_ref().take(format::HEAD_BYTES).read_to_end(&mut bytes).map_err(&read_error)?;
    format::recognise(&bytes, origin)?;
    reader.take(limits.file_bytes()).read_to_end(&mut bytes).map_err(&read_error)?;
    Ok(bytes)
}

fn too_many_bytes(origin: String, length: u64, limits: &DecodeLimits) -> VisionError {
    VisionError::TooLarge {
        origin,
        found: format!("an image of {length} bytes or more"),
        limit: format!("{} bytes, for {} pixels", limits.file_bytes(), limits.max_pixels),
    }
}

fn too_much_memory(origin: &str, limits: &DecodeLimits) -> VisionError {
    VisionError::TooLarge {
        origin: origin.to_owned(),
        found: "an image of this kind and size, by the memory that decoding it takes,".to_owned(),
        limit: format!("{} bytes, for {} pixels", limits.memory_bytes(), limits.max_pixels),
    }
}

fn damaged(origin: &str, format: &str, reason: &str) -> VisionError {
    VisionError::Damaged { origin: origin.to_owned(), format: format.to_owned(), reason: reason.to_owned() }
}

fn decode_from(bytes: &[u8], origin: String, limits: &DecodeLimits) -> Result<RgbImage, VisionError> {
    let format = format::recognise(bytes, &origin)?;
    if bytes.len() as u64 > limits.file_bytes() {
        return Err(too_many_bytes(origin, bytes.len() as u64, limits));
    }
    let (mut image, orientation) = match format {
        ImageFormat::Png => {
            let (image, orientation) = png::decode(bytes, &origin, limits)?;
            (DynamicImage::ImageRgb8(image), orientation)
        }
        _ => decode_whole(bytes, format, &origin, limits)?,
    };
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Decodes an image of a format whose decoder gives the whole picture at once. Its samples have 8 bits.
fn decode_whole(
    bytes: &[u8],
    format: ImageFormat,
    origin: &str,
    limits: &DecodeLimits,
) -> Result<(DynamicImage, Orientation), VisionError> {
    let translate = |error: ImageError| translate(error, format, origin, limits);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut of_decoder = Limits::no_limits();
    of_decoder.max_alloc = Some(limits.memory_bytes());
    reader.limits(of_decoder);
    let mut decoder = reader.into_decoder().map_err(translate)?;
    let (width, height) = decoder.dimensions();
    let size = ImageSize { height, width };
    let stored = u64::from(decoder.color_type().bytes_per_pixel());
    let bytes_per_pixel = match format {
        // The samples are copied once more.
        ImageFormat::Tiff => stored + stored.max(3),
        // A progressive file's coefficients, of 16 bits, are held until the last scan.
        ImageFormat::Jpeg => 3 * stored,
        _ => stored + 3,
    };
    check_size(size, bytes_per_pixel, &format!("{format:?}"), origin, limits)?;
    check_colour(decoder.original_color_type(), origin)?;
    if format == ImageFormat::Jpeg {
        jpeg::check(bytes, origin)?;
    }
    let orientation = decoder.orientation().map_err(translate)?;
    let image = DynamicImage::from_decoder(decoder).map_err(translate)?;
    Ok((DynamicImage::ImageRgb8(into_rgb8(image)), orientation))
}

/// Before anything is allocated for the pixels, each of which takes so many bytes.
fn check_size(
    size: ImageSize,
    bytes_per_pixel: u64,
    format: &str,
    origin: &str,
    limits: &DecodeLimits,
) -> Result<(), VisionError> {
    if size.area() > limits.max_pixels {
        return Err(VisionError::TooLarge {
            origin: origin.to_owned(),
            found: format!("an image of {size}"),
            limit: format!("{} pixels", limits.max_pixels),
        });
    }
    if size.area().saturating_mul(bytes_per_pixel) > limits.memory_bytes() {
        return Err(too_much_memory(origin, limits));
    }
    if size.is_empty() {
        return Err(damaged(origin, format, &format!("it is {size}, without a pixel")));
    }
    Ok(())
}

fn check_colour(colour: ExtendedColorType, origin: &str) -> Result<(), VisionError> {
    use ExtendedColorType as C;
    let what = match colour {
        C::Cmyk8 | C::Cmyk16 => "CMYK (printing colours)",
        C::Rgb32F | C::Rgba32F => "an image with floating-point samples",
        _ => return Ok(()),
    };
    Err(unsupported_colour(what, origin))
}

fn unsupported_colour(what: &str, origin: &str) -> VisionError {
    VisionError::Unsupported {
        origin: origin.to_owned(),
        what: what.to_owned(),
        remedy: "convert it to RGB with 8 or 16 bits a channel first".to_owned(),
    }
}

fn translate(error: ImageError, format: ImageFormat, origin: &str, limits: &DecodeLimits) -> VisionError {
    match error {
        ImageError::Limits(error) if matches!(error.kind(), LimitErrorKind::InsufficientMemory) => {
            too_much_memory(origin, limits)
        }
        ImageError::Unsupported(error) => VisionError::Unsupported {
            origin: origin.to_owned(),
            what: format!("this variant of {format:?} ({error})"),
            remedy: "convert it to a plain PNG or JPEG first".to_owned(),
        },
        other => damaged(origin, &format!("{format:?}"), &other.to_string()),
    }
}

/// As Pillow does it: alpha dropped, the upper byte of 16-bit samples.
fn into_rgb8(image: DynamicImage) -> RgbImage {
    fn upper<P: Pixel<Subpixel = u16>>(image: &image::ImageBuffer<P, Vec<u16>>) -> RgbImage {
        let mut rgb = RgbImage::new(image.width(), image.height());
        for (to, from) in rgb.pixels_mut().zip(image.pixels()) {
            to.0 = from.to_rgb().0.map(|sample| (sample >> 8) as u8);
        }
        rgb
    }
    match image {
        DynamicImage::ImageLuma16(image) => upper(&image),
        DynamicImage::ImageLumaA16(image) => upper(&image),
        DynamicImage::ImageRgb16(image) => upper(&image),
        DynamicImage::ImageRgba16(image) => upper(&image),
        other => other.into_rgb8(),
    }
}
