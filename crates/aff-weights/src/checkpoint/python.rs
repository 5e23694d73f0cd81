//! Plain Python data as JSON.

use serde_json::{Map, Value};

use super::pickle::{Id, Node, Pickle};

/// Values nest no deeper than this in any configuration.
const DEEPEST: usize = 32;
/// Values of a configuration in all; a shared value counts wherever it is used.
const MOST_VALUES: usize = 1 << 16;
/// Bytes of its texts in all.
const MOST_TEXT: usize = 1 << 20;

/// Dictionaries (also `CfgNode`), lists, texts and numbers; whatever else there is becomes null.
///
/// # Errors
/// If it would be larger than the pickle that it is in: a small pickle may use one long text any number of times.
pub(super) fn to_json(pickle: &Pickle<'_>, id: Id) -> Result<Value, String> {
    let mut left = Budget { values: MOST_VALUES.min(pickle.length()), text: MOST_TEXT.min(pickle.length()) };
    convert(pickle, id, DEEPEST, &mut left)
}

/// What may still be made.
struct Budget {
    values: usize,
    text: usize,
}

impl Budget {
    fn take_text(&mut self, text: &str) -> Result<String, String> {
        let left = self.text.checked_sub(text.len());
        self.text = left.ok_or("repeats texts beyond its own size")?;
        Ok(text.to_owned())
    }
}

fn convert(pickle: &Pickle<'_>, id: Id, depth: usize, left: &mut Budget) -> Result<Value, String> {
    if depth == 0 {
        return Err(format!("nests more than {DEEPEST} deep"));
    }
    left.values = left.values.checked_sub(1).ok_or("repeats values beyond its own size")?;
    Ok(match pickle.node(id) {
        Node::Bool(value) => Value::Bool(*value),
        Node::Int(value) => Value::from(*value),
        Node::Float(value) => Value::from(*value),
        Node::Str(text) => Value::String(left.take_text(text)?),
        Node::List(items) | Node::Tuple(items) => {
            let items: Result<Vec<Value>, String> =
                items.iter().map(|&item| convert(pickle, item, depth - 1, left)).collect();
            Value::Array(items?)
        }
        Node::Dict(_) | Node::Object(_) => {
            let mut map = Map::new();
            for &(key, value) in pickle.entries(id).unwrap_or(&[]) {
                if let Some(key) = pickle.str(key) {
                    map.insert(left.take_text(key)?, convert(pickle, value, depth - 1, left)?);
                }
            }
            Value::Object(map)
        }
        _ => Value::Null,
    })
}
