//! What no metric can judge.

/// Why an image could not be counted. The metric is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// An image was given twice.
    #[error("image {image_id} was counted already; expected each image once")]
    RepeatedImage {
        /// Number of the image.
        image_id: u64,
    },
    /// An object is none.
    #[error("{list} {index}: {problem}")]
    Object {
        /// `truth` or `prediction`.
        list: &'static str,
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it and what was expected.
        problem: String,
    },
    /// Two maps of an image differ in size.
    #[error("the prediction has {found} pixels; expected the {expected} of the truth")]
    Pixels {
        /// Pixels of the prediction.
        found: usize,
        /// Pixels of the truth.
        expected: usize,
    },
}
