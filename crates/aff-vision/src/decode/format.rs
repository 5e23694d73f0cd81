//! Which format a file is of, by its first bytes.

use image::ImageFormat;

use crate::VisionError;

/// Bytes that are enough to recognise every format.
pub(super) const HEAD_BYTES: u64 = 64;

/// The format that the first bytes name, if it is read here.
pub(super) fn recognise(head: &[u8], origin: &str) -> Result<ImageFormat, VisionError> {
    let origin = origin.to_owned();
    if head.is_empty() {
        return Err(VisionError::NotAnImage { origin, found: "it is empty".to_owned() });
    }
    if let Some(what) = known_but_not_read(head) {
        let remedy = "save it as PNG or JPEG first".to_owned();
        return Err(VisionError::Unsupported { origin, what: what.to_owned(), remedy });
    }
    let Some(format) = image::guess_format(head).ok().filter(|&format| is_accepted(format)) else {
        return Err(VisionError::NotAnImage { origin, found: describe(head) });
    };
    if !format.reading_enabled() {
        let what = format!("{format:?} (this build leaves its decoder out)");
        let remedy = "build aff-vision with that format's feature".to_owned();
        return Err(VisionError::Unsupported { origin, what, remedy });
    }
    Ok(format)
}

fn is_accepted(format: ImageFormat) -> bool {
    use ImageFormat::{Bmp, Jpeg, Png, Tiff, WebP};
    matches!(format, Bmp | Jpeg | Png | Tiff | WebP)
}

/// Formats of photos that people have and that are not read.
fn known_but_not_read(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"GIF8") {
        return Some("GIF");
    }
    match head.get(4..12)?.strip_prefix(b"ftyp")? {
        b"avif" | b"avis" => Some("AVIF"),
        b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1" => Some("HEIC"),
        _ => None,
    }
}

/// The first bytes, readable where they are text.
fn describe(head: &[u8]) -> String {
    format!("its first bytes are \"{}\"", head[..head.len().min(16)].escape_ascii())
}
