//! HTML that is written piece by piece: markup is a literal of this program, and everything else is text.

/// A piece of a page.
#[derive(Default)]
pub(crate) struct Html(String);

/// A field of a form.
#[derive(Default)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    /// `text`, `password` or whatever HTML has.
    pub(crate) kind: &'static str,
    /// What browsers fill in.
    pub(crate) autocomplete: &'static str,
    pub(crate) value: &'a str,
    pub(crate) hint: &'a str,
    /// Whether it is written into at once.
    pub(crate) is_first: bool,
}

impl Html {
    /// Adds markup, which is of no visitor's making.
    pub(crate) fn mark(mut self, markup: &'static str) -> Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, also as the value of an attribute in double quotes.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.push_str(&escaped(text));
        self
    }

    /// Adds what was written elsewhere.
    pub(crate) fn add(mut self, other: &Self) -> Self {
        self.0.push_str(&other.0);
        self
    }

    pub(crate) fn paragraph(self, text: &str) -> Self {
        self.mark("<p>").text(text).mark("</p>")
    }

    /// A URL, an id, or another text that isn't this server's, in a paragraph of its own.
    pub(crate) fn quote(self, text: &str) -> Self {
        self.mark("<p class=\"quote\">").text(text).mark("</p>")
    }

    /// A link in a line of its own.
    pub(crate) fn link(self, href: &str, words: &str) -> Self {
        self.mark("<p><a href=\"").text(href).mark("\">").text(words).mark("</a></p>")
    }

    /// A link that looks like a button.
    pub(crate) fn way(self, href: &str, words: &str) -> Self {
        self.mark("<p><a class=\"button\" href=\"").text(href).mark("\">").text(words).mark("</a></p>")
    }

    /// Begins a form that is sent to `action` with a value that nobody sees, by which it is known.
    pub(crate) fn form(self, action: &str, (name, value): (&'static str, &str)) -> Self {
        self.mark("<form method=\"post\" action=\"").text(action).mark("\">").hidden(name, value)
    }

    pub(crate) fn hidden(self, name: &'static str, value: &str) -> Self {
        self.mark("<input type=\"hidden\" name=\"").mark(name).mark("\" value=\"").text(value).mark("\">")
    }

    pub(crate) fn field(self, field: &Field<'_>) -> Self {
        let Field { name, label, kind, autocomplete, value, hint, is_first } = *field;
        let mut html = self.mark("<label for=\"").mark(name).mark("\">").mark(label).mark("</label>");
        if !hint.is_empty() {
            html = html.mark("<p class=\"hint\" id=\"").mark(name).mark("-hint\">").text(hint).mark("</p>");
        }
        html = html.mark("<input required").mark(if is_first { " autofocus" } else { "" });
        html = html.mark(" id=\"").mark(name).mark("\" name=\"").mark(name);
        html = html.mark("\" value=\"").text(value).mark("\" type=\"").mark(kind);
        html = html.mark("\" autocomplete=\"").mark(autocomplete);
        if !hint.is_empty() {
            html = html.mark("\" aria-describedby=\"").mark(name).mark("-hint");
        }
        // Names and codes are no sentences.
        html.mark("\" autocapitalize=\"none\" spellcheck=\"false\">")
    }

    /// A box to tick, with words of HTML behind it.
    pub(crate) fn tick(self, name: &'static str, words: &Self) -> Self {
        let html =
            self.mark("<label class=\"tick\"><input type=\"checkbox\" value=\"yes\" name=\"").mark(name);
        html.mark("\"><span>").add(words).mark("</span></label>")
    }

    /// A button that sends the form it stands in; `class` says how it looks, and `decision` what it means.
    pub(crate) fn button(self, class: &'static str, decision: &'static str, words: &'static str) -> Self {
        let html = self.mark("<button class=\"").mark(class).mark("\" name=\"decision\" value=\"");
        html.mark(decision).mark("\">").mark(words).mark("</button>")
    }
}

impl From<Html> for String {
    fn from(html: Html) -> Self {
        html.0
    }
}

/// A text as HTML, also within quotes.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            // Neither what no text has nor what turns a name around for the eye.
            '\0'..='\u{1f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => html.push(' '),
            c => html.push(c),
        }
    }
    html
}

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
