//! Plain Python data as JSON.

use serde_json::{Map, Value};

use super::pickle::{Id, Node, Pickle};

/// Values nest no deeper than this in any configuration.
const DEEPEST: usize = 32;
/// Values of a configuration in all; a shared value counts wherever it is used.
const MOST_VALUES: usize = 1 << 16;

/// Dictionaries (also `CfgNode`), lists, texts and numbers; whatever else there is becomes null.
pub(super) fn to_json(pickle: &Pickle<'_>, id: Id) -> Value {
    let mut left = MOST_VALUES;
    convert(pickle, id, DEEPEST, &mut left)
}

fn convert(pickle: &Pickle<'_>, id: Id, depth: usize, left: &mut usize) -> Value {
    if depth == 0 || *left == 0 {
        return Value::Null;
    }
    *left -= 1;
    match pickle.node(id) {
        Node::Bool(value) => Value::Bool(*value),
        Node::Int(value) => Value::from(*value),
        Node::Float(value) => Value::from(*value),
        Node::Str(text) => Value::String(text.clone()),
        Node::List(items) | Node::Tuple(items) => {
            items.iter().map(|&item| convert(pickle, item, depth - 1, left)).collect()
        }
        Node::Dict(_) | Node::Object(_) => {
            let mut map = Map::new();
            for &(key, value) in pickle.entries(id).unwrap_or(&[]) {
                if let Some(key) = pickle.str(key) {
                    map.insert(key.to_owned(), convert(pickle, value, depth - 1, left));
                }
            }
            Value::Object(map)
        }
        _ => Value::Null,
    }
}
