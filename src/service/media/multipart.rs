//! A body of `multipart/mixed` as it arrives: the heads of its parts, and their bytes.
//! <https://www.rfc-editor.org/rfc/rfc2046#section-5.1>

/// Reads a body piece by piece, of which it keeps no more than a head, or the length of a delimiter.
pub(super) struct Multipart {
    /// With the end of the line before it.
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Right behind a delimiter.
    Delimited,
    Head,
    Content,
    End,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A part begins, with these fields in the order in which they stand, names in lower case.
    Head(Vec<(String, Vec<u8>)>),
    /// The next bytes of the part.
    Content(Vec<u8>),
    /// The part is over.
    PartEnd,
    /// All parts were there.
    End,
}

/// It is no such body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Multipart {
    /// For an answer of this content type.
    pub(super) fn new(content_type: &str) -> Result<Self, Malformed> {
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/mixed")) {
            return Err(Malformed);
        }
        let parameter = |part: &str| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
        };
        let boundary = parts.find_map(parameter).filter(|boundary| (1..=BOUNDARY).contains(&boundary.len()));
        let delimiter = format!("\r\n--{}", boundary.ok_or(Malformed)?).into_bytes();
        // The first delimiter may be the first line.
        Ok(Self { delimiter, buffer: b"\r\n".to_vec(), state: State::Preamble })
    }

    /// Takes the next piece of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What comes next; none if that is still to arrive.
    pub(super) fn next(&mut self) -> Result<Option<Token>, Malformed> {
        loop {
            match self.state {
                State::Preamble => {
                    let Some(at) = find(&self.buffer, &self.delimiter) else {
                        return if self.buffer.len() > HEAD { Err(Malformed) } else { Ok(None) };
                    };
                    self.skip(at + self.delimiter.len());
                    self.state = State::Delimited;
                }
                State::Delimited if self.buffer.starts_with(b"--") => {
                    self.state = State::End;
                    self.buffer = Vec::new();
                }
                State::Delimited => {
                    let Some(at) = find(&self.buffer, b"\r\n") else {
                        return if self.buffer.len() > HEAD { Err(Malformed) } else { Ok(None) };
                    };
                    if !self.buffer[..at].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                        return Err(Malformed);
                    }
                    // The end of this line is that before the end of a head without fields.
                    self.skip(at);
                    self.state = State::Head;
                }
                State::Head => {
                    let Some(at) = find(&self.buffer, b"\r\n\r\n") else {
                        return if self.buffer.len() > HEAD { Err(Malformed) } else { Ok(None) };
                    };
                    let head = fields(&self.buffer[..at])?;
                    // An empty content is followed by the delimiter, whose end of a line stays.
                    self.skip(at + 4);
                    self.state = State::Content;
                    return Ok(Some(Token::Head(head)));
                }
                State::Content => {
                    if let Some(at) = find(&self.buffer, &self.delimiter) {
                        if at > 0 {
                            return Ok(Some(self.content(at)));
                        }
                        self.skip(self.delimiter.len());
                        self.state = State::Delimited;
                        return Ok(Some(Token::PartEnd));
                    }
                    // What may be the beginning of a delimiter waits.
                    let sure = (self.buffer.len() + 1).saturating_sub(self.delimiter.len());
                    return Ok((sure > 0).then(|| self.content(sure)));
                }
                State::End => return Ok(Some(Token::End)),
            }
        }
    }

    fn content(&mut self, length: usize) -> Token {
        let rest = self.buffer.split_off(length);
        Token::Content(std::mem::replace(&mut self.buffer, rest))
    }

    fn skip(&mut self, length: usize) {
        self.buffer.drain(..length);
    }
}

fn fields(head: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
    let mut fields = Vec::new();
    for line in head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed)?;
        let name = str::from_utf8(&line[..colon]).map_err(|_| Malformed)?;
        fields.push((name.trim().to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec()));
    }
    Ok(fields)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == wanted[0]) {
        if bytes[at + found..].starts_with(wanted) {
            return Some(at + found);
        }
        at += found + 1;
    }
    None
}

/// The longest boundary.
const BOUNDARY: usize = 70;
/// The longest head of a part, or what stands before the first.
const HEAD: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b \r\ncontent-type:text/plain\r\n\
                        Content-Disposition: inline; filename=\"a\"\r\n\r\nline\r\n--\r\n-b\r\n--b--\r\nafter";

    /// The parts of a body that arrives in pieces of this size; none where it isn't one, or not all of it.
    fn parts(body: &[u8], size: usize) -> Option<Vec<(Vec<String>, String)>> {
        let mut reader = Multipart::new("multipart/mixed; boundary=b").unwrap();
        let mut parts = Vec::new();
        let mut pieces = body.chunks(size);
        loop {
            match reader.next().ok()? {
                None => reader.feed(pieces.next()?),
                Some(Token::Head(fields)) => {
                    let texts = fields.into_iter();
                    let texts =
                        texts.map(|(name, value)| format!("{name}={}", String::from_utf8(value).unwrap()));
                    parts.push((texts.collect(), String::new()));
                }
                Some(Token::Content(bytes)) => {
                    parts.last_mut().unwrap().1.push_str(str::from_utf8(&bytes).unwrap());
                }
                Some(Token::PartEnd) => {}
                Some(Token::End) => return Some(parts),
            }
        }
    }

    #[test]
    fn a_body_is_read_however_it_arrives() {
        let first = (vec!["content-type=application/json".to_owned()], "{}".to_owned());
        let fields = ["content-type=text/plain", "content-disposition=inline; filename=\"a\""];
        let second = (fields.map(str::to_owned).to_vec(), "line\r\n--\r\n-b".to_owned());
        for size in 1..BODY.len() {
            assert_eq!(parts(BODY.as_bytes(), size), Some(vec![first.clone(), second.clone()]), "{size}");
        }
        let bare = "before\r\n--b\r\n\r\n{}\r\n--b\r\n\r\n\r\n--b--";
        let empty = |text: &str| (Vec::new(), text.to_owned());
        assert_eq!(parts(bare.as_bytes(), 7), Some(vec![empty("{}"), empty("")]));
    }

    #[test]
    fn what_breaks_off_or_is_no_such_body_is_none() {
        let end = BODY.find("--\r\nafter").unwrap();
        for length in 0..end {
            assert_eq!(parts(&BODY.as_bytes()[..length], 5), None, "{length}");
        }
        for body in ["--b\r\nno field\r\n\r\nx\r\n--b--", "--bc\r\n\r\nx\r\n--b--x", &"x".repeat(HEAD * 2)] {
            assert_eq!(parts(body.as_bytes(), 1_000), None, "{body:.20}");
        }
        for kind in ["multipart/mixed", "multipart/mixed; boundary=", "text/plain; boundary=b", ""] {
            assert!(Multipart::new(kind).is_err(), "{kind}");
        }
        let long = format!("multipart/mixed; boundary={}", "b".repeat(BOUNDARY + 1));
        assert!(Multipart::new(&long).is_err());
        assert!(Multipart::new("Multipart/Mixed; charset=x; Boundary=\"a b\"").is_ok());
    }
}
