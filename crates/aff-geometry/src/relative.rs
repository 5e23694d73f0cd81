//! What a network sees of the way from one point to another.

/// The features phi of an offset: `[dx, dy, d, dy / d, dx / d]` with the distance `d`; the ratios are zero at `d = 0`.
///
/// The sine comes before the cosine: checkpoints rely on it. Works for offsets of any size.
///
/// ```
/// use aff_geometry::relative_features;
///
/// assert_eq!(relative_features(3.0, 4.0), [3.0, 4.0, 5.0, 0.8, 0.6]);
/// assert_eq!(relative_features(0.0, 0.0), [0.0; 5]);
/// ```
#[inline]
pub fn relative_features(dx: f64, dy: f64) -> [f64; 5] {
    let d = (dx * dx + dy * dy).sqrt();
    if d == 0.0 { [dx, dy, 0.0, 0.0, 0.0] } else { [dx, dy, d, dy / d, dx / d] }
}
