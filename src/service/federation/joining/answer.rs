//! Takes an answer to a join apart as it arrives: it may be far larger than memory, and its events come one by one.
//!
//! Here only strings and brackets are told apart: whether an event is JSON finds out who reads it.

use crate::base::limits;

/// A list of events in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    State,
    AuthChain,
}

/// A part of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// An event of a list, as its text.
    Event(List, Vec<u8>),
    /// The event that was sent, as the server signed it.
    Own(Vec<u8>),
}

/// The answer is no JSON object, or breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is no JSON object of its kind")]
pub(super) struct Malformed;

/// How far an answer was taken apart.
#[derive(Debug)]
pub(super) struct Splitter {
    at: At,
    /// The name of the field that is being read.
    name: Vec<u8>,
    /// The answer is the second item of an array, as the first version of the endpoint has it.
    wrapped: bool,
}

#[derive(Debug)]
enum At {
    Begin,
    /// Before a name, or the end of the object.
    Name,
    InName {
        escaped: bool,
    },
    Colon,
    Value,
    /// Before an item of a list, or its end.
    Item(List),
    Inside(Option<List>, Inside),
    End,
}

/// A value that is being read.
#[derive(Debug, Default)]
struct Inside {
    text: Vec<u8>,
    is_large: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

/// What a byte was to a value.
enum Step {
    Part,
    Last,
    /// It belongs to what follows.
    Behind,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { at: At::Begin, name: Vec::new(), wrapped: false }
    }
}

impl Splitter {
    /// Takes the next bytes, and adds the parts that are whole.
    ///
    /// # Errors
    /// It is no answer.
    pub(super) fn feed(&mut self, bytes: &[u8], parts: &mut Vec<Part>) -> Result<(), Malformed> {
        bytes.iter().try_for_each(|byte| self.take(*byte, parts))
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// It breaks off.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        if matches!(self.at, At::End) { Ok(()) } else { Err(Malformed) }
    }

    fn take(&mut self, byte: u8, parts: &mut Vec<Part>) -> Result<(), Malformed> {
        let is_between = byte.is_ascii_whitespace() || byte == b',';
        match &mut self.at {
            At::Begin => match byte {
                b'{' => self.at = At::Name,
                b'[' if !self.wrapped => self.wrapped = true,
                _ if byte.is_ascii_whitespace() => {}
                b',' | b'0'..=b'9' if self.wrapped => {}
                _ => return Err(Malformed),
            },
            At::Name => match byte {
                b'"' => {
                    self.name.clear();
                    self.at = At::InName { escaped: false };
                }
                b'}' => self.at = At::End,
                _ if is_between => {}
                _ => return Err(Malformed),
            },
            At::InName { escaped } => match byte {
                b'"' if !*escaped => self.at = At::Colon,
                _ if self.name.len() == limits::EVENT_FIELD_BYTES => return Err(Malformed),
                _ => {
                    *escaped = byte == b'\\' && !*escaped;
                    self.name.push(byte);
                }
            },
            At::Colon => match byte {
                b':' => self.at = At::Value,
                _ if byte.is_ascii_whitespace() => {}
                _ => return Err(Malformed),
            },
            At::Value => match (byte, self.list()) {
                (b'[', Some(list)) => self.at = At::Item(list),
                (_, Some(_)) if !byte.is_ascii_whitespace() => return Err(Malformed),
                _ if byte.is_ascii_whitespace() => {}
                _ => {
                    self.at = At::Inside(None, Inside::default());
                    self.take(byte, parts)?;
                }
            },
            At::Item(list) => match byte {
                b']' => self.at = At::Name,
                b'{' => {
                    self.at = At::Inside(Some(*list), Inside::default());
                    self.take(byte, parts)?;
                }
                _ if is_between => {}
                _ => return Err(Malformed),
            },
            At::Inside(list, inside) => {
                let step = inside.take(byte);
                if matches!(step, Step::Part) {
                    return Ok(());
                }
                let (list, text) = (*list, std::mem::take(&mut inside.text));
                let is_large = inside.is_large;
                match list {
                    _ if is_large => {}
                    Some(list) => parts.push(Part::Event(list, text)),
                    None if self.name == b"event" => parts.push(Part::Own(text)),
                    None => {}
                }
                self.at = list.map_or(At::Name, At::Item);
                if matches!(step, Step::Behind) {
                    self.take(byte, parts)?;
                }
            }
            At::End if byte.is_ascii_whitespace() || self.wrapped && byte == b']' => {}
            At::End => return Err(Malformed),
        }
        Ok(())
    }

    fn list(&self) -> Option<List> {
        match &self.name[..] {
            b"state" => Some(List::State),
            b"auth_chain" => Some(List::AuthChain),
            _ => None,
        }
    }
}

impl Inside {
    fn take(&mut self, byte: u8) -> Step {
        if !self.in_string && self.depth == 0 && matches!(byte, b',' | b'}' | b']') {
            return Step::Behind;
        }
        if self.text.len() == limits::JOIN_EVENT_BYTES {
            (self.is_large, self.text) = (true, Vec::new());
        }
        if !self.is_large {
            self.text.push(byte);
        }
        if self.in_string {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
                return if self.depth == 0 { Step::Last } else { Step::Part };
            }
            return Step::Part;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    return Step::Last;
                }
            }
            _ => {}
        }
        Step::Part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a text that comes in pieces of so many bytes.
    fn split(text: &str, piece: usize) -> Result<Vec<String>, Malformed> {
        let (mut splitter, mut parts) = (Splitter::default(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            splitter.feed(bytes, &mut parts)?;
        }
        splitter.finish()?;
        let shown = |part: Part| match part {
            Part::Event(list, text) => format!("{list:?} {}", String::from_utf8(text).unwrap()),
            Part::Own(text) => format!("Own {}", String::from_utf8(text).unwrap()),
        };
        Ok(parts.into_iter().map(shown).collect())
    }

    #[test]
    fn events_come_out_one_by_one_however_the_text_is_cut() {
        let text = r#" {"origin":"a,b}]\"{" , "n": -1.5e3,"t":true,"auth_chain" : [ {"a":"]}\\"} , {"b":[{}]}],
            "x":{"state":[{"no":1}]},"state":[],"event":{"c":{}},"servers":["a"],"state":[{"d":1}]} "#;
        let expected =
            [r#"AuthChain {"a":"]}\\"}"#, r#"AuthChain {"b":[{}]}"#, r#"Own {"c":{}}"#, r#"State {"d":1}"#];
        for piece in 1..=text.len() {
            assert_eq!(split(text, piece).unwrap(), expected, "{piece}");
            assert_eq!(split(&format!("[200, {text}]"), piece).unwrap(), expected, "{piece}");
        }
        assert_eq!(split("{}", 1).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_answer_or_breaks_off_is_refused() {
        let whole = r#"{"state":[{"a":1}],"event":{"b":[1]},"auth_chain":[{"c":2}]}"#;
        for length in 0..whole.len() {
            assert_eq!(split(&whole[..length], 7), Err(Malformed), "{}", &whole[..length]);
        }
        for text in [
            r#"{"state":{}}"#,
            r#"{"state":["a"]}"#,
            r#"{"state":[1]}"#,
            "[]",
            "1",
            "{}{}",
            "{}]",
            "{a:1}",
            "[[{}]]",
        ] {
            assert_eq!(split(text, 3), Err(Malformed), "{text}");
        }
        assert_eq!(split(&format!(r#"{{"{}":1}}"#, "a".repeat(300)), 9), Err(Malformed));
    }

    #[test]
    fn what_is_larger_than_an_event_can_be_is_passed_over() {
        let large = "a".repeat(limits::JOIN_EVENT_BYTES);
        let text = format!(r#"{{"x":"{large}","state":[{{"a":"{large}"}},{{"b":1}}]}}"#);
        assert_eq!(split(&text, 1_000).unwrap(), [r#"State {"b":1}"#]);
    }
}
