//! What the network said about one image, checked once.

use crate::{ImageSize, VisionError};

/// The network's outputs for one image and the sizes that lead back to the source, not yet checked.
#[derive(Debug, Clone, Copy)]
pub struct PredictionParts<'a> {
    /// Class logits `[num_queries, num_classes + 1]`; the last class is "no object".
    pub class_logits: &'a [f32],
    /// Mask logits `[num_queries, canvas.height, canvas.width]`.
    pub mask_logits: &'a [f32],
    /// Number of queries.
    pub num_queries: usize,
    /// Number of classes, "no object" not counted.
    pub num_classes: usize,
    /// Size of a mask: the padded input at stride 4.
    pub canvas: ImageSize,
    /// Size of the network's input.
    pub padded: ImageSize,
    /// Size of the resized image at its top left, the rest being padding.
    pub content: ImageSize,
    /// Size of the image that came in, and of all results.
    pub source: ImageSize,
}

/// Checked network outputs for one image.
///
/// ```
/// use aff_vision::{ImageSize, Prediction, PredictionParts};
///
/// let parts = PredictionParts {
///     class_logits: &[2.0, 0.0, 0.0],
///     mask_logits: &[1.0, -1.0],
///     num_queries: 1,
///     num_classes: 2,
///     canvas: ImageSize::new(1, 2),
///     padded: ImageSize::new(4, 8),
///     content: ImageSize::new(4, 6),
///     source: ImageSize::new(10, 15),
/// };
/// assert!(Prediction::new(parts).is_ok());
/// let error = Prediction::new(PredictionParts { mask_logits: &[1.0], ..parts }).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`mask_logits` has 1 values; expected 2 (1 queries x canvas 2 x 1 (width x height))",
/// );
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Prediction<'a> {
    parts: PredictionParts<'a>,
}

impl<'a> Prediction<'a> {
    /// Checks lengths, sizes and that every number is finite.
    ///
    /// # Errors
    /// A slice of the wrong length, a NaN or infinity, an empty size, content that exceeds the padded input, or more
    /// than 65,535 classes.
    pub fn new(parts: PredictionParts<'a>) -> Result<Self, VisionError> {
        let sizes = [
            ("canvas", parts.canvas),
            ("padded", parts.padded),
            ("content", parts.content),
            ("source", parts.source),
        ];
        for (name, size) in sizes {
            if size.is_empty() || u32::try_from(size.area()).is_err() {
                return Err(VisionError::option(name, &size, format!("1 to {} pixels", u32::MAX)));
            }
        }
        if !parts.padded.contains(parts.content) {
            let expected = format!("at most the padded size, {}", parts.padded);
            return Err(VisionError::option("content", &parts.content, expected));
        }
        if parts.num_classes == 0 || parts.num_classes > usize::from(u16::MAX) {
            return Err(VisionError::option("num_classes", &parts.num_classes, "1 to 65535"));
        }
        let queries = parts.num_queries;
        check_values(
            "class_logits",
            parts.class_logits,
            queries as u64 * (parts.num_classes as u64 + 1),
            || format!("{queries} queries x ({} classes + no object)", parts.num_classes),
        )?;
        let values = (queries as u64).checked_mul(parts.canvas.area());
        check_values("mask_logits", parts.mask_logits, values.unwrap_or(u64::MAX), || {
            format!("{queries} queries x canvas {}", parts.canvas)
        })?;
        Ok(Self { parts })
    }

    /// The checked parts.
    #[must_use]
    pub fn parts(&self) -> &PredictionParts<'a> {
        &self.parts
    }

    pub(crate) fn num_classes(&self) -> usize {
        self.parts.num_classes
    }

    pub(crate) fn source(&self) -> ImageSize {
        self.parts.source
    }

    /// Mask logits of a query, `[canvas.height, canvas.width]`.
    pub(crate) fn mask(&self, query: usize) -> &'a [f32] {
        let length = self.parts.canvas.pixels();
        &self.parts.mask_logits[query * length..][..length]
    }

    /// Softmax over classes and "no object": `[num_queries][num_classes + 1]`.
    pub(crate) fn class_probabilities(&self) -> Vec<Vec<f32>> {
        self.parts.class_logits.chunks_exact(self.num_classes() + 1).map(softmax).collect()
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|exponential| (exponential / sum) as f32).collect()
}

fn check_values(
    name: &'static str,
    values: &[f32],
    expected: u64,
    shape: impl Fn() -> String,
) -> Result<(), VisionError> {
    if values.len() as u64 != expected {
        return Err(VisionError::Length { name, found: values.len(), expected, shape: shape() });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(VisionError::NotFinite { name, index, value: values[index] }),
        None => Ok(()),
    }
}
