//! Which query answers for which target.

use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

/// A query and the target that it was matched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Index of the query.
    pub query: usize,
    /// Index of the target.
    pub target: usize,
}

/// Units of an integer cost; the solver compares exactly, which floats do not promise.
const UNITS: f64 = (1_u64 << 32) as f64;
/// Costs beyond this are worst of all; sums of thousands of them still fit.
const WORST: f64 = 1e5;

/// The assignment of queries to targets with the least sum of costs (Kuhn and Munkres). Every target gets a query of its own as
/// long as there are enough, else every query gets a target. By target.
///
/// `costs` is `[targets][queries]`, row by row. A cost that is not a number counts as the worst.
///
/// ```
/// use aff_train::losses::{Match, match_queries};
///
/// // Both targets like query 0 best; the first loses less by taking query 2.
/// let costs = [1.0, 9.0, 2.0, 1.0, 9.0, 5.0];
/// assert_eq!(match_queries(&costs, 3), [Match { query: 2, target: 0 }, Match { query: 0, target: 1 }]);
/// ```
pub fn match_queries(costs: &[f32], queries: usize) -> Vec<Match> {
    if costs.is_empty() || queries == 0 {
        return Vec::new();
    }
    let targets = costs.len() / queries;
    let integer = |cost: f32| {
        let cost = f64::from(cost);
        let cost = if cost.is_nan() { WORST } else { cost.clamp(-WORST, WORST) };
        (cost * UNITS) as i64
    };
    let cost = |target: usize, query: usize| integer(costs[target * queries + query]);
    // The solver wants no more rows than columns.
    let mut matches: Vec<Match> = if targets <= queries {
        let matrix = Matrix::from_fn(targets, queries, |(target, query)| cost(target, query));
        let (_, query_of) = kuhn_munkres_min(&matrix);
        query_of.into_iter().enumerate().map(|(target, query)| Match { query, target }).collect()
    } else {
        let matrix = Matrix::from_fn(queries, targets, |(query, target)| cost(target, query));
        let (_, target_of) = kuhn_munkres_min(&matrix);
        target_of.into_iter().enumerate().map(|(query, target)| Match { query, target }).collect()
    };
    matches.sort_by_key(|matched| matched.target);
    matches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least sum over all ways to give distinct columns to the rows.
    fn least(costs: &[f32], queries: usize, used: &mut Vec<bool>, target: usize, skips: usize) -> f64 {
        if target * queries == costs.len() {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        if skips > 0 {
            best = least(costs, queries, used, target + 1, skips - 1);
        }
        for query in 0..queries {
            if !used[query] {
                used[query] = true;
                let rest = least(costs, queries, used, target + 1, skips);
                best = best.min(f64::from(costs[target * queries + query]) + rest);
                used[query] = false;
            }
        }
        best
    }

    proptest! {
        #[test]
        fn the_sum_is_the_least(targets in 1usize..6, queries in 1usize..6, seed: [[i16; 6]; 6]) {
            let costs: Vec<f32> = (0..targets)
                .flat_map(|target| seed[target][..queries].iter().map(|&cost| f32::from(cost) / 64.0))
                .collect();
            let matches = match_queries(&costs, queries);
            prop_assert_eq!(matches.len(), targets.min(queries));
            prop_assert!(matches.windows(2).all(|pair| pair[0].target < pair[1].target));
            let mut used: Vec<usize> = matches.iter().map(|matched| matched.query).collect();
            used.sort_unstable();
            prop_assert!(used.windows(2).all(|pair| pair[0] < pair[1]));
            let sum: f64 = matches.iter().map(|m| f64::from(costs[m.target * queries + m.query])).sum();
            let best = least(&costs, queries, &mut vec![false; queries], 0, targets.saturating_sub(queries));
            prop_assert!((sum - best).abs() < 1e-6, "{} {}", sum, best);
        }
    }

    #[test]
    fn nothing_and_nonsense_are_matched_without_a_panic() {
        assert_eq!(match_queries(&[], 5), []);
        let matches = match_queries(&[f32::NAN, 1.0, f32::INFINITY, f32::NEG_INFINITY], 2);
        assert_eq!(matches, [Match { query: 0, target: 0 }, Match { query: 1, target: 1 }]);
    }
}
