//! What a network expects of a file, and everything that is wrong between the two.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::brief;

/// Names and shapes of tensors.
pub type TensorShapes = BTreeMap<String, Vec<usize>>;

/// Lines of a report, and their bytes, before it says how many more there are.
const MOST_LINES: usize = 40;
const MOST_TEXT: usize = 1800;
/// Names that are compared for the nearest one, and the longest of them in bytes.
const MOST_CANDIDATES: usize = 1024;
const LONGEST_CANDIDATE: usize = 200;

/// Every difference between the tensors of a file and those of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyReport {
    /// Tensors that the network needs and the file lacks, the first of them with the nearest of the left-over names.
    pub missing: Vec<(String, Option<String>)>,
    /// Tensors of the file that the network does not know, the first of them with the nearest of the missing names.
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
            let near = |(at, name): (usize, &&String)| {
                let nearest = if at < MOST_LINES { nearest(name, others).cloned() } else { None };
                ((*name).clone(), nearest)
            };
            names.iter().enumerate().map(near).collect()
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
        let shapes = self.mismatched.iter().map(|(name, expected, found)| {
            let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
            format!("shape      {}: expected {}, found {}", brief(name), brief(&expected), brief(&found))
        });
        let names = [("missing   ", &self.missing), ("unexpected", &self.unexpected)];
        let names = names.into_iter().flat_map(|(kind, names)| {
            names.iter().map(move |(name, nearest)| {
                let hint = nearest
                    .as_ref()
                    .map_or(String::new(), |nearest| format!(" (nearest: {})", brief(nearest)));
                format!("{kind} {}{hint}", brief(name))
            })
        });
        let mut text = String::new();
        let mut written = 0;
        for line in shapes.chain(names).take(MOST_LINES) {
            if text.len() + line.len() > MOST_TEXT {
                break;
            }
            text += &format!("\n  {line}");
            written += 1;
        }
        f.write_str(&text)?;
        match self.mismatched.len() + self.missing.len() + self.unexpected.len() - written {
            0 => Ok(()),
            more => write!(f, "\n  ... and {more} more"),
        }
    }
}

/// The name with the fewest edits to it, if they are fewer than half its length.
fn nearest<'a>(name: &str, others: &[&'a String]) -> Option<&'a String> {
    if name.len() > LONGEST_CANDIDATE {
        return None;
    }
    // As many edits as the lengths differ by are needed at least.
    let is_near = |other: &&&String| other.len().abs_diff(name.len()) * 2 < name.len();
    let near = others.iter().take(MOST_CANDIDATES).filter(is_near);
    let (distance, nearest) = near.map(|other| (strsim::levenshtein(name, other), *other)).min()?;
    (distance * 2 < name.len()).then_some(nearest)
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
}
