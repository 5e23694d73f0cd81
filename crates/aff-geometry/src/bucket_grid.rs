//! Exact nearest neighbours by a grid of buckets: what k-NN and nearest clusters share.
//!
//! Points are sorted into the buckets of a uniform grid, about two a bucket. A search looks at the query's own bucket, then at
//! rings of buckets around it, until no unseen point can be as near as the worst one found.
//!
//! The search is exact in floating point, not only in theory: the bucket of a coordinate is a monotone function of it, so points in the
//! columns right of the query's are right of the query, and the grid remembers the smallest coordinate of all points from
//! a column onwards. Rounding is monotone too, so a point beyond that coordinate has a computed distance no less
//! than the computed distance to it.

use std::ops::{Add, Mul, Range, Sub};

/// The number type that distances are computed in.
pub(crate) trait Real:
    Copy + PartialOrd + Send + Sync + Into<f64> + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    const INFINITY: Self;
    const NEG_INFINITY: Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
}

macro_rules! real {
    ($($float:ty),*) => {$(
        impl Real for $float {
            const INFINITY: Self = <$float>::INFINITY;
            const NEG_INFINITY: Self = <$float>::NEG_INFINITY;

            fn min(self, other: Self) -> Self {
                self.min(other)
            }

            fn max(self, other: Self) -> Self {
                self.max(other)
            }
        }
    )*};
}

real!(f32, f64);

/// A neighbour candidate: squared distance, then the tie-break.
pub(crate) type Candidate<R> = (R, u32);

/// Points per bucket the grid aims at. Set by `benches/geometry.rs`.
const POINTS_PER_BUCKET: usize = 2;

/// Points in buckets.
#[derive(Clone, Debug)]
pub(crate) struct BucketGrid<R> {
    columns: Axis<R>,
    rows: Axis<R>,
    /// Where each bucket starts in `points`, row by row, and the end of the last one.
    starts: Vec<u32>,
    points: Vec<([R; 2], u32)>,
}

/// How one coordinate maps to columns (or rows) of buckets.
#[derive(Clone, Debug)]
struct Axis<R> {
    origin: f64,
    per_unit: f64,
    count: usize,
    /// Smallest coordinate of all points in this column or a later one.
    from: Vec<R>,
    /// Greatest coordinate of all points in this column or an earlier one.
    until: Vec<R>,
}

impl<R: Real> Axis<R> {
    fn new(origin: f64, extent: f64, count: usize, coordinates: impl Iterator<Item = R>) -> Self {
        let per_unit = if extent > 0.0 { count as f64 / extent } else { 0.0 };
        let (from, until) = (vec![R::INFINITY; count], vec![R::NEG_INFINITY; count]);
        let mut axis = Self { origin, per_unit, count, from, until };
        for coordinate in coordinates {
            let at = axis.bucket(coordinate);
            axis.from[at] = axis.from[at].min(coordinate);
            axis.until[at] = axis.until[at].max(coordinate);
        }
        for at in 1..count {
            axis.until[at] = axis.until[at].max(axis.until[at - 1]);
            let back = count - 1 - at;
            axis.from[back] = axis.from[back].min(axis.from[back + 1]);
        }
        axis
    }

    /// The column of a coordinate; that of the nearest one for coordinates outside.
    fn bucket(&self, coordinate: R) -> usize {
        // A cast saturates: what lies left of the origin is in column 0.
        (((coordinate.into() - self.origin) * self.per_unit) as usize).min(self.count - 1)
    }

    /// Distance along this axis, at least, from a coordinate in column `at` to a point more than `ring` columns away.
    fn gap(&self, coordinate: R, at: usize, ring: usize) -> R {
        let right = self.from.get(at + ring + 1).map_or(R::INFINITY, |&from| from - coordinate);
        let left = at.checked_sub(ring + 1).map_or(R::INFINITY, |column| coordinate - self.until[column]);
        right.min(left)
    }
}

impl<R: Real> BucketGrid<R> {
    /// Sorts finite points into buckets. O(points). The index of a point breaks ties.
    pub(crate) fn new(points: &[[R; 2]]) -> Self {
        let mut low = [R::INFINITY; 2];
        let mut high = [R::NEG_INFINITY; 2];
        for &point in points {
            for (axis, coordinate) in point.into_iter().enumerate() {
                low[axis] = low[axis].min(coordinate);
                high[axis] = high[axis].max(coordinate);
            }
        }
        let low = low.map(Into::into);
        let high: [f64; 2] = high.map(Into::into);
        let extent = [high[0] - low[0], high[1] - low[1]];
        let buckets = (points.len() / POINTS_PER_BUCKET).max(1);
        let cols = ((buckets as f64 * extent[0] / extent[1]).sqrt().round() as usize).clamp(1, buckets);
        let rows = (buckets / cols).max(1);
        let columns = Axis::new(low[0], extent[0], cols, points.iter().map(|p| p[0]));
        let rows = Axis::new(low[1], extent[1], rows, points.iter().map(|p| p[1]));

        let bucket = |point: [R; 2]| {
            let [x, y] = point;
            rows.bucket(y) * columns.count + columns.bucket(x)
        };
        let mut starts = vec![0u32; columns.count * rows.count + 1];
        for &point in points {
            starts[bucket(point)] += 1;
        }
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        let mut sorted = points.iter().map(|&point| (point, 0)).collect::<Vec<_>>();
        for (index, &point) in points.iter().enumerate().rev() {
            let slot = &mut starts[bucket(point)];
            *slot -= 1;
            sorted[*slot as usize] = (point, index as u32);
        }
        Self { columns, rows, starts, points: sorted }
    }

    /// Fills `best` with the nearest points, nearest first, ties to the lower index. There must be no more slots than
    /// points.
    pub(crate) fn nearest(&self, query: [R; 2], best: &mut [Candidate<R>]) {
        best.fill((R::INFINITY, u32::MAX));
        let Some(last) = best.len().checked_sub(1) else { return };
        let at = [self.columns.bucket(query[0]), self.rows.bucket(query[1])];
        let rings = self.columns.count.max(self.rows.count);
        for ring in 0..rings {
            self.scan_ring(query, at, ring, best);
            let gap = self.columns.gap(query[0], at[0], ring).min(self.rows.gap(query[1], at[1], ring));
            if best[last].0 < gap * gap {
                break;
            }
        }
    }

    /// Looks at the buckets exactly `ring` columns or rows from bucket `at`.
    fn scan_ring(&self, query: [R; 2], at: [usize; 2], ring: usize, best: &mut [Candidate<R>]) {
        let [col, row] = at;
        let columns = col.saturating_sub(ring)..(col + ring + 1).min(self.columns.count);
        for y in row.saturating_sub(ring)..(row + ring + 1).min(self.rows.count) {
            if y.abs_diff(row) == ring {
                self.scan(query, y, columns.clone(), best);
                continue;
            }
            if let Some(left) = col.checked_sub(ring) {
                self.scan(query, y, left..left + 1, best);
            }
            if ring > 0 && col + ring < self.columns.count {
                self.scan(query, y, col + ring..col + ring + 1, best);
            }
        }
    }

    /// Looks at neighbouring buckets of one row.
    fn scan(&self, query: [R; 2], row: usize, columns: Range<usize>, best: &mut [Candidate<R>]) {
        let first = row * self.columns.count;
        let from = self.starts[first + columns.start] as usize;
        let until = self.starts[first + columns.end] as usize;
        for &(point, index) in &self.points[from..until] {
            let [x, y] = point;
            let (dx, dy) = (x - query[0], y - query[1]);
            insert(best, (dx * dx + dy * dy, index));
        }
    }
}

/// Inserts a candidate among the best, if it is one of them.
fn insert<R: Real>(best: &mut [Candidate<R>], candidate: Candidate<R>) {
    let last = best.len() - 1;
    if candidate >= best[last] {
        return;
    }
    let mut slot = last;
    while slot > 0 && candidate < best[slot - 1] {
        best[slot] = best[slot - 1];
        slot -= 1;
    }
    best[slot] = candidate;
}
