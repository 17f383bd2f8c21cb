//! What a page says of itself: the properties of Open Graph, and where it lacks them, what it says to others. Pure.
//! <https://ogp.me/>

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::ControlFlow,
};

use url::Url;

use super::{
    tags::{Part, Tag, visit},
    text::Decoder,
};
use crate::base::limits;

/// What a page says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// By their names, such as `og:title`; without those of pictures, of which only `og:image:alt` is the page's to say.
    pub(super) properties: BTreeMap<String, String>,
    /// Its first picture.
    pub(super) image: Option<Url>,
}

/// What was found in a page, each where it was found first.
#[derive(Default)]
struct Found {
    base: Option<String>,
    title: Option<String>,
    /// By the name in lower case.
    named: BTreeMap<String, String>,
    /// By `<link rel="image_src">`.
    image: Option<String>,
}

impl Page {
    /// Reads a page that was had at a URL.
    pub(super) fn read(page: Decoder<'_>, url: &Url) -> Self {
        let mut found = Found::default();
        visit(page, &mut |part| {
            found.add(part);
            ControlFlow::Continue(())
        });
        let joined = |base: &Url, address: &String| {
            let is_whole = address.len() <= limits::PREVIEW_URL_BYTES;
            base.join(address.trim()).ok().filter(|_| is_whole)
        };
        let base = found.base.take().and_then(|base| joined(url, &base));
        let base = base.as_ref().unwrap_or(url);
        let image = ["og:image:secure_url", "og:image", "og:image:url", "twitter:image", "twitter:image:src"]
            .into_iter()
            .filter_map(|name| found.named.get(name))
            .chain(&found.image)
            .filter_map(|address| joined(base, address))
            .find(|address| matches!(address.scheme(), "http" | "https"));
        Self { properties: found.properties(), image }
    }
}

impl Found {
    fn add(&mut self, part: Part) {
        match part {
            Part::Title(title) => _ = self.title.get_or_insert(title),
            Part::Tag(mut tag) => match tag.name {
                "meta" => self.meta(tag),
                "base" if self.base.is_none() => self.base = tag.take("href"),
                "link" if self.image.is_none() && is_image_link(&tag) => self.image = tag.take("href"),
                _ => {}
            },
        }
    }

    fn meta(&mut self, mut tag: Tag) {
        let name = tag.take("property").or_else(|| tag.take("name"));
        let Some((name, content)) = name.zip(tag.take("content")) else { return };
        let name = name.trim().to_ascii_lowercase();
        let is_known = name == "description" || name.starts_with("og:") || name.starts_with("twitter:");
        if !is_known || name.len() > limits::PREVIEW_NAME_BYTES || content.trim().is_empty() {
            return;
        }
        if self.named.len() < 2 * limits::PREVIEW_PROPERTIES
            && let Entry::Vacant(entry) = self.named.entry(name)
        {
            entry.insert(content);
        }
    }

    fn properties(mut self) -> BTreeMap<String, String> {
        for (name, others) in [
            ("og:title", &["twitter:title"][..]),
            ("og:description", &["twitter:description", "description"]),
        ] {
            if !self.named.contains_key(name)
                && let Some(text) = others.iter().find_map(|other| self.named.remove(*other))
            {
                self.named.insert(name.to_owned(), text);
            }
        }
        if let Some(title) = self.title {
            self.named.entry("og:title".to_owned()).or_insert(title);
        }
        let mut properties = BTreeMap::new();
        let mut left = limits::PREVIEW_BYTES;
        // What people read goes first.
        for first in [true, false] {
            for (name, text) in &self.named {
                let is_read = TEXTS.contains(&name.as_str());
                let is_of_picture =
                    name == "og:image" || name.starts_with("og:image:") && name != "og:image:alt";
                if is_read != first || !name.starts_with("og:") || is_of_picture {
                    continue;
                }
                let text = tidied(text);
                // A part of an address would be another one.
                let is_cut = text.len() > limits::PREVIEW_TEXT_BYTES;
                let size = name.len() + text.len();
                if text.is_empty()
                    || is_cut && !is_read
                    || size > left
                    || properties.len() == limits::PREVIEW_PROPERTIES
                {
                    continue;
                }
                let text = cut(&text).to_owned();
                left -= name.len() + text.len();
                properties.insert(name.clone(), text);
            }
        }
        properties
    }
}

/// The texts for people, which may be cut.
const TEXTS: [&str; 4] = ["og:title", "og:description", "og:site_name", "og:image:alt"];

fn is_image_link(tag: &Tag) -> bool {
    let relation = tag.get("rel").unwrap_or_default();
    relation.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("image_src"))
}

/// A text in one line, without control characters.
fn tidied(text: &str) -> String {
    let mut tidy = String::new();
    for word in text.split(|character: char| character.is_whitespace() || character.is_control()) {
        if !word.is_empty() {
            if !tidy.is_empty() {
                tidy.push(' ');
            }
            tidy.push_str(word);
        }
        if tidy.len() > limits::PREVIEW_TEXT_BYTES {
            break;
        }
    }
    tidy
}

/// The beginning of a text that is short enough.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::PREVIEW_TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::{super::text::Encoding, *};

    fn page(text: &str) -> Page {
        let url = Url::parse("https://example.org/a/b?c").unwrap();
        Page::read(Decoder::new(text.as_bytes(), Encoding::Utf8), &url)
    }

    #[test]
    fn a_page_says_what_it_is() {
        for (text, expected, image) in [
            ("", &[][..], None),
            ("no page at all", &[], None),
            ("<title> One\n  title </title>", &[("og:title", "One title")], None),
            ("<title>a &amp; b &#x2014; <b>c</title><p>", &[("og:title", "a & b — <b>c")], None),
            ("<title>one</title><svg><title>two</title></svg>", &[("og:title", "one")], None),
            (
                "<title>t</title><meta property=og:title content='Open &quot;Graph&quot;'>",
                &[("og:title", "Open \"Graph\"")],
                None,
            ),
            (
                "<META NAME='Twitter:Title' CONTENT=t><meta name=twitter:description content=d><title>x</title>",
                &[("og:description", "d"), ("og:title", "t")],
                None,
            ),
            ("<meta name=description content=d>", &[("og:description", "d")], None),
            (
                "<meta property=og:description content=o><meta name=description content=d>",
                &[("og:description", "o")],
                None,
            ),
            (
                "<meta property=og:title content=first><meta property=og:title content=second>",
                &[("og:title", "first")],
                None,
            ),
            ("<meta property=og:title content=' '><title>t</title>", &[("og:title", "t")], None),
            ("<!-- <meta property=og:title content=no> -->", &[], None),
            ("<script>'<meta property=og:title content=no>'</script>", &[], None),
            ("<meta property=og:title content=unfinished", &[], None),
            ("<meta property=og:type content=article>", &[("og:type", "article")], None),
            ("<meta property=fb:app_id content=1>", &[], None),
            // What the page says of its picture is measured.
            (
                "<meta property=og:image content=/p.png><meta property=og:image:width content=9>
                 <meta property=og:image:alt content=alt>",
                &[("og:image:alt", "alt")],
                Some("https://example.org/p.png"),
            ),
            ("<meta property=og:image content=p.png>", &[], Some("https://example.org/a/p.png")),
            ("<meta property=og:image content=//cdn.example/p>", &[], Some("https://cdn.example/p")),
            ("<base href=/x/><meta property=og:image content=p>", &[], Some("https://example.org/x/p")),
            (
                "<meta property=og:image content=data:image/png;base64,AA><meta name=twitter:image content=t>",
                &[],
                Some("https://example.org/a/t"),
            ),
            ("<meta property=og:image content=javascript:alert(1)>", &[], None),
            ("<link rel='icon Image_Src' href=l>", &[], Some("https://example.org/a/l")),
            // Nobody looks for it in the body.
            ("<title>t</title></head><body><meta property=og:title content=no>", &[("og:title", "t")], None),
        ] {
            let Page { properties, image: found } = page(text);
            let found = found.map(String::from);
            let properties: Vec<_> =
                properties.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            assert_eq!((&properties[..], found.as_deref()), (expected, image), "{text}");
        }
    }

    #[test]
    fn texts_are_cut_and_addresses_are_not() {
        let long = "ä".repeat(limits::PREVIEW_TEXT_BYTES);
        let text = format!(
            "<title>{long}</title><meta property=og:description content='{long}'>
             <meta property=og:url content='https://example.org/{long}'>
             <meta property=og:image content='https://example.org/{long}'><base href='/{long}'>"
        );
        assert_eq!(page(&text).image, None);
        let properties = page(&text).properties;
        let cut = "ä".repeat(limits::PREVIEW_TEXT_BYTES / 2);
        assert_eq!((&properties["og:title"], &properties["og:description"]), (&cut, &cut));
        assert_eq!(properties.len(), 2);
    }

    #[test]
    fn however_much_a_page_says_little_is_kept() {
        let mut text = String::new();
        for number in 0..1_000 {
            let value = "x".repeat(number % limits::PREVIEW_TEXT_BYTES);
            text += &format!("<meta property=og:a{number} content={value}>");
        }
        text += &format!("<meta property=og:{} content=x>", "n".repeat(limits::PREVIEW_NAME_BYTES));
        text += "<title>t</title>";
        let properties = page(&text).properties;
        let bytes: usize = properties.iter().map(|(name, text)| name.len() + text.len()).sum();
        assert!(properties.len() <= limits::PREVIEW_PROPERTIES && bytes <= limits::PREVIEW_BYTES);
        assert_eq!(properties["og:title"], "t");
    }
}
