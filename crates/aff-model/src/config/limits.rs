//! The most that a configuration may ask for.
//!
//! A `config.json` comes from anywhere, and a few bytes of it could ask for more layers or wider tensors than memory holds. The
//! limits are far above every published model and every sensible one; what is beyond them is an error that names the key.

use super::ConfigError;

/// Blocks of a stage, layers of an encoder or decoder.
pub(super) const LAYERS: usize = 256;
/// Channels of tokens, queries, masks and assignments.
pub(super) const WIDTH: usize = 8192;
/// Hidden channels of an MLP or feed-forward block.
pub(super) const HIDDEN_WIDTH: usize = 65_536;
/// Attention heads.
pub(super) const HEADS: usize = 512;
/// Object queries; each attends to all others.
pub(super) const QUERIES: usize = 4096;
/// Sampled points of a head in a level.
pub(super) const POINTS: usize = 64;
/// Classes: label maps hold 16 bits, of which one value means "none".
pub(super) const CLASSES: usize = 65_535;
/// Tokens of a cluster: those of an image of 256 x 256 pixels in its first stage.
pub(super) const CLUSTER: usize = 4096;
/// Tokens of a neighbourhood: those of an image of 1024 x 1024 pixels in its first stage.
pub(super) const NEIGHBORHOOD: usize = 65_536;
/// Coarse tokens that a fine one is assigned to.
pub(super) const ASSIGNMENTS: usize = 256;
/// Segments of an image.
pub(super) const SEGMENTS: usize = 65_536;

/// Refuses 0 and what is above the limit.
pub(super) fn count(field: impl Into<String>, value: usize, most: usize) -> Result<(), ConfigError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(field, format!("1 to {most}"), value))
}

/// Refuses what is outside `low` to `high`, and what is no number.
pub(super) fn number(field: impl Into<String>, value: f64, [low, high]: [f64; 2]) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(field, format!("{low} to {high}"), value))
}

/// Refuses heads that do not divide the width.
pub(super) fn heads(
    field: impl Into<String>,
    heads: usize,
    (width_field, width): (&str, usize),
) -> Result<(), ConfigError> {
    let field = field.into();
    count(field.as_str(), heads, HEADS)?;
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(ConfigError::value(field, format!("a divisor of {width_field} = {width}"), heads))
}
