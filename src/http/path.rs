//! The variables of a path, percent-decoded. What does not decode to UTF-8 is refused, never guessed.

use crate::api::Error;

/// Decodes one segment of a path.
pub(super) fn decode(segment: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => match (hex(rest.next()), hex(rest.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(Error::invalid_param("The path has an incomplete percent-encoding")),
            },
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid_param("The path does not decode to UTF-8"))
}

fn hex(digit: Option<u8>) -> Option<u8> {
    char::from(digit?).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_once() {
        assert_eq!(decode("%21a%3Ab+c").unwrap(), "!a:b+c");
        assert_eq!(decode("%252F").unwrap(), "%2F");
        assert_eq!(decode("%C3%A9é").unwrap(), "éé");
    }

    #[test]
    fn what_does_not_decode_is_refused() {
        for bad in ["%", "%4", "%zz", "%ff", "%C3", "a%+1"] {
            assert_eq!(decode(bad).unwrap_err().status(), 400, "{bad}");
        }
    }
}
