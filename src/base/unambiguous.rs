//! Any JSON from outside that is not an event, floats included, is checked here before anything typed is made of it:
//! no duplicate keys, which two readers could read differently, and no nesting so deep that it is an attack.
//!
//! Canonical JSON, which is stricter, is [`json`](super::json)'s.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use super::limits;

/// Why bytes are no JSON that this server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the body is not valid JSON")]
    Malformed,
    #[error("the JSON has duplicate keys or is nested too deeply")]
    Refused,
}

/// Checks that `bytes` are one JSON value without duplicate keys, nested at most [`limits::JSON_DEPTH`] deep.
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { depth: 0 }.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| if error.is_data() { Fault::Refused } else { Fault::Malformed })
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == limits::JSON_DEPTH {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let item = self.deeper()?;
        while items.next_element_seed(item)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let value = self.deeper()?;
        let mut seen = Seen::default();
        while let Some(Key(key)) = entries.next_key()? {
            if !seen.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
            entries.next_value_seed(value)?;
        }
        Ok(())
    }
}

/// A key, borrowed unless it holds escapes: `"a"` and `"\u0061"` are one key.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The keys of one object. Nearly all have few, which are compared faster than hashed.
#[derive(Default)]
struct Seen<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Seen<'a> {
    /// Adds a key; false if it is there.
    fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.few.contains(&key) {
            return false;
        }
        if self.few.len() == FEW {
            return self.many.insert(key);
        }
        self.few.push(key);
        true
    }
}

/// As many keys are compared one by one.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_passes() {
        for good in
            ["null", "true", "-1", "1.5e3", r#""x""#, "[]", "{}", r#" {"a":[1,{"a":2}],"b":{"a":3}} "#]
        {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn malformed_is_told_from_refused() {
        for bad in ["", "{", "{]", "nul", r#"{"a":1,}"#, "1 2", r#""\ud800""#] {
            assert_eq!(check(bad.as_bytes()), Err(Fault::Malformed), "{bad}");
        }
        assert_eq!(check(b"\"\xff\""), Err(Fault::Malformed));
    }

    #[test]
    fn duplicate_keys_are_refused_however_they_are_written() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"x":{"b":1,"c":2,"b":3}}]"#] {
            assert_eq!(check(twice.as_bytes()), Err(Fault::Refused), "{twice}");
        }
    }

    #[test]
    fn duplicate_keys_are_found_among_many() {
        let keys = 3 * FEW;
        let object = |last: usize| {
            let keys: Vec<_> = (0..keys).chain([last]).map(|n| format!(r#""{n}":0"#)).collect();
            format!("{{{}}}", keys.join(","))
        };
        assert_eq!(check(object(keys).as_bytes()), Ok(()));
        for twice in 0..keys {
            assert_eq!(check(object(twice).as_bytes()), Err(Fault::Refused), "{twice}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(nested(limits::JSON_DEPTH).as_bytes()), Ok(()));
        assert_eq!(check(nested(limits::JSON_DEPTH + 1).as_bytes()), Err(Fault::Refused));
        assert_eq!(check("[".repeat(1 << 20).as_bytes()), Err(Fault::Refused));
    }
}
