//! The text of a page: its bytes are UTF-8, or one of the encodings by which browsers mean windows-1252. Those of any other
//! encoding are read as UTF-8, with replacement characters where they are none.
//! <https://encoding.spec.whatwg.org/#names-and-labels>

use std::borrow::Cow;

use html5gum::{Token, Tokenizer};

use crate::base::limits;

/// The text of a page, which its content type may tell how to read, or a byte order mark, or the page itself.
/// <https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding>
pub(super) fn decoded<'a>(bytes: &'a [u8], content_type: &str) -> Cow<'a, str> {
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return String::from_utf8_lossy(rest);
    }
    match charset(content_type).or_else(|| declared(bytes)) {
        Some(label) if is_windows_1252(&label) => Cow::Owned(bytes.iter().copied().map(character).collect()),
        _ => String::from_utf8_lossy(bytes),
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
    for Ok(token) in Tokenizer::new(start) {
        let Token::StartTag(tag) = token else { continue };
        if *tag.name != b"meta" {
            continue;
        }
        let attribute = |name: &[u8]| {
            let value = tag.attributes.get(name)?;
            Some(String::from_utf8_lossy(value).trim().to_ascii_lowercase())
        };
        let is_content_type = attribute(b"http-equiv").is_some_and(|name| name == "content-type");
        let content = attribute(b"content").filter(|_| is_content_type);
        if let Some(label) = attribute(b"charset").or_else(|| charset(&content?)) {
            return Some(label);
        }
    }
    None
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
}
