//! The few tags of a page that tell what it is. Nothing else of it is kept, and little of them, whatever a page is made of;
//! and nothing is read of its body.
//! <https://html.spec.whatwg.org/multipage/parsing.html#tokenization>

use std::ops::ControlFlow;

use html5gum::{Emitter, Error, State, Tokenizer, naive_next_state};

use super::text::Decoder;
use crate::base::limits;

/// A part of a page that tells something.
#[derive(Debug)]
pub(super) enum Part {
    Tag(Tag),
    /// What a `<title>` has in it.
    Title(String),
}

/// One of [`TAGS`].
#[derive(Debug)]
pub(super) struct Tag {
    pub(super) name: &'static str,
    /// As [`ATTRIBUTES`].
    values: [Option<String>; ATTRIBUTES.len()],
}

const TAGS: [&str; 3] = ["base", "link", "meta"];
const ATTRIBUTES: [&str; 7] = ["charset", "content", "href", "http-equiv", "name", "property", "rel"];

impl Tag {
    /// The value of one of [`ATTRIBUTES`]. One that is too long is cut, and then longer than an address may be.
    pub(super) fn get(&self, attribute: &str) -> Option<&str> {
        self.values[position(&ATTRIBUTES, attribute.as_bytes())?].as_deref()
    }

    /// The same, which the tag then lacks.
    pub(super) fn take(&mut self, attribute: &str) -> Option<String> {
        self.values[position(&ATTRIBUTES, attribute.as_bytes())?].take()
    }
}

/// Shows the parts of a page up to its body, until that is enough.
pub(super) fn visit(page: Decoder<'_>, visit: &mut dyn FnMut(Part) -> ControlFlow<()>) {
    // There is one token: the end.
    _ = Tokenizer::new_with_emitter(page, Tags::new(visit)).next();
}

/// Takes what the tokenizer finds.
struct Tags<'a> {
    visit: &'a mut dyn FnMut(Part) -> ControlFlow<()>,
    is_over: bool,
    /// The name of the tag that opened last, of which not more is kept than tells it from others.
    opened: Vec<u8>,
    /// The tag that is being read.
    name: Vec<u8>,
    is_end: bool,
    attribute: Vec<u8>,
    value: Vec<u8>,
    values: [Option<String>; ATTRIBUTES.len()],
    /// The title that is being read.
    title: Option<Vec<u8>>,
}

impl<'a> Tags<'a> {
    fn new(visit: &'a mut dyn FnMut(Part) -> ControlFlow<()>) -> Self {
        Self {
            visit,
            is_over: false,
            opened: Vec::new(),
            name: Vec::new(),
            is_end: false,
            attribute: Vec::new(),
            value: Vec::new(),
            values: Default::default(),
            title: None,
        }
    }

    fn begin(&mut self, is_end: bool) {
        self.is_end = is_end;
        self.name.clear();
        self.attribute.clear();
        self.value.clear();
        self.values = Default::default();
    }

    /// The tag that is being read, if it is one to be shown.
    fn shown(&self) -> Option<&'static str> {
        if self.is_end { None } else { position(&TAGS, &self.name).map(|at| TAGS[at]) }
    }

    /// Ends an attribute. The first of a name holds.
    fn settle(&mut self) {
        if self.shown().is_some()
            && let Some(at) = position(&ATTRIBUTES, &self.attribute)
        {
            self.values[at].get_or_insert_with(|| text(&self.value));
        }
        self.attribute.clear();
        self.value.clear();
    }

    fn show(&mut self, part: Part) {
        self.is_over |= (self.visit)(part).is_break();
    }
}

impl Emitter for Tags<'_> {
    type Token = ();

    fn pop_token(&mut self) -> Option<()> {
        self.is_over.then_some(())
    }

    fn init_start_tag(&mut self) {
        self.begin(false);
    }

    fn init_end_tag(&mut self) {
        self.begin(true);
    }

    fn push_tag_name(&mut self, name: &[u8]) {
        add(&mut self.name, name, NAME_BYTES);
    }

    fn init_attribute(&mut self) {
        self.settle();
    }

    fn push_attribute_name(&mut self, name: &[u8]) {
        add(&mut self.attribute, name, NAME_BYTES);
    }

    fn push_attribute_value(&mut self, value: &[u8]) {
        if self.shown().is_some() {
            add(&mut self.value, value, limits::PREVIEW_VALUE_BYTES);
        }
    }

    fn emit_string(&mut self, text: &[u8]) {
        if let Some(title) = &mut self.title {
            add(title, text, limits::PREVIEW_VALUE_BYTES);
        }
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        self.settle();
        if self.is_end {
            self.opened.clear();
            if self.name == b"title"
                && let Some(title) = self.title.take()
            {
                self.show(Part::Title(text(&title)));
            }
            return None;
        }
        self.opened.clone_from(&self.name);
        if let Some(name) = self.shown() {
            let values = std::mem::take(&mut self.values);
            self.show(Part::Tag(Tag { name, values }));
        }
        match &self.name[..] {
            b"body" => self.is_over = true,
            b"title" => self.title = Some(Vec::new()),
            _ => {}
        }
        // What stands in a title or a script is no tag.
        naive_next_state(&self.opened)
    }

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        self.is_end && !self.opened.is_empty() && self.opened == self.name
    }

    fn set_last_start_tag(&mut self, name: Option<&[u8]>) {
        self.opened.clear();
        add(&mut self.opened, name.unwrap_or_default(), NAME_BYTES);
    }

    fn should_emit_errors(&mut self) -> bool {
        false
    }

    fn emit_eof(&mut self) {}
    fn emit_error(&mut self, _: Error) {}
    fn emit_current_comment(&mut self) {}
    fn emit_current_doctype(&mut self) {}
    fn init_comment(&mut self) {}
    fn init_doctype(&mut self) {}
    fn push_comment(&mut self, _: &[u8]) {}
    fn push_doctype_name(&mut self, _: &[u8]) {}
    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn set_force_quirks(&mut self) {}
    fn set_self_closing(&mut self) {}
}

/// Longer than any name that means something here.
const NAME_BYTES: usize = 16;

fn position(names: &[&str], name: &[u8]) -> Option<usize> {
    names.iter().position(|known| known.as_bytes() == name)
}

/// Adds as much as there is room for.
fn add(kept: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    kept.extend_from_slice(&bytes[..bytes.len().min(limit - kept.len())]);
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text[..text.floor_char_boundary(limits::PREVIEW_VALUE_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use html5gum::ForwardingEmitter;

    use super::{super::text::Encoding, *};

    /// The parts of a page, as text.
    fn parts(page: &str) -> Vec<String> {
        let mut parts = Vec::new();
        visit(Decoder::new(page.as_bytes(), Encoding::Utf8), &mut |part| {
            parts.push(match part {
                Part::Title(title) => format!("title {title}"),
                Part::Tag(mut tag) => {
                    let values =
                        ATTRIBUTES.map(|name| tag.take(name).map(|value| format!(" {name}={value}")));
                    tag.name.to_owned() + &values.map(Option::unwrap_or_default).concat()
                }
            });
            if parts.len() < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        parts
    }

    #[test]
    fn what_tells_something_is_shown() {
        for (page, expected) in [
            ("", &[][..]),
            ("<META Content='a&amp;b' content=c x=y property>", &["meta content=a&b property="]),
            ("<link rel=a href='/b'/><base href=c>", &["link href=/b rel=a", "base href=c"]),
            ("</meta name=a><p name=b>", &[]),
            ("<title>a</b></title ><title>c", &["title a</b>"]),
            ("<style></stylesheet><meta></style><meta name=a>", &["meta name=a"]),
            ("<metadata name=a><meta name=b", &[]),
            ("<meta name=a><body><meta name=b>", &["meta name=a"]),
            ("<base><base><base><base><base>", &["base"; 4]),
        ] {
            assert_eq!(parts(page), expected, "{page}");
        }
    }

    impl Tags<'_> {
        /// The memory that it has, in bytes.
        fn held(&self) -> usize {
            let names = [&self.opened, &self.name, &self.attribute, &self.value].map(Vec::capacity);
            let values = self.values.iter().flatten().map(String::capacity);
            names.into_iter().chain(values).sum::<usize>() + self.title.as_ref().map_or(0, Vec::capacity)
        }
    }

    /// Sees how much memory was had.
    struct Watched<'a>(Tags<'a>, &'a mut usize);

    impl ForwardingEmitter for Watched<'_> {
        type Token = ();

        fn inner(&mut self) -> &mut impl Emitter<Token = ()> {
            *self.1 = (*self.1).max(self.0.held());
            &mut self.0
        }
    }

    #[test]
    fn however_large_a_page_is_little_is_kept() {
        let size = limits::PREVIEW_PAGE_BYTES;
        let attributes: String = (0..size / 8).map(|number| format!(" a{number:06}")).collect();
        let long = "x".repeat(size);
        let values = ATTRIBUTES.map(|name| format!(" {name}='{long}'")).concat();
        for page in [
            format!("<p{attributes}>"),
            format!("<meta{attributes}>"),
            format!("</p{attributes}>"),
            format!("<meta{values}>"),
            format!("</meta{values}>"),
            format!("<meta {long}={long}>"),
            format!("<{long} {long}>"),
            format!("<title>{long}</{long}>"),
            format!("<!-- {long} -->{long}"),
            format!("<!doctype {long} public '{long}' '{long}'>"),
            "<meta content=a>".repeat(size / 16),
        ] {
            let mut most = 0;
            let mut visit = |_: Part| ControlFlow::Continue(());
            let emitter = Watched(Tags::new(&mut visit), &mut most);
            let decoder = Decoder::new(page.as_bytes(), Encoding::Utf8);
            assert!(Tokenizer::new_with_emitter(decoder, emitter).next().is_none());
            let bound = (ATTRIBUTES.len() + 4) * limits::PREVIEW_VALUE_BYTES;
            assert!(most <= bound, "{most} bytes are kept of {}", &page[..20]);
        }
        let invalid = [b"<meta content='", &[0xff; 4_000][..], b"'>"].concat();
        visit(Decoder::new(&invalid, Encoding::Utf8), &mut |part| {
            let Part::Tag(mut tag) = part else { panic!("{part:?}") };
            assert!(tag.take("content").unwrap().capacity() <= limits::PREVIEW_VALUE_BYTES);
            ControlFlow::Continue(())
        });
    }
}
