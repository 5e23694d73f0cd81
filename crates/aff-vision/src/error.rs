//! Everything that can go wrong here, each with what was found, what was expected and what to do.

use std::io;
use std::path::PathBuf;

use crate::ImageSize;

/// An image, a configuration, network outputs or a file that this crate cannot work with.
///
/// Paths are written in quotes with control characters escaped, so that a hostile file name stays on one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VisionError {
    /// A file cannot be read: it is missing, a folder, or access is refused.
    #[error("cannot read {path:?}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is the matter, and what to do.
        reason: String,
        /// What the system said, where it said anything.
        #[source]
        source: Option<io::Error>,
    },
    /// The bytes are not of an image format that is known here.
    #[error("{origin} is not an image: {found}; expected a JPEG, PNG, WebP, BMP or TIFF file")]
    NotAnImage {
        /// Where the bytes came from.
        origin: String,
        /// What the bytes are.
        found: String,
    },
    /// An image of a kind that is refused, such as CMYK.
    #[error("{origin}: {what} is not supported; {remedy}")]
    Unsupported {
        /// Where the bytes came from.
        origin: String,
        /// The kind.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// More pixels or bytes than the limits allow; the pixels were not decoded.
    #[error("{origin}: {found} exceeds the limit of {limit}; scale it down first")]
    TooLarge {
        /// Where it came from.
        origin: String,
        /// What it has.
        found: String,
        /// The most that is accepted.
        limit: String,
    },
    /// The image is damaged or ends early.
    #[error("{origin}: damaged {format} image: {reason}; get the file again from where it came")]
    Damaged {
        /// Where the bytes came from.
        origin: String,
        /// Its format.
        format: String,
        /// What the decoder said.
        reason: String,
    },
    /// A field of `preprocessor_config.json`, or an option, has a value that makes no sense.
    #[error("`{name}` is {found}; expected {expected}")]
    Option {
        /// The field or option.
        name: &'static str,
        /// Its value.
        found: String,
        /// Values that would do.
        expected: String,
    },
    /// A slice has not the length that the sizes given with it imply.
    #[error("`{name}` has {found} values; expected {expected} ({shape})")]
    Length {
        /// The slice.
        name: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: u64,
        /// How that length comes about.
        shape: String,
    },
    /// A network output is NaN or infinite.
    #[error(
        "`{name}`[{index}] is {value}; expected finite numbers (were the weights loaded, and in a wide enough type?)"
    )]
    NotFinite {
        /// The slice.
        name: &'static str,
        /// The first such place.
        index: usize,
        /// What is there.
        value: f32,
    },
    /// Two things that belong together differ in size.
    #[error("{what} is {found}; expected {expected}")]
    Size {
        /// What has the wrong size.
        what: &'static str,
        /// Its size.
        found: ImageSize,
        /// The size it should have.
        expected: ImageSize,
    },
    /// Run lengths that describe no mask of the given size.
    #[error("run lengths of a mask of {size}: {reason}")]
    RunLengths {
        /// Size of the mask.
        size: ImageSize,
        /// What is wrong with them.
        reason: String,
    },
    /// A file cannot be written. Nothing was left behind, and a file that was there before is untouched.
    #[error("cannot write {path:?}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        reason: String,
        /// What the system said, where it said anything.
        #[source]
        source: Option<io::Error>,
    },
}

impl VisionError {
    pub(crate) fn option(name: &'static str, found: &dyn ToString, expected: impl Into<String>) -> Self {
        Self::Option { name, found: found.to_string(), expected: expected.into() }
    }
}
