//! JSON objects of room versions 1 to 5, whose numbers may be fractions and integers of any size.
//!
//! What is hashed and signed there is what Python's `json` module writes: it is what the network's servers did when
//! those rooms were made. An integer keeps its digits, `-0` loses its sign, and any other number is the shortest text
//! that reads back as the same double, with an exponent below 1e-4 and from 1e16 on.
//! <https://spec.matrix.org/v1.19/rooms/v1/#canonical-json>

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    ops::Deref,
};

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Error, value::RawValue};

use super::{JsonError, canonical_object};
use crate::base::limits;

/// A JSON object that may hold numbers for which canonical JSON has no place.
///
/// Nothing that reads the fields needs such a number, so `null` stands in its place and its text is kept aside. An
/// object without any is what [`canonical_object`] gives, and costs no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    fields: CanonicalJsonObject,
    /// The text of each such number, by its place: for each level a slash and the key, or the position in the array.
    numbers: BTreeMap<String, Box<str>>,
}

impl Object {
    /// Parses one object.
    ///
    /// # Errors
    /// The text is no JSON object, repeats a key, is nested too deep or holds a number beyond a double.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        if let Ok(fields) = canonical_object(text) {
            return Ok(fields.into());
        }
        let raw: &RawValue = serde_json::from_str(text)?;
        let mut numbers = BTreeMap::new();
        match parse(raw, limits::JSON_DEPTH, &mut String::new(), &mut numbers)? {
            CanonicalJsonValue::Object(fields) => Ok(Self { fields, numbers }),
            _ => Err(JsonError(Error::custom("not an object"))),
        }
    }

    /// The fields, if canonical JSON has a place for all that they hold.
    pub fn canonical(&self) -> Option<&CanonicalJsonObject> {
        self.numbers.is_empty().then_some(&self.fields)
    }

    /// The whole object in the one form that it is hashed in.
    pub fn text(&self) -> String {
        if self.numbers.is_empty() {
            return serde_json::to_string(&self.fields).expect("canonical JSON has a text");
        }
        let mut out = String::new();
        write_object(&self.fields, &mut String::new(), &self.numbers, &mut out);
        out
    }

    /// A field that is an integer, of whatever size.
    pub fn integer(&self, field: &str) -> Option<i128> {
        if let Some(number) = self.fields.get(field).and_then(CanonicalJsonValue::as_integer) {
            return Some(i64::from(number).into());
        }
        self.numbers.get(&at(field))?.parse().ok()
    }

    /// Sets a field.
    pub fn insert(&mut self, field: &str, value: CanonicalJsonValue) {
        self.remove(field);
        self.fields.insert(field.to_owned(), value);
    }

    /// Puts fields over its own.
    pub fn extend(&mut self, other: Self) {
        self.edit(|fields| other.fields.keys().for_each(|field| _ = fields.remove(field)));
        self.fields.extend(other.fields);
        self.numbers.extend(other.numbers);
    }

    /// Sets a field to an object, with the numbers in that.
    pub fn insert_object(&mut self, field: &str, object: Self) {
        self.insert(field, object.fields.into());
        let place = at(field);
        let numbers = object.numbers.into_iter().map(|(inner, number)| (format!("{place}{inner}"), number));
        self.numbers.extend(numbers);
    }

    /// Sets a field to an integer, which may be too large for canonical JSON.
    pub fn insert_integer(&mut self, field: &str, number: u64) {
        if let Ok(number) = Int::try_from(number) {
            return self.insert(field, CanonicalJsonValue::Integer(number));
        }
        self.insert(field, CanonicalJsonValue::Null);
        self.numbers.insert(at(field), number.to_string().into());
    }

    /// Takes a field away and gives what it was, numbers aside.
    pub fn remove(&mut self, field: &str) -> Option<CanonicalJsonValue> {
        self.edit(|fields| fields.remove(field))
    }

    /// Changes fields. What it removes goes with the numbers in it.
    pub fn edit<T>(&mut self, change: impl FnOnce(&mut CanonicalJsonObject) -> T) -> T {
        let result = change(&mut self.fields);
        let Self { fields, numbers } = self;
        numbers.retain(|place, _| stands(fields, place));
        result
    }
}

impl From<CanonicalJsonObject> for Object {
    fn from(fields: CanonicalJsonObject) -> Self {
        Self { fields, numbers: BTreeMap::new() }
    }
}

/// In the fields, `null` stands where there is a number that canonical JSON has no place for.
impl Deref for Object {
    type Target = CanonicalJsonObject;

    fn deref(&self) -> &CanonicalJsonObject {
        &self.fields
    }
}

fn parse(
    raw: &RawValue,
    depth: usize,
    place: &mut String,
    numbers: &mut BTreeMap<String, Box<str>>,
) -> Result<CanonicalJsonValue, Error> {
    let text = raw.get();
    let depth = || depth.checked_sub(1).ok_or_else(|| Error::custom("nested too deep"));
    match text.as_bytes().first() {
        Some(b'{') => {
            let depth = depth()?;
            let mut object = CanonicalJsonObject::new();
            for (key, raw) in serde_json::from_str::<Members<'_>>(text)?.0 {
                let value = within(place, &key, |place| parse(raw, depth, place, numbers))?;
                match object.entry(key) {
                    Entry::Vacant(free) => _ = free.insert(value),
                    Entry::Occupied(taken) => {
                        return Err(Error::custom(format_args!("key {:?} occurs twice", taken.key())));
                    }
                }
            }
            Ok(CanonicalJsonValue::Object(object))
        }
        Some(b'[') => {
            let depth = depth()?;
            let items = serde_json::from_str::<Vec<&RawValue>>(text)?.into_iter().enumerate();
            let items = items
                .map(|(at, raw)| within(place, &at.to_string(), |place| parse(raw, depth, place, numbers)));
            Ok(CanonicalJsonValue::Array(items.collect::<Result<_, _>>()?))
        }
        Some(b'-' | b'0'..=b'9') => Ok(match integer(text) {
            Some(number) => CanonicalJsonValue::Integer(number),
            None => {
                let number = fraction(text).ok_or_else(|| Error::custom("number out of range"))?;
                numbers.insert(place.clone(), number.into());
                CanonicalJsonValue::Null
            }
        }),
        _ => serde_json::from_str(text),
    }
}

/// The members of an object, in their order, repeated keys included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A number as Python writes it; none if no double is as large.
pub(super) fn number(text: &str) -> Option<String> {
    integer(text).map(|number| number.to_string()).or_else(|| fraction(text))
}

/// A number that is an integer of 53 bits.
fn integer(text: &str) -> Option<Int> {
    text.parse().ok().and_then(|number: i64| Int::new(number))
}

/// One that is none.
fn fraction(text: &str) -> Option<String> {
    if !text.contains(['.', 'e', 'E']) {
        return Some(text.to_owned());
    }
    let double: f64 = text.parse().ok().filter(|double: &f64| double.is_finite())?;
    let sign = if double.is_sign_negative() { "-" } else { "" };
    let shortest = format!("{:e}", double.abs());
    let (mantissa, exponent) = shortest.split_once('e')?;
    let digits = mantissa.replace('.', "");
    // Where the point stands in the digits.
    let point = exponent.parse::<i32>().ok()? + 1;
    Some(match usize::try_from(point) {
        _ if !(FIRST_POINT..=LAST_POINT).contains(&point) => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            let exponent = point - 1;
            let direction = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{first}{dot}{rest}e{direction}{:02}", exponent.abs())
        }
        Ok(point) if point >= digits.len() => format!("{sign}{digits:0<point$}.0"),
        Ok(point) if point > 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
    })
}

fn write_object(
    object: &CanonicalJsonObject,
    place: &mut String,
    numbers: &BTreeMap<String, Box<str>>,
    out: &mut String,
) {
    out.push('{');
    for (at, (key, value)) in object.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(key).expect("a string has a text"));
        out.push(':');
        within(place, key, |place| write(value, place, numbers, out));
    }
    out.push('}');
}

fn write(
    value: &CanonicalJsonValue,
    place: &mut String,
    numbers: &BTreeMap<String, Box<str>>,
    out: &mut String,
) {
    match value {
        CanonicalJsonValue::Object(object) => write_object(object, place, numbers, out),
        CanonicalJsonValue::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                within(place, &at.to_string(), |place| write(item, place, numbers, out));
            }
            out.push(']');
        }
        CanonicalJsonValue::Null if numbers.contains_key(place.as_str()) => out.push_str(&numbers[place]),
        other => out.push_str(&serde_json::to_string(other).expect("canonical JSON has a text")),
    }
}

/// Whether a number stands at a place.
fn stands(fields: &CanonicalJsonObject, place: &str) -> bool {
    let mut keys = place.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"));
    let first = keys.next().and_then(|key| fields.get(&key));
    let found = keys.try_fold(first, |value, key| match value? {
        CanonicalJsonValue::Object(object) => Some(object.get(&key)),
        CanonicalJsonValue::Array(items) => Some(key.parse::<usize>().ok().and_then(|at| items.get(at))),
        _ => None,
    });
    found.flatten() == Some(&CanonicalJsonValue::Null)
}

/// Does something at the place one level down.
fn within<T>(place: &mut String, key: &str, work: impl FnOnce(&mut String) -> T) -> T {
    let length = place.len();
    go_below(place, key);
    let done = work(place);
    place.truncate(length);
    done
}

fn go_below(place: &mut String, key: &str) {
    place.push('/');
    place.push_str(&key.replace('~', "~0").replace('/', "~1"));
}

/// The place of a field.
fn at(field: &str) -> String {
    let mut place = String::new();
    go_below(&mut place, field);
    place
}

/// A number whose point is before the first of these or behind the last has an exponent.
const FIRST_POINT: i32 = -3;
const LAST_POINT: i32 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(json: &str) -> Option<String> {
        Object::parse(json).ok().map(|object| object.text())
    }

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        // Made with `canonicaljson` 2.0.0 under Python 3.11.
        for (number, expected) in [
            ("1.0", "1.0"),
            ("1e10", "10000000000.0"),
            ("1.5E-7", "1.5e-07"),
            ("-0.0", "-0.0"),
            ("-0", "0"),
            ("0.0", "0.0"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("123456789012345680.0", "1.2345678901234568e+17"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("2e-4", "0.0002"),
            ("5.114698E4", "51146.98"),
            ("50.57", "50.57"),
            ("100.00", "100.0"),
            ("1E+2", "100.0"),
            ("3.141592653589793238", "3.141592653589793"),
            ("12345.678e-2", "123.45678"),
            ("1e23", "1e+23"),
            ("1e100", "1e+100"),
            ("-1e-10", "-1e-10"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"),
            ("9007199254740992", "9007199254740992"),
            ("-9007199254740993", "-9007199254740993"),
            ("99999999999999999999999", "99999999999999999999999"),
        ] {
            let found = text(&format!(r#"{{"n":{number}}}"#));
            assert_eq!(found, Some(format!(r#"{{"n":{expected}}}"#)), "{number}");
        }
        for bad in ["1e309", "-1e309", "NaN", "Infinity", "01", "1.", "+1"] {
            assert_eq!(text(&format!(r#"{{"n":{bad}}}"#)), None, "{bad}");
        }
    }

    /// <https://spec.matrix.org/v1.19/appendices/#examples>
    #[test]
    fn the_specifications_examples_are_written_as_there() {
        for (given, expected) in [
            ("{}", "{}"),
            (r#"{ "one": 1, "two": "Two" }"#, r#"{"one":1,"two":"Two"}"#),
            (r#"{ "b": "2", "a": "1" }"#, r#"{"a":"1","b":"2"}"#),
            (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
            (
                r#"{
                    "auth": {
                        "success": true, "mxid": "@john.doe:example.com",
                        "profile": {
                            "display_name": "John Doe",
                            "three_pids": [
                                { "medium": "email", "address": "john.doe@example.org" },
                                { "medium": "msisdn", "address": "123456789" }
                            ]
                        }
                    }
                }"#,
                concat!(
                    r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","#,
                    r#""three_pids":[{"address":"john.doe@example.org","medium":"email"},"#,
                    r#"{"address":"123456789","medium":"msisdn"}]},"success":true}}"#,
                ),
            ),
            (r#"{ "a": "日本語" }"#, r#"{"a":"日本語"}"#),
            (r#"{ "本": 2, "日": 1 }"#, r#"{"日":1,"本":2}"#),
            (r#"{ "a": "\u65E5" }"#, r#"{"a":"日"}"#),
            (r#"{ "a": null }"#, r#"{"a":null}"#),
            (r#"{ "a": -0 }"#, r#"{"a":0}"#),
        ] {
            let object = Object::parse(given).unwrap();
            assert_eq!(object.text(), expected);
            assert!(object.canonical().is_some());
        }
        // The last example has an exponent too, as which the network never wrote an integer: to it that is a fraction.
        let object = Object::parse(r#"{ "a": -0, "b": 1e10 }"#).unwrap();
        assert_eq!(object.text(), r#"{"a":0,"b":10000000000.0}"#);
        assert!(object.canonical().is_none());
    }

    #[test]
    fn the_rest_is_canonical_at_any_depth() {
        assert_eq!(
            text(r#" { "b/~": [ { "z": 1.50, "a": null }, "\u65E5\u0009", true, 7 ], "a": { "b/~": 1E1 } }"#)
                .as_deref(),
            Some(r#"{"a":{"b/~":10.0},"b/~":[{"a":null,"z":1.5},"日\t",true,7]}"#),
        );
        for bad in [
            r#"{"a":1.5,"a":1}"#,
            r#"{"x":1.5,"a":[{"b":1,"\u0062":2}]}"#,
            r#"{"x":1.5} {}"#,
            r#"{"x":1.5,"a":"\ud800"}"#,
            "[1.5]",
            "1.5",
        ] {
            assert_eq!(text(bad), None, "{bad}");
        }
        let nested = |levels: usize| text(&format!("{}1.5{}", r#"{"a":"#.repeat(levels), "}".repeat(levels)));
        assert!(nested(limits::JSON_DEPTH).is_some());
        assert!(nested(limits::JSON_DEPTH + 1).is_none());
        assert!(nested(100_000).is_none());
    }

    #[test]
    fn objects_are_put_together_with_their_numbers() {
        let object = |text| Object::parse(text).unwrap();
        let mut outer = object(r#"{"a":0.5,"b":[1.5],"c":2.5}"#);
        outer.extend(object(r#"{"a":[{"~":3.5}],"c":null,"d":4.5}"#));
        assert_eq!(outer.text(), r#"{"a":[{"~":3.5}],"b":[1.5],"c":null,"d":4.5}"#);
        let mut whole = object(r#"{"x/y":{"b":[5.5]}}"#);
        whole.insert_object("x/y", outer);
        assert_eq!(whole.text(), r#"{"x/y":{"a":[{"~":3.5}],"b":[1.5],"c":null,"d":4.5}}"#);
    }

    #[test]
    fn what_is_removed_takes_its_numbers_along() {
        let mut object = Object::parse(r#"{"a":[{"x":0.5}],"b":1.5,"c":18446744073709551615}"#).unwrap();
        assert_eq!(object.integer("c"), Some(u64::MAX.into()));
        assert_eq!(object.integer("b"), None);
        object.edit(|fields| fields.insert("a".to_owned(), CanonicalJsonValue::Array(Vec::new())));
        assert_eq!(object.text(), r#"{"a":[],"b":1.5,"c":18446744073709551615}"#);
        object.insert("b", CanonicalJsonValue::Null);
        object.insert_integer("c", 3);
        assert_eq!(object.text(), r#"{"a":[],"b":null,"c":3}"#);
        assert!(object.canonical().is_some());
        object.insert_integer("c", u64::MAX);
        assert_eq!(object.text(), r#"{"a":[],"b":null,"c":18446744073709551615}"#);
        assert!(object.canonical().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_double_reads_back_as_itself(bits in any::<u64>()) {
            let double = f64::from_bits(bits);
            prop_assume!(double.is_finite());
            let written = number(&format!("{double:e}")).unwrap();
            prop_assert_eq!(written.parse::<f64>().unwrap().to_bits(), bits);
            prop_assert_eq!(number(&written), Some(written));
        }
    }
}
