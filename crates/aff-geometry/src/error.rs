//! What can be wrong with the input.

use std::fmt;

use crate::Canvas;

/// Why an input was refused. Every message names the thing, what was expected and what was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GeometryError {
    /// A canvas must be at least one unit wide and high.
    EmptyCanvas {
        /// Width that was asked for.
        width: u32,
        /// Height that was asked for.
        height: u32,
    },
    /// A grid of cells must have at least one column and one row.
    EmptyGrid {
        /// Columns that were asked for.
        cols: u32,
        /// Rows that were asked for.
        rows: u32,
    },
    /// Clusters must have at least one member.
    ZeroClusterSize,
    /// Tokens are numbered with `u32`, which bounds how many there can be.
    TooManyPoints {
        /// Number of points given.
        found: usize,
    },
    /// A coordinate is NaN or infinite.
    NotFinite {
        /// Index of the point in its slice.
        index: usize,
        /// The point, `[x, y]`.
        position: [f64; 2],
    },
    /// A position lies outside `0 <= x < width`, `0 <= y < height`.
    OutsideCanvas {
        /// Index of the point in its slice.
        index: usize,
        /// The point, `[x, y]`.
        position: [f64; 2],
        /// The canvas it should lie on.
        canvas: Canvas,
    },
    /// Two tokens have the same position.
    DuplicatePosition {
        /// The lower of the two indices.
        first: usize,
        /// The higher of the two indices.
        second: usize,
        /// The position they share, `[x, y]`.
        position: [f64; 2],
    },
    /// The positions are not the ones that were clustered: their number differs.
    TokenCount {
        /// Number of tokens that were clustered.
        expected: usize,
        /// Number of positions given.
        found: usize,
    },
    /// A batch of positions and a batch of clusters have different lengths.
    BatchLength {
        /// Number of images, by their positions.
        expected: usize,
        /// Number of clusterings given.
        found: usize,
    },
    /// There must be one score a token.
    ScoreCount {
        /// Number of tokens.
        expected: usize,
        /// Number of scores given.
        found: usize,
    },
    /// A score is NaN or infinite.
    ScoreNotFinite {
        /// Index of the token.
        index: usize,
        /// Its score.
        score: f32,
    },
    /// The stride of a selection must be at least one, and twice the stride must fit `u32`.
    InvalidStride {
        /// The stride given.
        found: u32,
    },
    /// The rate of a selection must lie in `0..=1`.
    InvalidRate {
        /// The rate given.
        found: f64,
    },
    /// The weight of the scores must be finite.
    InvalidAlpha {
        /// The weight given.
        found: f64,
    },
    /// One image of a batch was refused.
    InImage {
        /// Index of the image; the lowest one if several were refused.
        image: usize,
        /// Why it was refused.
        source: Box<GeometryError>,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyCanvas { width, height } => {
                write!(f, "canvas: expected width and height of at least 1, found {width} x {height}")
            }
            Self::EmptyGrid { cols, rows } => {
                write!(f, "cell grid: expected at least 1 column and 1 row, found {cols} x {rows}")
            }
            Self::ZeroClusterSize => write!(f, "cluster size: expected at least 1, found 0"),
            Self::TooManyPoints { found } => {
                write!(f, "points: expected at most {} of them, found {found}", u32::MAX)
            }
            Self::NotFinite { index, position: [x, y] } => {
                write!(f, "position {index}: expected finite coordinates, found ({x}, {y})")
            }
            Self::OutsideCanvas { index, position: [x, y], canvas } => {
                let (width, height) = (canvas.width(), canvas.height());
                write!(
                    f,
                    "position {index}: expected 0 <= x < {width} and 0 <= y < {height}, found ({x}, {y})"
                )
            }
            Self::DuplicatePosition { first, second, position: [x, y] } => {
                write!(f, "positions: expected no two alike, found ({x}, {y}) at {first} and at {second}")
            }
            Self::TokenCount { expected, found } => {
                write!(f, "positions: expected the {expected} that were clustered, found {found}")
            }
            Self::BatchLength { expected, found } => {
                write!(f, "batch: expected clusters of {expected} images, found {found}")
            }
            Self::ScoreCount { expected, found } => {
                write!(f, "scores: expected one for each of {expected} tokens, found {found}")
            }
            Self::ScoreNotFinite { index, score } => {
                write!(f, "score {index}: expected a finite number, found {score}")
            }
            Self::InvalidStride { found } => {
                write!(f, "stride: expected 1 to {}, found {found}", u32::MAX / 2)
            }
            Self::InvalidRate { found } => write!(f, "rate: expected 0 to 1, found {found}"),
            Self::InvalidAlpha { found } => write!(f, "alpha: expected a finite number, found {found}"),
            Self::InImage { image, source } => write!(f, "image {image} of the batch: {source}"),
        }
    }
}

impl std::error::Error for GeometryError {}
