//! From verdicts to precision at 101 recalls.

use super::matching::Judged;

/// Recalls at which precision is read: 0.00 to 1.00.
const RECALLS: usize = 101;

/// Mean over the recalls of the best precision at that recall or a higher one. `found` is sorted, best first.
pub(super) fn mean_precision(found: &[Judged], range: usize, overlap: usize, positives: u64) -> f64 {
    let (mut right, mut wrong) = (0u64, 0u64);
    // What is left out repeats the point before it, which changes nothing.
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(found.len());
    for verdict in found.iter().filter_map(|judged| judged.verdict(range, overlap)) {
        if verdict {
            right += 1;
        } else {
            wrong += 1;
        }
        let precision = right as f64 / (wrong as f64 + right as f64 + f64::EPSILON);
        points.push((right as f64 / positives as f64, precision));
    }
    for at in (1..points.len()).rev() {
        points[at - 1].1 = points[at - 1].1.max(points[at].1);
    }
    let precision_at = |step: usize| {
        let first = points.partition_point(|&(recall, _)| recall < step as f64 * 0.01);
        points.get(first).map_or(0.0, |point| point.1)
    };
    (0..RECALLS).map(precision_at).sum::<f64>() / RECALLS as f64
}
