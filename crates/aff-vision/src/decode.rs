//! Files and bytes to 8-bit RGB pictures, the right way up.
//!
//! The pixels are those of Pillow's `ImageOps.exif_transpose(image).convert("RGB")`, which the models were trained
//! with: alpha is dropped (not composited), a palette is looked up, grey is repeated, of 16-bit samples the upper 8
//! bits are kept. Of an animation the first frame is taken.

use std::io::Cursor;
use std::path::Path;

use image::error::{ImageError, LimitErrorKind};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits, Pixel, RgbImage,
};

use crate::{ImageSize, VisionError};

/// The most pixels an image may have unless other limits are given; more are refused before any pixel is decoded.
pub const MAX_PIXELS: u64 = 200_000_000;

/// The most bytes a decoder may allocate, or a file may have: 200 megapixels of 16-bit RGBA fit.
pub const MAX_BYTES: u64 = 2 << 30;

/// How large an image may be that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// The most pixels it may have; [`MAX_PIXELS`] unless set.
    pub max_pixels: u64,
}

impl DecodeLimits {
    /// With another limit on the pixels.
    #[must_use]
    pub fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels }
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: MAX_PIXELS }
    }
}

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
    if metadata.len() > MAX_BYTES {
        return Err(too_many_bytes(origin, metadata.len()));
    }
    let bytes = std::fs::read(path).map_err(read_error)?;
    decode_from(&bytes, origin, limits)
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

fn too_many_bytes(origin: String, length: u64) -> VisionError {
    VisionError::TooLarge {
        origin,
        found: format!("a file of {length} bytes"),
        limit: format!("{MAX_BYTES} bytes"),
    }
}

fn decode_from(bytes: &[u8], origin: String, limits: &DecodeLimits) -> Result<RgbImage, VisionError> {
    if bytes.is_empty() {
        return Err(VisionError::NotAnImage { origin, found: "it is empty".to_owned() });
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_many_bytes(origin, bytes.len() as u64));
    }
    let Some(format) = image::guess_format(bytes).ok().filter(|&format| is_accepted(format)) else {
        return Err(VisionError::NotAnImage { origin, found: describe_start(bytes) });
    };
    if !format.reading_enabled() {
        return Err(VisionError::Unsupported {
            origin,
            what: format!("{format:?} (this build leaves its decoder out)"),
            remedy: "build aff-vision with that format's feature".to_owned(),
        });
    }
    if format == ImageFormat::Jpeg {
        check_jpeg(bytes, &origin)?;
    }
    let translate = |error: ImageError| translate(error, format, &origin);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut of_decoder = Limits::no_limits();
    of_decoder.max_alloc = Some(MAX_BYTES);
    reader.limits(of_decoder);
    let mut decoder = reader.into_decoder().map_err(translate)?;
    let (width, height) = decoder.dimensions();
    let size = ImageSize { height, width };
    if size.area() > limits.max_pixels {
        return Err(VisionError::TooLarge {
            origin,
            found: format!("an image of {size}"),
            limit: format!("{} pixels", limits.max_pixels),
        });
    }
    if size.is_empty() {
        return Err(VisionError::Damaged {
            origin,
            format: format!("{format:?}"),
            reason: format!("it is {size}, without a pixel"),
        });
    }
    check_colour(decoder.original_color_type(), &origin)?;
    let orientation = decoder.orientation().map_err(translate)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(translate)?;
    image.apply_orientation(orientation);
    Ok(into_rgb8(image))
}

fn is_accepted(format: ImageFormat) -> bool {
    use ImageFormat::{Bmp, Jpeg, Png, Tiff, WebP};
    matches!(format, Bmp | Jpeg | Png | Tiff | WebP)
}

/// The first bytes, readable where they are text.
fn describe_start(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(16)];
    format!("its first bytes are \"{}\"", start.escape_ascii())
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

/// What the JPEG decoder would let pass: it turns CMYK to RGB without its colour profile, which is far off, and fills
/// the missing part of a truncated picture with grey.
fn check_jpeg(bytes: &[u8], origin: &str) -> Result<(), VisionError> {
    let truncated = || VisionError::Damaged {
        origin: origin.to_owned(),
        format: "Jpeg".to_owned(),
        reason: "the file ends before the picture does".to_owned(),
    };
    let mut at = 2;
    loop {
        // A marker may be preceded by any number of fill bytes 0xFF. Anything else here is for the decoder to judge.
        let Some(&byte) = bytes.get(at) else { return Err(truncated()) };
        if byte != 0xFF {
            return Ok(());
        }
        let Some(&marker) = bytes.get(at + 1) else { return Err(truncated()) };
        match marker {
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            // Start of scan: compressed data has 0x00 or a restart marker after each 0xFF, so that this pair can
            // only be the end of the image.
            0xDA if !bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9]) => return Err(truncated()),
            0xDA => return Ok(()),
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return Err(truncated()) };
                let is_frame = matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC);
                if is_frame && bytes.get(at + 9) == Some(&4) {
                    return Err(unsupported_colour("CMYK (printing colours)", origin));
                }
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

fn translate(error: ImageError, format: ImageFormat, origin: &str) -> VisionError {
    let origin = origin.to_owned();
    match error {
        ImageError::Limits(error) => VisionError::TooLarge {
            origin,
            found: match error.kind() {
                LimitErrorKind::InsufficientMemory => "the memory that decoding it takes".to_owned(),
                _ => "its size".to_owned(),
            },
            limit: format!("{MAX_PIXELS} pixels and {MAX_BYTES} bytes"),
        },
        ImageError::Unsupported(error) => VisionError::Unsupported {
            origin,
            what: format!("this variant of {format:?} ({error})"),
            remedy: "convert it to a plain PNG or JPEG first".to_owned(),
        },
        other => VisionError::Damaged { origin, format: format!("{format:?}"), reason: other.to_string() },
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
