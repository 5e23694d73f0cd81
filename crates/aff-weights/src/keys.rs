//! What a network expects of a file, and everything that is wrong between the two.

use std::collections::BTreeMap;
use std::fmt;

/// Names and shapes of tensors.
pub type TensorShapes = BTreeMap<String, Vec<usize>>;

/// Lines of a report before it says how many more there are.
const MOST_LINES: usize = 40;
/// Names that are compared for the nearest one.
const MOST_CANDIDATES: usize = 4096;

/// Every difference between the tensors of a file and those of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyReport {
    /// Tensors that the network needs and the file lacks, each with the nearest of the left-over names.
    pub missing: Vec<(String, Option<String>)>,
    /// Tensors of the file that the network does not know, each with the nearest of the missing names.
    pub unexpected: Vec<(String, Option<String>)>,
    /// Tensors of another shape: name, expected, found.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl KeyReport {
    /// Compares what was found with what is expected.
    pub fn compare(found: &TensorShapes, expected: &TensorShapes) -> Self {
        let missing: Vec<&String> = expected.keys().filter(|name| !found.contains_key(*name)).collect();
        let unexpected: Vec<&String> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
        let with_nearest = |names: &[&String], others: &[&String]| {
            let near = |name: &&String| ((*name).clone(), nearest(name, others).cloned());
            names.iter().map(near).collect()
        };
        let mismatched = expected.iter().filter_map(|(name, shape)| {
            let other = found.get(name)?;
            (other != shape).then(|| (name.clone(), shape.clone(), other.clone()))
        });
        Self {
            missing: with_nearest(&missing, &unexpected),
            unexpected: with_nearest(&unexpected, &missing),
            mismatched: mismatched.collect(),
        }
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }
}

impl fmt::Display for KeyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the tensors are not those of config.json: {} missing, {} unexpected, {} of another shape",
            self.missing.len(),
            self.unexpected.len(),
            self.mismatched.len()
        )?;
        let mut lines = Vec::new();
        for (name, expected, found) in &self.mismatched {
            lines.push(format!("shape      {name}: expected {expected:?}, found {found:?}"));
        }
        for (kind, names) in [("missing   ", &self.missing), ("unexpected", &self.unexpected)] {
            for (name, nearest) in names {
                let hint = nearest.as_ref().map_or(String::new(), |nearest| format!(" (nearest: {nearest})"));
                lines.push(format!("{kind} {name}{hint}"));
            }
        }
        for line in lines.iter().take(MOST_LINES) {
            write!(f, "\n  {line}")?;
        }
        if lines.len() > MOST_LINES {
            write!(f, "\n  ... and {} more", lines.len() - MOST_LINES)?;
        }
        Ok(())
    }
}

/// The name with the fewest edits to it, if they are fewer than half its length.
fn nearest<'a>(name: &str, others: &[&'a String]) -> Option<&'a String> {
    let distances = others.iter().take(MOST_CANDIDATES).map(|other| (edit_distance(name, other), *other));
    let (distance, nearest) = distances.min()?;
    (distance * 2 < name.len()).then_some(nearest)
}

/// Insertions, deletions and replacements of bytes between two names.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(entries: &[(&str, &[usize])]) -> TensorShapes {
        entries.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    #[test]
    fn a_report_lists_everything_at_once() {
        let found = shapes(&[("norm.weight", &[4]), ("head.wieght", &[2, 4]), ("stray", &[1])]);
        let expected = shapes(&[("norm.weight", &[8]), ("head.weight", &[2, 4]), ("head.bias", &[2])]);
        let report = KeyReport::compare(&found, &expected);
        assert_eq!(
            report.to_string(),
            "the tensors are not those of config.json: 2 missing, 2 unexpected, 1 of another shape\n  \
             shape      norm.weight: expected [8], found [4]\n  \
             missing    head.bias\n  \
             missing    head.weight (nearest: head.wieght)\n  \
             unexpected head.wieght (nearest: head.weight)\n  \
             unexpected stray"
        );
        assert!(KeyReport::compare(&expected, &expected).is_empty());
    }

    #[test]
    fn edit_distances() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
