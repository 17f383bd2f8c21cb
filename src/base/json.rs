//! Canonical JSON from outside: the one place that turns foreign bytes into a value.
//!
//! A key that occurs twice means one thing to us and another to whoever signed it, so it is refused here, as are
//! nesting beyond [`limits::JSON_DEPTH`] and every number but an integer that fits 53 bits and a sign. Only events of
//! old room versions may hold others: those are an [`Object`].
//! <https://spec.matrix.org/v1.19/appendices/#canonical-json>

mod loose;
mod nested;

use std::{collections::btree_map::Entry, fmt};

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

pub use self::{loose::Object, nested::nested_text};

use super::limits;

/// Why a text is not canonical JSON; the message names the place.
#[derive(Debug, thiserror::Error)]
#[error("not canonical JSON: {0}")]
pub struct JsonError(#[from] serde_json::Error);

/// Parses one JSON object, which may have any order of keys and any white space.
///
/// # Errors
/// The text is no JSON object, repeats a key, is nested too deep or holds a number that is no 53-bit integer.
pub fn canonical_object(text: &str) -> Result<CanonicalJsonObject, JsonError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: limits::JSON_DEPTH }.deserialize(&mut parser)?;
    parser.end()?;
    match value {
        CanonicalJsonValue::Object(object) => Ok(object),
        _ => Err(JsonError(serde_json::Error::custom("not an object"))),
    }
}

/// Deserializes a value that may hold `depth` levels of arrays and objects.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        self.depth.checked_sub(1).map(|depth| Self { depth }).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = CanonicalJsonValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = CanonicalJsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("canonical JSON, whose numbers are integers of at most 53 bits")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Int::try_from(value).map(CanonicalJsonValue::Integer).map_err(|_| E::custom("integer out of range"))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Int::try_from(value).map(CanonicalJsonValue::Integer).map_err(|_| E::custom("integer out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let item = self.below()?;
        let mut array = Vec::new();
        while let Some(value) = items.next_element_seed(item)? {
            array.push(value);
        }
        Ok(CanonicalJsonValue::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let item = self.below()?;
        let mut object = CanonicalJsonObject::new();
        while let Some(key) = entries.next_key::<String>()? {
            match object.entry(key) {
                Entry::Vacant(place) => _ = place.insert(entries.next_value_seed(item)?),
                Entry::Occupied(place) => {
                    return Err(A::Error::custom(format_args!("key {:?} occurs twice", place.key())));
                }
            }
        }
        Ok(CanonicalJsonValue::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        canonical_object(text).ok().map(|object| serde_json::to_string(&object).unwrap())
    }

    #[test]
    fn keys_are_sorted_by_code_point_and_text_is_shortest() {
        assert_eq!(
            canonical(
                r#"{"本":2, "日":1, "\uD83D\uDE00":"\u65E5\u0009", "\uFF5E":3, "a":{"b":[null,true]}}"#
            )
            .as_deref(),
            Some(r#"{"a":{"b":[null,true]},"日":1,"本":2,"～":3,"😀":"日\t"}"#),
        );
    }

    #[test]
    fn a_repeated_key_is_refused_at_any_depth() {
        assert_eq!(canonical(r#"{"a":1,"a":1}"#), None);
        assert_eq!(canonical(r#"{"a":[{"b":1,"\u0062":2}]}"#), None);
    }

    #[test]
    fn numbers_are_integers_of_53_bits() {
        for good in ["9007199254740991", "-9007199254740991", "0", "10"] {
            assert_eq!(canonical(&format!(r#"{{"n":{good}}}"#)), Some(format!(r#"{{"n":{good}}}"#)));
        }
        for bad in ["9007199254740992", "-9007199254740992", "1.0", "1e3", "-0", "99999999999999999999"] {
            assert_eq!(canonical(&format!(r#"{{"n":{bad}}}"#)), None, "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| format!("{}{}{}", r#"{"a":"#.repeat(levels), 1, "}".repeat(levels));
        assert!(canonical(&nested(limits::JSON_DEPTH)).is_some());
        assert!(canonical(&nested(limits::JSON_DEPTH + 1)).is_none());
        assert!(canonical(&nested(1_000_000)).is_none());
    }

    #[test]
    fn only_one_object_is_taken() {
        for bad in ["[]", "1", "", "{} {}", "{", r#"{"a":"\ud800"}"#] {
            assert_eq!(canonical(bad), None, "{bad}");
        }
    }
}
