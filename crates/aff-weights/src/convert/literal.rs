//! Python literals in YAML: `("coco_2017_val",)` is a text to YAML and a tuple to the published code.

use serde_json::Value;

/// Values nest no deeper.
const DEEPEST: usize = 8;

/// The tuple or list that a text is, or `None` if it is neither.
///
/// Texts, numbers, `True`, `False` and `None` may be in it; nothing is evaluated.
pub(super) fn sequence(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text.trim() };
    let value =
        matches!(parser.rest.as_bytes().first(), Some(b'(' | b'[')).then(|| parser.value(DEEPEST))??;
    parser.rest.trim().is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '(' => self.items(')', depth.checked_sub(1)?),
            '[' => self.items(']', depth.checked_sub(1)?),
            quote @ ('"' | '\'') => self.text(quote),
            _ => self.word(),
        }
    }

    /// What is between brackets. One value in round ones without a comma is that value, as in Python.
    fn items(&mut self, end: char, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut items = Vec::new();
        let mut commas = 0;
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(end) {
                self.rest = rest;
                let is_tuple = end == ']' || commas > 0 || items.is_empty();
                return if is_tuple { Some(Value::Array(items)) } else { items.pop() };
            }
            if commas < items.len() {
                return None;
            }
            items.push(self.value(depth)?);
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                commas += 1;
            }
        }
    }

    fn text(&mut self, quote: char) -> Option<Value> {
        let inside = &self.rest[1..];
        let end = inside.find([quote, '\\'])?;
        // Names of data sets need no escapes.
        self.rest = inside[end..].strip_prefix(quote)?;
        Some(Value::from(&inside[..end]))
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ')', ']']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word.trim_end() {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            word => {
                let whole = word.parse::<i64>().ok().map(Value::from);
                whole
                    .or_else(|| word.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tuples_and_lists_as_python_reads_them() {
        for (text, expected) in [
            (r#"("coco_2017_val",)"#, json!(["coco_2017_val"])),
            ("('a', \"b\")", json!(["a", "b"])),
            (" ( 1, -2.5, True, None ) ", json!([1, -2.5, true, null])),
            ("()", json!([])),
            ("(1)", json!(1)),
            ("[[1, 2], (3,),]", json!([[1, 2], [3]])),
        ] {
            assert_eq!(sequence(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn all_else_stays_a_text() {
        let deep = "(".repeat(100_000);
        for text in
            ["name", "", "(", "(1", "(1 2)", "(,)", "(a)", "('a'", "(1,) x", r"('\x41',)", "[int(x)]", &deep]
        {
            assert_eq!(sequence(text), None, "{}", &text[..text.len().min(20)]);
        }
    }
}
