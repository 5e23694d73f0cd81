//! Polygons to masks, pixel for pixel as COCO's tool fills them.
//!
//! The outline is drawn on a grid five times as fine. Wherever it steps from one fine column to the next in the middle of a pixel's column, the
//! pixel's row there is where the mask changes sides; the sorted crossings are the run lengths.

use super::Rle;
use crate::{ImageSize, VisionError};

/// Fine columns and rows in a pixel.
const FINE: i64 = 5;

impl Rle {
    /// The mask of polygons, each given as `x, y, x, y, ...` in pixels (0 is the left edge of the first pixel). A pixel is inside if it is inside
    /// one of them; a polygon that crosses itself is inside where its outline goes round an odd number of times.
    ///
    /// # Errors
    /// [`VisionError::RunLengths`] for a polygon of fewer than three corners or with half a corner, and for a coordinate that is not a number
    /// or farther outside than the picture is large.
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let square = vec![1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0];
    /// let mask = Rle::from_polygons(ImageSize::new(4, 5), &[square])?;
    /// assert_eq!((mask.area(), mask.bbox()), (4, [1, 1, 2, 2]));
    /// # Ok::<(), aff_vision::VisionError>(())
    /// ```
    pub fn from_polygons(size: ImageSize, polygons: &[Vec<f64>]) -> Result<Self, VisionError> {
        super::check_size(size)?;
        let outside = Self::from_counts(size, &[size.area() as u32])?;
        polygons.iter().enumerate().try_fold(outside, |mask, (index, polygon)| {
            let refuse = |problem: String| VisionError::RunLengths {
                size,
                reason: format!("polygon {index} {problem}"),
            };
            mask.union(&fill(size, &corners(size, polygon).map_err(refuse)?)?)
        })
    }
}

/// The corners on the fine grid.
fn corners(size: ImageSize, polygon: &[f64]) -> Result<Vec<[i64; 2]>, String> {
    if polygon.len() < 6 || polygon.len() % 2 == 1 {
        return Err(format!(
            "has {} numbers; expected an even number from 6 on, x and y of each corner",
            polygon.len()
        ));
    }
    let reach = f64::from(size.width.max(size.height));
    if let Some(value) = polygon.iter().find(|value| !(-reach..=2.0 * reach).contains(*value)) {
        return Err(format!("has the coordinate {value}; expected one from {} to {}", -reach, 2.0 * reach));
    }
    // Cut off, not rounded: below 0 that is towards 0.
    let fine = |value: f64| (FINE as f64 * value + 0.5) as i64;
    Ok(polygon.chunks_exact(2).map(|corner| [fine(corner[0]), fine(corner[1])]).collect())
}

fn fill(size: ImageSize, corners: &[[i64; 2]]) -> Result<Rle, VisionError> {
    let mut crossings = Vec::new();
    let mut before = None;
    for (index, &corner) in corners.iter().enumerate() {
        for_each_step(corner, corners[(index + 1) % corners.len()], |x, y| {
            if let Some([x_before, y_before]) = before.replace([x, y])
                && x != x_before
            {
                crossings.extend(crossing(size, [x_before, y_before], [x, y]));
            }
        });
    }
    crossings.sort_unstable();
    let mut at = 0;
    let mut counts: Vec<u32> = Vec::with_capacity(crossings.len() + 1);
    for place in crossings.into_iter().chain([size.pixels()]) {
        counts.push((place - at) as u32);
        at = place;
    }
    Rle::from_counts(size, &counts)
}

/// Steps along an edge, both ends included, along its longer side.
fn for_each_step(from: [i64; 2], to: [i64; 2], mut step: impl FnMut(i64, i64)) {
    let (width, height) = ((to[0] - from[0]).abs(), (to[1] - from[1]).abs());
    let is_wide = width >= height;
    let length = width.max(height);
    if length == 0 {
        // The outline stays where it is.
        return step(from[0], from[1]);
    }
    // Drawn from the lower end, so that an edge is the same in both directions.
    let is_backward = if is_wide { from[0] > to[0] } else { from[1] > to[1] };
    let (low, high) = if is_backward { (to, from) } else { (from, to) };
    let (along, across) = if is_wide { (0, 1) } else { (1, 0) };
    let slope = (high[across] - low[across]) as f64 / length as f64;
    for index in 0..=length {
        let distance = if is_backward { length - index } else { index };
        let place = (low[across] as f64 + slope * distance as f64 + 0.5) as i64;
        let mut point = [low[along] + distance, place];
        if !is_wide {
            point.reverse();
        }
        step(point[0], point[1]);
    }
}

/// The pixel, counted column by column, from which on the mask changes sides, if the step passes the middle of a pixel's column.
fn crossing(size: ImageSize, before: [i64; 2], now: [i64; 2]) -> Option<usize> {
    let column = if now[0] < before[0] { now[0] } else { now[0] - 1 } - FINE / 2;
    if column % FINE != 0 {
        return None;
    }
    let column = usize::try_from(column / FINE).ok().filter(|&column| column < size.columns())?;
    let fine = FINE as f64;
    let row = ((now[1].min(before[1]) as f64 + 0.5) / fine - 0.5).clamp(0.0, size.rows() as f64).ceil();
    Some(column * size.rows() + row as usize)
}
