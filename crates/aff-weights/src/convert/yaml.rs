//! Values of a reference configuration: yacs trees from a checkpoint or from YAML files.
//!
//! Tags such as `!!python/object/apply:eval` are never evaluated: their values are the plain data that follows, which is
//! refused where it is not what a key needs, and keys that do not matter here are not looked at.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::literal;
use crate::WeightsError;
use crate::error::brief;

/// Files that a chain of `_BASE_` may have.
const LONGEST_CHAIN: usize = 16;
/// Longest configuration file in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// A tree of settings, by section and key.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    tree: Value,
    path: &'a Path,
}

impl<'a> Settings<'a> {
    pub(super) fn from_checkpoint(tree: Value, path: &'a Path) -> Self {
        Self { tree, path }
    }

    /// Reads a YAML file over the files that it is based on.
    pub(super) fn from_yaml(path: &'a Path) -> Result<Self, WeightsError> {
        let mut chain: Vec<PathBuf> = vec![path.to_path_buf()];
        let mut layers = Vec::new();
        loop {
            let file = &chain[chain.len() - 1];
            let mut layer = read_yaml(file)?;
            let base = layer.as_object_mut().and_then(|map| map.remove("_BASE_"));
            layers.push(layer);
            let Some(base) = base else { break };
            let Some(base) = base.as_str() else {
                return Err(WeightsError::convert(file, "`_BASE_` is not the name of a file"));
            };
            if Path::new(base).is_absolute() || base.starts_with('~') {
                let problem = format!(
                    "`_BASE_` is {:?}; expected a file named from the folder that this one is in",
                    brief(base)
                );
                return Err(WeightsError::convert(file, problem));
            }
            if chain.len() == LONGEST_CHAIN {
                let problem =
                    format!("its chain of `_BASE_` files is circular or longer than {LONGEST_CHAIN}");
                return Err(WeightsError::convert(path, problem));
            }
            let next = file.parent().unwrap_or(Path::new(".")).join(base);
            chain.push(next);
        }
        let mut tree = Value::Object(serde_json::Map::new());
        for layer in layers.into_iter().rev() {
            merge(&mut tree, layer);
        }
        Ok(Self { tree, path })
    }

    /// The value at a path such as `MODEL.AFF.ALPHA`; `None` if there is none or it is null.
    fn get(&self, key: &str) -> Option<&Value> {
        key.split('.').try_fold(&self.tree, |tree, part| tree.get(part)).filter(|value| !value.is_null())
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let literal = value.as_str().and_then(literal::sequence);
        match read(literal.as_ref().unwrap_or(value)) {
            Some(read) => Ok(Some(read)),
            None => {
                let found = value.to_string();
                Err(self.problem(format!("`{key}` is {}; expected {expected}", brief(&found))))
            }
        }
    }

    /// Refuses a switch that is not at the only setting there is here.
    pub(super) fn require(&self, key: &str, only: bool, why: &str) -> Result<(), WeightsError> {
        match self.switch(key)? {
            Some(found) if found != only => {
                Err(self.problem(format!("`{key}` is {found}; expected {only}: {why}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn problem(&self, problem: impl Into<String>) -> WeightsError {
        WeightsError::convert(self.path, problem)
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, WeightsError> {
        self.read(key, "a whole number", size)
    }

    pub(super) fn sizes4(&self, key: &str) -> Result<Option<[usize; 4]>, WeightsError> {
        self.read(key, "four whole numbers", |value| {
            let sizes: Option<Vec<usize>> = value.as_array()?.iter().map(size).collect();
            sizes?.try_into().ok()
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, WeightsError> {
        self.read(key, "a number", Value::as_f64)
    }

    pub(super) fn numbers3(&self, key: &str) -> Result<Option<[f64; 3]>, WeightsError> {
        self.read(key, "three numbers", |value| {
            let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
            numbers?.try_into().ok()
        })
    }

    pub(super) fn switch(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// The text at a key, or the first of a list of texts.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, WeightsError> {
        self.read(key, "a text", |value| {
            let value = value.as_array().map_or(Some(value), |list| list.first())?;
            value.as_str().map(str::to_owned)
        })
    }
}

fn size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn read_yaml(path: &Path) -> Result<Value, WeightsError> {
    let text = aff_files::read_to_string(path, LARGEST_FILE)?;
    serde_saphyr::from_str(&text)
        .map_err(|error| WeightsError::convert(path, format!("not YAML: {}", brief(&error.to_string()))))
}

/// Lays `over` over `tree`, section by section.
fn merge(tree: &mut Value, over: Value) {
    match (tree, over) {
        (Value::Object(tree), Value::Object(over)) => {
            for (key, value) in over {
                merge(tree.entry(key).or_insert(Value::Null), value);
            }
        }
        (tree, over) => *tree = over,
    }
}
