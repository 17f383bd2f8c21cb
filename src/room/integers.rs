//! Contents in integers of 53 bits, though room versions 1 to 5 may write fractions and integers of any size: so the
//! rules read power levels, and so what is said in such a room is said again in one that replaces it.
//!
//! A fraction is cut off at its point. The specification has no bound for an integer; here one beyond 53 bits counts
//! as the last one that fits, so that who stands above whom stays.
//! <https://spec.matrix.org/v1.19/rooms/v1/#mroompower_levels-events-accept-values-as-floats>

use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::base::limits;

/// The same content with integers of 53 bits in place of all other numbers; none if it has no others.
pub(super) fn whole(content: &RawValue) -> Option<Box<RawValue>> {
    if !has_others(content.get()) {
        return None;
    }
    let mut content = serde_json::from_str(content.get()).ok()?;
    cut(&mut content);
    to_raw_value(&content).ok()
}

/// Whether a text may hold a number that is no integer of 53 bits. Later room versions pay no more than this look.
fn has_others(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut digits = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => _ = bytes.next(),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'.' => return true,
            b'e' | b'E' if digits > 0 => return true,
            b'0'..=b'9' => {
                digits += 1;
                if digits >= MANY_DIGITS {
                    return true;
                }
                continue;
            }
            _ => {}
        }
        digits = 0;
    }
    false
}

fn cut(value: &mut Value) {
    match value {
        Value::Number(number) => {
            const MAX: i64 = limits::MAX_INTEGER.cast_signed();
            // The cast cuts at the point and stops at the ends of its range.
            let integer = number.as_i64().or(number.as_f64().map(|number| number as i64));
            *value = integer.unwrap_or_default().clamp(-MAX, MAX).into();
        }
        Value::Array(items) => items.iter_mut().for_each(cut),
        Value::Object(fields) => fields.values_mut().for_each(cut),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// No integer of so few digits is beyond 53 bits.
const MANY_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(content: &str) -> Option<String> {
        let content = RawValue::from_string(content.to_owned()).unwrap();
        whole(&content).map(|content| content.get().to_owned())
    }

    #[test]
    fn fractions_are_cut_and_large_integers_bounded() {
        let users =
            r#"{"a":50.57,"b":-50.57,"c":5.114698e4,"d":1e+300,"e":-99999999999999999999,"f":"50.5"}"#;
        let expected = r#"{"a":50,"b":-50,"c":51146,"d":9007199254740991,"e":-9007199254740991,"f":"50.5"}"#;
        assert_eq!(told(users).as_deref(), Some(expected));
        assert_eq!(told("{\"ban\":9223372036854775807}").as_deref(), Some("{\"ban\":9007199254740991}"));
    }

    #[test]
    fn what_has_no_such_number_is_left_alone() {
        for content in [
            r#"{"ban":50,"users":{"@a:1.2.3.4":100,"@1e5:x":-100,"\"1.5":999999999999999},"x":[true,false,null]}"#,
            "{}",
        ] {
            assert_eq!(told(content), None);
        }
    }
}
