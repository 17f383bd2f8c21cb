//! HTML that is written piece by piece: markup is a literal of this program, and everything else is text.

use crate::api::page::{STYLE, escaped};

/// A piece of a page.
#[derive(Default)]
pub(super) struct Html(String);

/// A field of a form.
#[derive(Default)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// `text`, `password` or whatever HTML has.
    pub(super) kind: &'static str,
    /// What browsers fill in.
    pub(super) autocomplete: &'static str,
    pub(super) value: &'a str,
    pub(super) hint: &'a str,
}

impl Html {
    /// Adds markup, which is of no visitor's making.
    pub(super) fn mark(mut self, markup: &'static str) -> Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, also as the value of an attribute in double quotes.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push_str(&escaped(text));
        self
    }

    /// Adds what was written elsewhere.
    pub(super) fn add(mut self, other: &Self) -> Self {
        self.0.push_str(&other.0);
        self
    }

    pub(super) fn paragraph(self, text: &str) -> Self {
        self.mark("<p>").text(text).mark("</p>")
    }

    /// A link in a line of its own.
    pub(super) fn link(self, href: &str, words: &str) -> Self {
        self.mark("<p><a href=\"").text(href).mark("\">").text(words).mark("</a></p>")
    }

    /// Begins a form that is sent to `action`; `proof` shows that it is this browser's.
    pub(super) fn form(self, action: &str, proof: &str) -> Self {
        self.mark("<form method=\"post\" action=\"").text(action).mark("\">").hidden("proof", proof)
    }

    pub(super) fn hidden(self, name: &'static str, value: &str) -> Self {
        self.mark("<input type=\"hidden\" name=\"").mark(name).mark("\" value=\"").text(value).mark("\">")
    }

    pub(super) fn field(self, field: &Field<'_>) -> Self {
        let Field { name, label, kind, autocomplete, value, hint } = *field;
        let mut html = self.mark("<label for=\"").mark(name).mark("\">").mark(label).mark("</label>");
        if !hint.is_empty() {
            html = html.mark("<p class=\"hint\" id=\"").mark(name).mark("-hint\">").text(hint).mark("</p>");
        }
        html = html.mark("<input required id=\"").mark(name).mark("\" name=\"").mark(name);
        html = html.mark("\" type=\"").mark(kind).mark("\" autocomplete=\"").mark(autocomplete);
        if !hint.is_empty() {
            html = html.mark("\" aria-describedby=\"").mark(name).mark("-hint");
        }
        // Names and codes are no sentences.
        html = html.mark("\" autocapitalize=\"none\" spellcheck=\"false\" value=\"");
        html.text(value).mark("\">")
    }

    /// A box to tick, with words of HTML behind it.
    pub(super) fn tick(self, name: &'static str, words: &Self) -> Self {
        let html =
            self.mark("<label class=\"tick\"><input type=\"checkbox\" value=\"yes\" name=\"").mark(name);
        html.mark("\"><span>").add(words).mark("</span></label>")
    }

    /// A button that sends the form it stands in; `class` says how it looks, and `decision` what it means.
    pub(super) fn button(self, class: &'static str, decision: &'static str, words: &'static str) -> Self {
        let html = self.mark("<button class=\"").mark(class).mark("\" name=\"decision\" value=\"");
        html.mark(decision).mark("\">").mark(words).mark("</button>")
    }

    /// The whole page. `problem` is shown first.
    pub(super) fn page(self, server: &str, title: &str, problem: &str) -> String {
        let head = Self::default()
            .mark("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>")
            .mark(if problem.is_empty() { "" } else { "Error: " })
            .text(title)
            .mark(" – ")
            .text(server)
            .mark("</title><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
            .mark("<meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\"><style>")
            .mark(STYLE)
            .mark("</style></head><body><header>")
            .mark(BERRY)
            .mark("<span>")
            .text(server)
            .mark("</span></header><main><h1>")
            .text(title)
            .mark("</h1>");
        let head = match problem {
            "" => head,
            problem => head.mark("<div class=\"problem\" role=\"alert\">").text(problem).mark("</div>"),
        };
        head.add(&self).mark("</main></body></html>").0
    }
}

/// The mark of this program.
const BERRY: &str = "<svg viewBox=\"0 0 24 24\" width=\"28\" height=\"28\" aria-hidden=\"true\">\
<g fill=\"#b3315f\"><circle cx=\"9\" cy=\"10\" r=\"3.6\"/><circle cx=\"15\" cy=\"10\" r=\"3.6\"/>\
<circle cx=\"12\" cy=\"15\" r=\"3.6\"/><circle cx=\"8\" cy=\"15\" r=\"2.8\"/><circle cx=\"16\" cy=\"15\" r=\"2.8\"/>\
<circle cx=\"12\" cy=\"19.5\" r=\"2.8\"/></g><path d=\"M12 8C8 8 7 5 7 3c3 0 4 1 5 3 1-2 2-3 5-3 0 2-1 5-5 5z\" \
fill=\"#3f8f4f\"/></svg>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_visitors_bring_is_text() {
        let evil = "\"><script>alert('1')</script>&\u{202e}\0";
        let Html(html) = Html::default().link(evil, evil).hidden("a", evil);
        let told = "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;  ";
        assert_eq!(html.matches(told).count(), 3);
        assert_eq!(html.matches('<').count(), 5);
    }
}
