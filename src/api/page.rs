//! Pages for people: HTML that is whole as it comes, without anything from elsewhere, and the requests of browsers for it.
//! A page runs no script, but for the few that the specification wants one in.

use std::{fmt::Write, marker::PhantomData};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use ruma::api::{
    IncomingRequest, Metadata,
    auth_scheme::NoAccessToken,
    error::{DeserializationError, Error as MatrixError},
};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::{Body, Error, Inbound, Streamed, custom::JsonAnswer, proposed::Paths};

/// Pages at some paths.
pub(crate) trait Pages: Send + 'static {
    const METHOD: Method;
    const PATHS: &'static [&'static str];
}

/// A browser's request for one.
pub(crate) struct Visit<P> {
    /// The path's variables, in order.
    pub(crate) arguments: Vec<String>,
    query: String,
    pages: PhantomData<fn() -> P>,
}

impl<P: Pages> Metadata for Visit<P> {
    const METHOD: Method = P::METHOD;
    const RATE_LIMITED: bool = true;
    type Authentication = NoAccessToken;
    type PathBuilder = Paths;
    const PATH_BUILDER: Paths = Paths(P::PATHS);
}

impl<P: Pages> IncomingRequest for Visit<P> {
    type EndpointError = MatrixError;
    type OutgoingResponse = JsonAnswer<()>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            pages: PhantomData,
        })
    }
}

/// What a browser sends, apart from what the path says.
pub(crate) struct Sent {
    query: Fields,
    form: Fields,
    headers: HeaderMap,
}

type Fields = Vec<(String, String)>;

impl Sent {
    /// Takes a request apart; its path's variables are the first part.
    pub(crate) fn of<P>(request: Streamed<Visit<P>>) -> (Vec<String>, Self) {
        let Streamed { request: Visit { arguments, query, .. }, headers, body, .. } = request;
        let form = match body {
            Inbound::Whole(body) => fields(&body),
            Inbound::Stream(_) => Fields::new(),
        };
        (arguments, Self { query: fields(query.as_bytes()), form, headers })
    }

    /// A parameter of the URL.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        field(&self.query, name)
    }

    /// All parameters of the URL, in their order.
    pub(crate) fn parameters(&self) -> &[(String, String)] {
        &self.query
    }

    /// A field of the form.
    pub(crate) fn form(&self, name: &str) -> Option<&str> {
        field(&self.form, name)
    }

    /// A cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let fields = self.headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
        let mut cookies =
            fields.flat_map(|field| field.split("; ")).filter_map(|cookie| cookie.split_once('='));
        cookies.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

fn fields(text: &[u8]) -> Fields {
    form_urlencoded::parse(text).into_owned().collect()
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A page that is being written.
pub(crate) struct Page {
    title: &'static str,
    html: String,
    script: &'static str,
    /// Where forms may lead, beside this server.
    form_targets: String,
}

impl Page {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, html: String::new(), script: "", form_targets: String::new() }
    }

    /// A paragraph of text.
    pub(crate) fn text(mut self, text: &str) -> Self {
        _ = write!(self.html, "<p>{}</p>", escaped(text));
        self
    }

    /// A paragraph with a URL, an id, or another text that isn't this server's.
    pub(crate) fn quote(mut self, text: &str) -> Self {
        _ = write!(self.html, "<p class=\"quote\">{}</p>", escaped(text));
        self
    }

    /// A paragraph of what went wrong.
    pub(crate) fn problem(mut self, text: &str) -> Self {
        _ = write!(self.html, "<p class=\"problem\" role=\"alert\">{}</p>", escaped(text));
        self
    }

    /// A link in a paragraph of its own.
    pub(crate) fn link(mut self, url: &str, text: &str) -> Self {
        _ = write!(self.html, "<p><a href=\"{}\">{}</a></p>", escaped(url), escaped(text));
        self
    }

    /// A link that looks like a button.
    pub(crate) fn button(mut self, url: &str, text: &str) -> Self {
        _ = write!(self.html, "<p><a class=\"button\" href=\"{}\">{}</a></p>", escaped(url), escaped(text));
        self
    }

    /// A form of what `fields` writes, that is sent to this server.
    pub(crate) fn form(mut self, action: &str, button: &str, fields: impl FnOnce(&mut Form<'_>)) -> Self {
        _ = write!(self.html, "<form method=\"post\" action=\"{}\">", escaped(action));
        fields(&mut Form { html: &mut self.html });
        _ = write!(self.html, "<button>{}</button></form>", escaped(button));
        self
    }

    /// HTML as it is.
    pub(crate) fn raw(mut self, html: &str) -> Self {
        self.html.push_str(html);
        self
    }

    /// What somebody sees who has passed a stage of user-interactive authentication. It tells the client.
    /// <https://spec.matrix.org/v1.19/client-server-api/#fallback>
    pub(crate) fn passed() -> Self {
        Self::new("Done").text("You can go back to your client.").script(PASSED)
    }

    /// Has a script run at the end of the page.
    pub(crate) fn script(mut self, script: &'static str) -> Self {
        self.script = script;
        self
    }

    /// Lets its form lead to a URL in the end.
    pub(crate) fn leads_to(mut self, url: &url::Url) -> Self {
        // A policy can't write every host: no IPv6 address, and nothing that would end its directive.
        let plain =
            |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let host = url.host_str().filter(|_| url.scheme().starts_with("http")).filter(plain);
        self.form_targets = match (host, url.port()) {
            (Some(host), Some(port)) => format!(" {}://{host}:{port}", url.scheme()),
            (Some(host), None) => format!(" {}://{host}", url.scheme()),
            (None, _) => format!(" {}:", url.scheme()),
        };
        self
    }

    /// The page as an answer.
    pub(crate) fn answer(self, status: StatusCode) -> Result<Response<Body>, Error> {
        let Self { title, html, script, form_targets } = self;
        let (open, end) = if script.is_empty() { ("", "") } else { ("<script>", "</script>") };
        let page = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\
             <body><main><h1>{title}</h1>{html}</main>{open}{script}{end}</body></html>"
        );
        let scripts = match script {
            "" => String::new(),
            script => format!("script-src {}; connect-src 'self'; ", digest(script)),
        };
        let policy = format!(
            "default-src 'none'; style-src {}; {scripts}form-action 'self'{form_targets}; base-uri 'none'; \
             frame-ancestors 'none'",
            digest(STYLE),
        );
        let mut response = Response::new(Body::Whole(Bytes::from(page)));
        *response.status_mut() = status;
        let policy = HeaderValue::try_from(policy).map_err(Error::internal)?;
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Ok(response)
    }
}

/// A form that is being written.
pub(crate) struct Form<'a> {
    html: &'a mut String,
}

impl Form<'_> {
    /// What the form sends unseen.
    pub(crate) fn hidden(&mut self, name: &str, value: &str) {
        _ = write!(self.html, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value));
    }

    /// A field with its name for people; its kind and more are attributes as they are.
    pub(crate) fn field(&mut self, name: &str, label: &str, attributes: &str, value: &str) {
        let (label, value) = (escaped(label), escaped(value));
        _ = write!(
            self.html,
            "<label for=\"{name}\">{label}</label><input id=\"{name}\" name=\"{name}\" value=\"{value}\" {attributes}>"
        );
    }
}

/// Leads a browser elsewhere, by `GET`.
pub(crate) fn redirect(url: &str) -> Result<Response<Body>, Error> {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::FOUND;
    let url = HeaderValue::try_from(url).map_err(Error::internal)?;
    response.headers_mut().insert(LOCATION, url);
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// A text as HTML, also within quotes.
pub(crate) fn escaped(text: &str) -> String {
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

/// A text as a value in the query of a URL.
pub(crate) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What a policy calls a script or a style that stands in the page.
pub(super) fn digest(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// What an operation of [`uia`](crate::service::uia) is to the user.
pub(crate) fn deed(operation: &str) -> &'static str {
    match operation {
        "device_signing" => "replace the keys by which others know your devices",
        "password" => "change your password",
        "deactivate" => "end your account for good",
        "devices" => "sign devices out of your account",
        "get_token" => "sign another device in to your account",
        _ => "change something in your account",
    }
}

/// What every page has: nobody keeps it, guesses what it is, puts it in a frame or is told of its address.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
];

/// As the specification writes it.
const PASSED: &str = "if (window.onAuthDone) { window.onAuthDone(); } \
     else if (window.opener && window.opener.postMessage) { window.opener.postMessage(\"authDone\", \"*\"); }";

/// How all pages look.
pub(super) const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_stays_text() {
        let page = Page::new("T")
            .text("<b>")
            .quote("a&b")
            .link("javascript:\"'", ">")
            .form("/x?\"", "Go", |form| form.hidden("h", "\"><script>"))
            .answer(StatusCode::OK)
            .unwrap();
        let Body::Whole(html) = page.into_body() else { panic!("all of it") };
        let html = String::from_utf8(html.to_vec()).unwrap();
        for part in ["<p>&lt;b&gt;</p>", "a&amp;b", "javascript:&quot;&#39;", "\"&quot;&gt;&lt;script&gt;\""]
        {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(!html.contains("<script>"));
    }

    #[test]
    fn a_policy_lets_nothing_run_that_is_not_meant() {
        let policy = |page: Page| {
            let response = page.answer(StatusCode::OK).unwrap();
            response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
        };
        let plain = policy(Page::new("T"));
        assert!(plain.starts_with("default-src 'none'; style-src 'sha256-") && !plain.contains("script-src"));
        assert!(plain.contains("form-action 'self'; base-uri 'none'; frame-ancestors 'none'"), "{plain}");
        let running = policy(Page::new("T").script("x"));
        assert!(
            running.contains("; script-src 'sha256-LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE='; "),
            "{running}"
        );
        for (url, target) in [
            ("https://app.example.org/x?y", "https://app.example.org"),
            ("http://localhost:8080/", "http://localhost:8080"),
            ("http://[::1]:80/", "http:"),
            ("https://a;sandbox/", "https:"),
            ("org.example.app:/x", "org.example.app:"),
        ] {
            let url = url::Url::parse(url).unwrap();
            let policy = policy(Page::new("T").leads_to(&url));
            assert!(policy.contains(&format!("form-action 'self' {target}; ")), "{policy}");
        }
    }
}
