//! Height and width under one name, so that nobody has to remember which came first.

use std::fmt;

/// Height and width of an image in pixels.
///
/// ```
/// use aff_vision::ImageSize;
///
/// let size = ImageSize::new(427, 640);
/// assert_eq!(size.area(), 273_280);
/// assert_eq!(size.to_string(), "640 x 427 (width x height)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl ImageSize {
    /// A size of `height` rows and `width` columns.
    #[must_use]
    pub const fn new(height: u32, width: u32) -> Self {
        Self { height, width }
    }

    /// Size of a picture.
    #[must_use]
    pub fn of(image: &image::RgbImage) -> Self {
        Self::new(image.height(), image.width())
    }

    /// Number of pixels; cannot overflow.
    #[must_use]
    pub const fn area(self) -> u64 {
        self.height as u64 * self.width as u64
    }

    /// Whether there is no pixel.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.height == 0 || self.width == 0
    }

    /// Whether `other` fits inside, edges included.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        other.height <= self.height && other.width <= self.width
    }

    pub(crate) const fn rows(self) -> usize {
        self.height as usize
    }

    pub(crate) const fn columns(self) -> usize {
        self.width as usize
    }

    /// Number of pixels of a picture that is in memory, which therefore fits.
    pub(crate) const fn pixels(self) -> usize {
        self.rows() * self.columns()
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} (width x height)", self.width, self.height)
    }
}
