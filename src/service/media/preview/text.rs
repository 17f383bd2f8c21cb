//! The text of a page: its bytes are UTF-8, or one of the encodings by which browsers mean windows-1252. Those of any other
//! encoding are read as UTF-8, with replacement characters where they are none.
//! <https://encoding.spec.whatwg.org/#names-and-labels>

use std::{
    convert::Infallible,
    ops::{ControlFlow, Range},
};

use html5gum::Reader;

use super::tags::{Part, visit};
use crate::base::limits;

/// How the bytes of a page are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Windows1252,
}

/// The text of a page as UTF-8, while it is read. What is none in a page that should be is left as it is.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    encoding: Encoding,
    /// The last character, and which of its bytes are still to be read.
    character: [u8; 4],
    left: Range<usize>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self { rest: bytes, encoding, character: [0; 4], left: 0..0 }
    }

    /// A page, of which its content type may tell how to read it, or a byte order mark, or the page itself.
    /// <https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding>
    pub(super) fn of_page(bytes: &'a [u8], content_type: &str) -> Self {
        if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
            return Self::new(rest, Encoding::Utf8);
        }
        let label = charset(content_type).or_else(|| declared(bytes));
        let is_windows_1252 = label.is_some_and(|label| is_windows_1252(&label));
        Self::new(bytes, if is_windows_1252 { Encoding::Windows1252 } else { Encoding::Utf8 })
    }

    /// Whether the next byte is one of the text as it is of the page.
    fn is_plain(&self) -> bool {
        let is_plain = |byte: &u8| byte.is_ascii() || self.encoding == Encoding::Utf8;
        self.left.is_empty() && self.rest.first().is_some_and(is_plain)
    }
}

impl Reader for Decoder<'_> {
    type Error = Infallible;

    fn read_byte(&mut self) -> Result<Option<u8>, Infallible> {
        if let Some(at) = self.left.next() {
            return Ok(Some(self.character[at]));
        }
        let is_plain = self.is_plain();
        let Some((&byte, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        if is_plain {
            return Ok(Some(byte));
        }
        self.left = 1..character(byte).encode_utf8(&mut self.character).len();
        Ok(Some(self.character[0]))
    }

    fn try_read_string(&mut self, text: &[u8], case_sensitive: bool) -> Result<bool, Infallible> {
        // Such a text is ASCII.
        let Some((next, rest)) = self.rest.split_at_checked(text.len()) else { return Ok(false) };
        let is_it = next == text || !case_sensitive && next.eq_ignore_ascii_case(text);
        let is_read = is_it && self.left.is_empty();
        if is_read {
            self.rest = rest;
        }
        Ok(is_read)
    }

    fn read_until<'b>(
        &'b mut self,
        ends: &[u8],
        one: &'b mut [u8; 4],
    ) -> Result<Option<&'b [u8]>, Infallible> {
        let is_utf8 = self.encoding == Encoding::Utf8;
        let goes_on = |byte: &&u8| !ends.contains(byte) && (is_utf8 || byte.is_ascii());
        let length = if self.is_plain() { self.rest.iter().take_while(goes_on).count() } else { 0 };
        if length > 0 {
            let (text, rest) = self.rest.split_at(length);
            self.rest = rest;
            return Ok(Some(text));
        }
        let Some(byte) = self.read_byte()? else { return Ok(None) };
        one[0] = byte;
        Ok(Some(&one[..1]))
    }
}

/// The charset of a content type, in lower case.
fn charset(content_type: &str) -> Option<String> {
    let is_name = |name: &str| name.trim().eq_ignore_ascii_case("charset");
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.into_iter().find(|(name, _)| is_name(name))?;
    Some(value.trim().trim_matches(['"', '\'']).to_ascii_lowercase())
}

/// The charset that the beginning of a page declares.
fn declared(bytes: &[u8]) -> Option<String> {
    let start = &bytes[..bytes.len().min(limits::PREVIEW_CHARSET_BYTES)];
    let mut declared = None;
    visit(Decoder::new(start, Encoding::Utf8), &mut |part| {
        let Part::Tag(mut tag) = part else { return ControlFlow::Continue(()) };
        let mut attribute = |name: &str| tag.take(name).map(|value| value.trim().to_ascii_lowercase());
        let is_content_type = attribute("http-equiv").is_some_and(|name| name == "content-type");
        let content = attribute("content").filter(|_| is_content_type);
        declared = attribute("charset").or_else(|| charset(&content?)).filter(|_| tag.name == "meta");
        if declared.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    declared
}

fn is_windows_1252(label: &str) -> bool {
    const LABELS: [&str; 12] = [
        "ascii",
        "cp1252",
        "iso-8859-1",
        "iso8859-1",
        "iso88591",
        "iso_8859-1",
        "l1",
        "latin1",
        "us-ascii",
        "windows-1252",
        "x-cp1252",
        "ansi_x3.4-1968",
    ];
    LABELS.contains(&label)
}

/// <https://encoding.spec.whatwg.org/index-windows-1252.txt>
fn character(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], content_type: &str) -> String {
        let mut decoder = Decoder::of_page(bytes, content_type);
        let by_byte: Vec<u8> = std::iter::from_fn(|| decoder.read_byte().unwrap()).collect();
        let (mut decoder, mut by_text) = (Decoder::of_page(bytes, content_type), Vec::new());
        while let Some(text) = decoder.read_until(b"&<", &mut [0; 4]).unwrap() {
            by_text.extend_from_slice(text);
        }
        assert_eq!(by_byte, by_text);
        String::from_utf8_lossy(&by_text).into_owned()
    }

    #[test]
    fn a_page_is_read_as_it_says() {
        let latin = b"caf\xe9 \x80";
        for (content_type, before, expected) in [
            ("text/html; charset=ISO-8859-1", "", "café €"),
            ("text/html;charset=\"windows-1252\"", "", "café €"),
            ("text/html", "<meta charset=latin1>", "café €"),
            (
                "text/html",
                "<meta http-equiv='Content-Type' content='text/html; charset=iso-8859-1'>",
                "café €",
            ),
            // Who sends it knows better.
            ("text/html; charset=utf-8", "<meta charset=latin1>", "caf\u{fffd} \u{fffd}"),
            ("text/html", "<!-- <meta charset=latin1> -->", "caf\u{fffd} \u{fffd}"),
            ("text/html; charset=shift_jis", "", "caf\u{fffd} \u{fffd}"),
            ("", "\u{feff}<meta charset=latin1>", "caf\u{fffd} \u{fffd}"),
        ] {
            let page = [before.as_bytes(), latin].concat();
            assert!(decoded(&page, content_type).ends_with(expected), "{content_type}, {before}");
        }
        assert_eq!(decoded("é".as_bytes(), "text/html"), "é");
    }

    #[test]
    fn a_declaration_far_behind_does_not_count() {
        let far = [&vec![b' '; limits::PREVIEW_CHARSET_BYTES][..], b"<meta charset=latin1>\xe9"].concat();
        assert!(decoded(&far, "").ends_with('\u{fffd}'));
    }

    #[test]
    fn the_text_is_read_by_its_characters() {
        let mut decoder = Decoder::new(b"a\xe9DOCtype", Encoding::Windows1252);
        assert!(!decoder.try_read_string(b"b", true).unwrap());
        assert_eq!(decoder.read_until(b"t", &mut [0; 4]).unwrap(), Some(&b"a"[..]));
        assert_eq!(decoder.read_byte().unwrap(), Some(0xc3));
        assert!(!decoder.try_read_string(b"DOC", true).unwrap(), "in the middle of a character");
        assert_eq!(decoder.read_byte().unwrap(), Some(0xa9));
        assert!(!decoder.try_read_string(b"doctype", true).unwrap());
        assert!(decoder.try_read_string(b"doctype", false).unwrap());
        assert_eq!(decoder.read_until(b"t", &mut [0; 4]).unwrap(), None);
        let mut decoder = Decoder::new(b"<a", Encoding::Utf8);
        assert_eq!(decoder.read_until(b"<", &mut [0; 4]).unwrap(), Some(&b"<"[..]));
        assert!(!decoder.try_read_string(b"abc", true).unwrap());
    }
}
