//! Raster order: top to bottom, then left to right. The one tie-break of the crate.

use std::cmp::Ordering;

use crate::coordinate::widen;
use crate::{Coordinate, GeometryError};

/// Compares finite points by y, then x.
pub(crate) fn compare<T: Coordinate>(a: [T; 2], b: [T; 2]) -> Ordering {
    let ([ax, ay], [bx, by]) = (widen(a), widen(b));
    // Equal is unreachable for finite numbers that compare neither way, and 0.0 equals -0.0.
    ay.partial_cmp(&by).unwrap_or(Ordering::Equal).then(ax.partial_cmp(&bx).unwrap_or(Ordering::Equal))
}

/// The indices of finite points in raster order, equal points by index; `None` if that is the order they are in.
pub(crate) fn order<T: Coordinate>(points: &[[T; 2]]) -> Option<Vec<u32>> {
    if points.is_sorted_by(|&a, &b| compare(a, b) != Ordering::Greater) {
        return None;
    }
    let mut order: Vec<u32> = (0..points.len() as u32).collect();
    order.sort_by(|&a, &b| compare(points[a as usize], points[b as usize]));
    Some(order)
}

/// Refuses equal positions, given an order in which they are neighbours.
pub(crate) fn refuse_duplicates<T: Coordinate>(pos: &[[T; 2]], order: &[u32]) -> Result<(), GeometryError> {
    for pair in order.windows(2) {
        let (a, b) = (pair[0] as usize, pair[1] as usize);
        if compare(pos[a], pos[b]).is_eq() {
            let (first, second) = (a.min(b), a.max(b));
            return Err(GeometryError::DuplicatePosition { first, second, position: widen(pos[a]) });
        }
    }
    Ok(())
}
