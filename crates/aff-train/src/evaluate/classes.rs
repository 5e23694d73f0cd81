//! Classes of a model as classes of the data.

use std::collections::{BTreeMap, VecDeque};

use crate::TrainError;
use crate::data::Category;

/// Names of an error message, at most.
const SHOWN: usize = 24;

/// Which class of the data each class of a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClassMap {
    /// By class of the model; `None` where the data do not have it.
    of_model: Vec<Option<u32>>,
    names: Vec<String>,
}

impl ClassMap {
    /// Matches classes by their names. Of classes of one name (ImageNet has two cranes) the first is the first.
    ///
    /// # Errors
    /// If the model lacks a class of the data.
    pub(super) fn new(model: &[String], data: &[Category]) -> Result<Self, TrainError> {
        let names: Vec<String> = data.iter().map(|category| category.name.clone()).collect();
        if data.len() == model.len() && names.iter().all(|name| is_wordnet_number(name)) {
            return Ok(Self { of_model: (0..data.len() as u32).map(Some).collect(), names });
        }
        let mut wanted: BTreeMap<String, VecDeque<u32>> = BTreeMap::new();
        for (class, name) in (0..).zip(&names) {
            wanted.entry(plain(name)).or_default().push_back(class);
        }
        let of_model = model.iter().map(|label| wanted.get_mut(&plain(label))?.pop_front()).collect();
        let mut missing: Vec<u32> = wanted.into_values().flatten().collect();
        missing.sort_unstable();
        if missing.is_empty() {
            return Ok(Self { of_model, names });
        }
        let missing: Vec<String> =
            missing.iter().map(|&class| format!("`{}`", names[class as usize])).collect();
        Err(TrainError::evaluation(format!(
            "the model does not know {}; it has {} classes: {}; the data set has {}: {}",
            listed(&missing),
            model.len(),
            listed(model),
            names.len(),
            listed(&names)
        )))
    }

    /// The class of the data that a class of the model is.
    pub(super) fn of(&self, class: u32) -> Option<u32> {
        self.of_model.get(class as usize).copied().flatten()
    }

    /// Names of the classes of the data.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

/// A name without what data sets write in different ways.
fn plain(name: &str) -> String {
    let first = name.split(',').next().unwrap_or_default();
    first.trim().to_lowercase().replace('_', " ")
}

/// Whether a name is a number of WordNet, such as `n01440764`, by which the folders of ImageNet are named and sorted.
fn is_wordnet_number(name: &str) -> bool {
    name.strip_prefix('n')
        .is_some_and(|number| number.len() == 8 && number.bytes().all(|digit| digit.is_ascii_digit()))
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(model: &[&str], data: &[&str]) -> Result<Vec<Option<u32>>, String> {
        let model: Vec<String> = model.iter().map(|&name| name.to_owned()).collect();
        let data: Vec<Category> = (0..).zip(data).map(|(id, &name)| Category::thing(id, name)).collect();
        ClassMap::new(&model, &data).map(|map| map.of_model).map_err(|error| error.to_string())
    }

    #[test]
    fn classes_are_matched_by_name() {
        let found =
            map(&["sky", "Traffic light", "tench, Tinca tinca", "car"], &["car", "traffic_light", "tench"]);
        assert_eq!(found, Ok(vec![None, Some(1), Some(2), Some(0)]));
        // Two of one name stay in their order.
        assert_eq!(map(&["crane", "dog", "crane"], &["crane", "crane"]), Ok(vec![Some(0), None, Some(1)]));
        assert_eq!(map(&["tench", "goldfish"], &["n01440764", "n01443537"]), Ok(vec![Some(0), Some(1)]));
    }

    #[test]
    fn a_model_that_lacks_a_class_is_refused_with_both_lists() {
        let error = map(&["sky", "road"], &["road", "car"]).unwrap_err();
        for words in ["does not know `car`;", "it has 2 classes: sky, road;", "the data set has 2: road, car"]
        {
            assert!(error.contains(words), "{error}");
        }
        assert!(map(&["crane"], &["crane", "crane"]).is_err());
        let many: Vec<String> = (0..30).map(|number| format!("class {number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(map(&["sky"], &many).unwrap_err().ends_with("class 23 and 6 more"));
    }
}
