//! Boxes of objects (section 13 of the method).

use crate::{ImageSize, VisionError};

/// A detector's outputs for one image and the sizes that lead back to the source.
#[derive(Debug, Clone, Copy)]
pub struct BoxParts<'a> {
    /// Class logits `[queries, num_classes]`, each to be taken through a sigmoid.
    pub class_logits: &'a [f32],
    /// Boxes `[queries, 4]`: (centre x, centre y, width, height) in fractions of the network's input.
    pub boxes: &'a [f32],
    /// Number of classes.
    pub num_classes: usize,
    /// Size of the network's input.
    pub padded: ImageSize,
    /// Size of the resized image at its top left, the rest being padding.
    pub content: ImageSize,
    /// Size of the image that came in, and of all results.
    pub source: ImageSize,
}

/// Which boxes are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionOptions {
    /// The most of an image.
    pub max_detections: usize,
    /// Least score.
    pub threshold: f32,
    /// The classes that are looked for; all without them.
    pub classes: Option<Vec<u32>>,
}

impl Default for DetectionOptions {
    fn default() -> Self {
        Self { max_detections: 100, threshold: 0.0, classes: None }
    }
}

/// An object that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectedBox {
    /// Its class.
    pub label_id: u32,
    /// The sigmoid of the class's logit.
    pub score: f32,
    /// The query that found it; it may have found objects of other classes, too.
    pub query: usize,
    /// Left, top, width, height in pixels of the source, within it.
    pub bbox: [f32; 4],
}

/// The objects of an image, best first: of all queries and classes those of the greatest scores, of equal ones the first query's, then the
/// lowest class. What is not a number is left out.
///
/// # Errors
/// If numbers of values do not fit each other.
///
/// ```
/// use aff_vision::{BoxParts, DetectionOptions, ImageSize, detections};
///
/// let parts = BoxParts {
///     class_logits: &[0.0, -3.0],
///     boxes: &[0.25, 0.5, 0.5, 0.25],
///     num_classes: 2,
///     padded: ImageSize::new(64, 64),
///     content: ImageSize::new(48, 64),
///     source: ImageSize::new(96, 128),
/// };
/// let found = detections(&parts, &DetectionOptions { threshold: 0.3, ..DetectionOptions::default() })?;
/// assert_eq!((found.len(), found[0].label_id, found[0].score), (1, 0, 0.5));
/// assert_eq!(found[0].bbox, [0.0, 48.0, 64.0, 32.0]);
/// # Ok::<(), aff_vision::VisionError>(())
/// ```
pub fn detections(parts: &BoxParts<'_>, options: &DetectionOptions) -> Result<Vec<DetectedBox>, VisionError> {
    let BoxParts { class_logits, boxes, num_classes, .. } = *parts;
    let queries = boxes.len() / 4;
    if boxes.len() != 4 * queries || class_logits.len() != queries * num_classes {
        let found = format!("{} logits and {} numbers of boxes", class_logits.len(), boxes.len());
        return Err(VisionError::option("boxes", &found, "a logit a class and four numbers for each query"));
    }
    let is_wanted = |class: usize| {
        options.classes.as_ref().is_none_or(|classes| classes.iter().any(|&wanted| wanted as usize == class))
    };
    let is_number = |place: usize| {
        let query = place / num_classes;
        class_logits[place].is_finite() && boxes[4 * query..][..4].iter().all(|value| value.is_finite())
    };
    let mut places: Vec<usize> =
        (0..class_logits.len()).filter(|&place| is_wanted(place % num_classes) && is_number(place)).collect();
    // Stable, so that ties stay in order.
    places.sort_by(|&a, &b| class_logits[b].total_cmp(&class_logits[a]));
    let found = places.into_iter().take(options.max_detections).map(|place| {
        let query = place / num_classes;
        DetectedBox {
            label_id: (place % num_classes) as u32,
            score: 1.0 / (1.0 + (-class_logits[place]).exp()),
            query,
            bbox: in_source(parts, query),
        }
    });
    Ok(found.filter(|object| object.score >= options.threshold).collect())
}

/// Left, top, width, height in pixels of the source, cut at its edges.
fn in_source(parts: &BoxParts<'_>, query: usize) -> [f32; 4] {
    let [x, y, width, height] = std::array::from_fn(|side| f64::from(parts.boxes[4 * query + side]));
    let span = |center: f64, length: f64, [padded, content, source]: [u32; 3]| {
        let scale = f64::from(padded) * f64::from(source) / f64::from(content.max(1));
        let at = |fraction: f64| (fraction * scale).clamp(0.0, f64::from(source));
        let start = at(center - length / 2.0);
        (start as f32, (at(center + length / 2.0) - start).max(0.0) as f32)
    };
    let BoxParts { padded, content, source, .. } = parts;
    let (left, width) = span(x, width, [padded.width, content.width, source.width]);
    let (top, height) = span(y, height, [padded.height, content.height, source.height]);
    [left, top, width, height]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ImageSize = ImageSize::new(10, 10);

    fn found(class_logits: &[f32], boxes: &[f32], options: &DetectionOptions) -> Vec<DetectedBox> {
        let parts =
            BoxParts { class_logits, boxes, num_classes: 2, padded: SIZE, content: SIZE, source: SIZE };
        detections(&parts, options).unwrap()
    }

    #[test]
    fn the_greatest_scores_over_queries_and_classes_are_taken() {
        let boxes = [[0.5, 0.5, 0.2, 0.2], [0.95, 0.0, 0.3, 0.4]].concat();
        let logits = [1.0, 2.0, 2.0, -9.0];
        let places = |options: &DetectionOptions| -> Vec<(usize, u32)> {
            found(&logits, &boxes, options).iter().map(|object| (object.query, object.label_id)).collect()
        };
        let all = DetectionOptions::default();
        assert_eq!(places(&all), [(0, 1), (1, 0), (0, 0), (1, 1)]);
        assert_eq!(places(&DetectionOptions { max_detections: 2, ..all.clone() }), [(0, 1), (1, 0)]);
        assert_eq!(places(&DetectionOptions { threshold: 0.6, ..all.clone() }), [(0, 1), (1, 0), (0, 0)]);
        let one_class = DetectionOptions { classes: Some(vec![1]), max_detections: 1, ..all.clone() };
        assert_eq!(places(&one_class), [(0, 1)]);
        // Cut at the edges.
        let bbox = found(&logits, &boxes, &all)[1].bbox;
        assert!(bbox.iter().zip([8.0, 0.0, 2.0, 2.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{bbox:?}");
    }

    #[test]
    fn what_is_not_a_number_is_left_out_and_wrong_sizes_are_refused() {
        let boxes = [[f32::NAN, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]].concat();
        let all = found(&[1.0, 2.0, f32::NAN, 0.0], &boxes, &DetectionOptions::default());
        assert_eq!(all.iter().map(|object| (object.query, object.label_id)).collect::<Vec<_>>(), [(1, 1)]);
        let parts = BoxParts {
            class_logits: &[0.0; 3],
            boxes: &boxes,
            num_classes: 2,
            padded: SIZE,
            content: SIZE,
            source: SIZE,
        };
        assert!(detections(&parts, &DetectionOptions::default()).is_err());
    }
}
