//! How large an image may be that is decoded.

/// The most pixels an image may have unless other limits are given; more are refused before any pixel is decoded.
pub const MAX_PIXELS: u64 = 200_000_000;

/// The most bytes that the pixels of a label map may take as they are stored.
pub(crate) const MAX_LABEL_BYTES: u64 = 2 << 30;

/// Of a file, beside its pixels: colour profiles, previews, descriptions.
const METADATA_BYTES: u64 = 16 << 20;

/// How large an image may be that is decoded. The file and the memory that decoding takes are limited in proportion to its pixels.
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

    /// The most bytes of a file: 16-bit samples with alpha, not compressed, and what is written beside them.
    pub(super) fn file_bytes(self) -> u64 {
        self.max_pixels.saturating_mul(8).saturating_add(METADATA_BYTES)
    }

    /// The most bytes that decoding may take beside the file. Every kind of 8-bit image fits up to the last pixel; of some with 16 bits
    /// fewer pixels do.
    pub(super) fn memory_bytes(self) -> u64 {
        self.max_pixels.saturating_mul(12)
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: MAX_PIXELS }
    }
}
