//! The canonical form of a request: in one pass, without a value in memory and without recursion, so that it may be nested
//! deeper than anything in it that is taken.

use serde_json::{Error, value::RawValue};

use super::{JsonError, loose};
use crate::base::limits;

/// An array or object that is not at its end.
struct Open {
    is_object: bool,
    /// Where what is in it begins in the output, and the value that is written.
    begin: usize,
    value: usize,
    /// Of an object: each member's key and place in the output.
    members: Vec<(String, usize, usize)>,
    /// The key whose value comes next.
    key: Option<String>,
    is_empty: bool,
}

/// The form in which a JSON object is signed that may hold numbers as events of old room versions do.
///
/// # Errors
/// The text is no JSON object, repeats a key, is nested deeper than that, holds a number beyond a double, or is in such
/// disorder that it would take too long.
pub fn nested_text(text: &str, depth: usize) -> Result<String, JsonError> {
    // After that only strings, brackets and what is between them are to be told apart.
    let text = serde_json::from_str::<&RawValue>(text)?.get();
    if !text.starts_with('{') {
        return Err(JsonError(error("not an object")));
    }
    let (mut out, mut open) = (String::with_capacity(text.len()), Vec::<Open>::new());
    let (mut rest, mut moved) = (text, 0);
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'"' => string_length(rest),
            b'{' | b'[' | b'}' | b']' | b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => 1,
            _ => rest.find([',', '}', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len()),
        };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        match first {
            b'{' | b'[' => {
                if open.len() == depth {
                    return Err(JsonError(error("nested too deep")));
                }
                before_value(&mut out, open.last_mut());
                out.push(first.into());
                let (begin, members) = (out.len(), Vec::new());
                let is_object = first == b'{';
                open.push(Open { is_object, begin, value: 0, members, key: None, is_empty: true });
            }
            b'}' | b']' => {
                if let Some(closed) = open.pop() {
                    moved += closed.order(&mut out)?;
                    if moved > limits::REQUEST_MOVES {
                        return Err(JsonError(error("in too much disorder")));
                    }
                }
                out.push(first.into());
                after_value(&out, open.last_mut());
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
            b'"' => {
                let string: String = serde_json::from_str(token)?;
                match open.last_mut() {
                    Some(open) if open.is_object && open.key.is_none() => open.key = Some(string),
                    mut last => {
                        before_value(&mut out, last.as_deref_mut());
                        out.push_str(&quoted(&string));
                        after_value(&out, last);
                    }
                }
            }
            _ => {
                before_value(&mut out, open.last_mut());
                match first {
                    b'-' | b'0'..=b'9' => {
                        let number = loose::number(token).ok_or_else(|| error("number out of range"))?;
                        out.push_str(&number);
                    }
                    _ => out.push_str(token),
                }
                after_value(&out, open.last_mut());
            }
        }
    }
    Ok(out)
}

fn before_value(out: &mut String, open: Option<&mut Open>) {
    let Some(open) = open else { return };
    if !std::mem::take(&mut open.is_empty) {
        out.push(',');
    }
    open.value = out.len();
    if let Some(key) = &open.key {
        out.push_str(&quoted(key));
        out.push(':');
    }
}

fn after_value(out: &str, open: Option<&mut Open>) {
    if let Some(open) = open
        && let Some(key) = open.key.take()
    {
        open.members.push((key, open.value, out.len()));
    }
}

impl Open {
    /// Puts the members in order; tells how much was moved for that.
    fn order(mut self, out: &mut String) -> Result<usize, Error> {
        let is_in_order = self.members.is_sorted_by(|one, other| one.0 < other.0);
        if is_in_order {
            return Ok(0);
        }
        self.members.sort_by(|one, other| one.0.cmp(&other.0));
        if self.members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(error("a key occurs twice"));
        }
        let old = out.split_off(self.begin);
        for (at, (_, from, until)) in self.members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&old[from - self.begin..until - self.begin]);
        }
        Ok(old.len())
    }
}

/// The length of the string that a text begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = true;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string has a text")
}

fn error(text: &'static str) -> Error {
    serde::de::Error::custom(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::json::Object;

    fn written(text: &str) -> Option<String> {
        nested_text(text, limits::REQUEST_DEPTH).ok()
    }

    #[test]
    fn it_is_the_form_of_an_object() {
        for text in [
            r#" { "b/~" : [ { "z":1.50, "a": null }, "\u65E5\u0009", true, 7 ], "a" : { "b\"\\" : 1E1, "a":-0 } } "#,
            r#"{"本":2,"日":1,"":[],"e":{},"f":[{},[]],"n":9007199254740992,"m":-9007199254740991}"#,
            "{}",
        ] {
            assert_eq!(written(text), Some(Object::parse(text).unwrap().text()), "{text}");
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":[{"b":1,"\u0062":2}]}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":1e999}"#,
            r#"{"a":01}"#,
            "[]",
            "1",
            "",
            "{} {}",
            "{",
        ] {
            assert_eq!(written(bad), None, "{bad}");
        }
    }

    #[test]
    fn it_may_be_nested_deep_and_not_deeper() {
        let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let deep = nested(limits::REQUEST_DEPTH);
        assert_eq!(written(&deep).as_ref(), Some(&deep));
        assert_eq!(written(&nested(limits::REQUEST_DEPTH + 1)), None);
        assert_eq!(written(&format!("{{\"a\":{}{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20))), None);
        let levels = limits::REQUEST_DEPTH - 1;
        let disorder =
            format!("{}\"{}\"{}", r#"{"b":1,"a":"#.repeat(levels), "x".repeat(1 << 20), "}".repeat(levels));
        assert_eq!(written(&disorder), None, "it would take long");
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".{0,4}".prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::hash_map(".{0,2}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_object_is_written_as_when_it_is_parsed(value in value()) {
            let text = serde_json::json!({"x": value, "a": 1}).to_string();
            prop_assert_eq!(written(&text), Object::parse(&text).ok().map(|object| object.text()));
        }
    }
}
