//! Settings that segmenters and detectors have in common.

use aff_vision::{PreprocessorConfig, ResizeTarget};

use crate::Error;

/// A number that is a probability.
pub(crate) fn probability(name: &'static str, value: f32) -> Result<f32, Error> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(Error::not_a_probability(name, value)) }
}

/// Indices of classes by name; neither letter case nor spaces around a name count.
pub(crate) fn class_indices(labels: &[String], names: &[impl AsRef<str>]) -> Result<Vec<u32>, Error> {
    let index = |name: &str| {
        let found = labels.iter().position(|label| label.trim().eq_ignore_ascii_case(name.trim()));
        found
            .map(|class| class as u32)
            .ok_or_else(|| Error::UnknownClass { name: name.to_owned(), known: labels.to_vec() })
    };
    names.iter().map(|name| index(name.as_ref())).collect()
}

/// The same with another shortest edge; the longest edge allowed grows in proportion.
pub(crate) fn with_shortest_edge(
    preprocessor: &PreprocessorConfig,
    pixels: u32,
) -> Result<PreprocessorConfig, Error> {
    let size = preprocessor.size;
    let longest = |edge: u32| {
        let scaled = u64::from(edge) * u64::from(pixels) / u64::from(size.shortest_edge.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX).max(pixels)
    };
    let longest_edge = size.longest_edge.map(longest);
    with_image_size(preprocessor, ResizeTarget { shortest_edge: pixels, longest_edge })
}

/// The same with another size.
pub(crate) fn with_image_size(
    preprocessor: &PreprocessorConfig,
    size: ResizeTarget,
) -> Result<PreprocessorConfig, Error> {
    let preprocessor = PreprocessorConfig { do_resize: true, size, ..preprocessor.clone() };
    preprocessor.validate()?;
    Ok(preprocessor)
}
