//! The number types a position may be made of.

use crate::GeometryError;

/// A coordinate: `i32`, `u32`, `f32` or `f64`. Positions are `[T; 2]`, x first.
///
/// Every such number is exact in `f64`, in which all distances are computed, so integer positions and the same positions
/// as floats give the same results. The trait is sealed.
pub trait Coordinate: Copy + Send + Sync + sealed::Sealed {
    /// The same number.
    fn to_f64(self) -> f64;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! coordinate {
    ($($number:ty),*) => {$(
        impl sealed::Sealed for $number {}

        impl Coordinate for $number {
            #[inline]
            fn to_f64(self) -> f64 {
                self.into()
            }
        }
    )*};
}

coordinate!(i32, u32, f32, f64);

/// A position as `f64`.
#[inline]
pub(crate) fn widen<T: Coordinate>([x, y]: [T; 2]) -> [f64; 2] {
    [x.to_f64(), y.to_f64()]
}

/// Refuses more points than `u32` can number.
pub(crate) fn check_count(found: usize) -> Result<(), GeometryError> {
    if u32::try_from(found).is_err() {
        return Err(GeometryError::TooManyPoints { found });
    }
    Ok(())
}

/// Refuses NaN and infinities, the first of them by index.
pub(crate) fn check_finite<T: Coordinate>(points: &[[T; 2]]) -> Result<(), GeometryError> {
    for (index, &point) in points.iter().enumerate() {
        let position = widen(point);
        if !(position[0].is_finite() && position[1].is_finite()) {
            return Err(GeometryError::NotFinite { index, position });
        }
    }
    Ok(())
}
