//! Masks of several queries at a band of rows of the output.

use std::ops::Range;

use super::axis::{Axis, combine};
use super::prediction::Prediction;

/// How a mask on the canvas becomes one of another size.
#[derive(Debug, Clone)]
pub(super) struct Upsampling {
    pub(super) rows: Axis,
    pub(super) columns: Axis,
}

impl Upsampling {
    /// To the padded input, cropped to the content, resized to the source.
    pub(super) fn to_source(prediction: &Prediction<'_>) -> Self {
        let parts = prediction.parts();
        let axis = |of: fn(crate::ImageSize) -> u32| {
            Axis::composed(of(parts.canvas), of(parts.padded), of(parts.content), of(parts.source))
        };
        Self { rows: axis(|size| size.height), columns: axis(|size| size.width) }
    }

    /// To the padded input, cropped to the content.
    pub(super) fn to_content(prediction: &Prediction<'_>) -> Self {
        let parts = prediction.parts();
        let axis = |of: fn(crate::ImageSize) -> u32| {
            Axis::bilinear(of(parts.canvas), of(parts.padded), of(parts.content))
        };
        Self { rows: axis(|size| size.height), columns: axis(|size| size.width) }
    }

    /// Rows of a band so that it depends on about eight rows of the canvas: few enough to fit into a cache, enough
    /// that the rows that neighbouring bands share do not matter.
    pub(super) fn band_rows(&self, canvas_rows: usize) -> usize {
        (8 * self.rows.len()).div_ceil(canvas_rows).clamp(1, 256)
    }
}

/// Mask logits of some queries, stretched to the output's width, for the canvas rows that a band depends on.
pub(super) struct Band<'a> {
    upsampling: &'a Upsampling,
    canvas_rows: Range<usize>,
    /// `[queries, canvas_rows, width]`
    stretched: Vec<f32>,
}

impl<'a> Band<'a> {
    /// Prepares the output rows `rows` for the given queries.
    pub(super) fn new(
        prediction: &Prediction<'_>,
        upsampling: &'a Upsampling,
        queries: &[usize],
        rows: Range<usize>,
    ) -> Self {
        let (canvas_width, width) = (prediction.parts().canvas.columns(), upsampling.columns.len());
        let canvas_rows = upsampling.rows.inputs(rows);
        let mut stretched = vec![0.0; queries.len() * canvas_rows.len() * width];
        for (lines, &query) in stretched.chunks_exact_mut(canvas_rows.len() * width).zip(queries) {
            let mask = &prediction.mask(query)[canvas_rows.start * canvas_width..];
            for (line, row) in lines.chunks_exact_mut(width).zip(mask.chunks_exact(canvas_width)) {
                upsampling.columns.stretch(row, line);
            }
        }
        Self { upsampling, canvas_rows, stretched }
    }

    /// Logits of the query at place `slot` in the given list, at columns `columns` of output row `row`.
    pub(super) fn logits(&self, slot: usize, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let width = self.upsampling.columns.len();
        let lines = &self.stretched[slot * self.canvas_rows.len() * width..];
        let taps = self.upsampling.rows.taps(row).iter();
        let rows = taps.map(|(index, weight)| {
            let line = &lines[(index - self.canvas_rows.start) * width..][..width];
            (&line[columns.clone()], weight)
        });
        combine(rows, out);
    }
}
