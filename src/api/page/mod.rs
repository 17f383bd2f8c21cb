//! Pages for people: HTML that is whole as it comes, without anything from elsewhere, and what browsers send to them.
//! A page runs no script, but for the few that the specification wants one in.

mod html;
mod sent;

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use ruma::UserId;
use sha2::{Digest, Sha256};
use url::Url;

pub(crate) use self::{
    html::{Field, Html},
    sent::Sent,
};
use super::Body;

/// A page.
#[derive(Default)]
pub(crate) struct Page<'a> {
    pub(crate) status: StatusCode,
    pub(crate) title: &'a str,
    /// The name of the server, if it stands above the page.
    pub(crate) server: &'a str,
    /// What went wrong, if anything did. It is told first.
    pub(crate) problem: &'a str,
    pub(crate) html: Html,
    /// What runs at its end.
    pub(crate) script: &'static str,
    /// Where its forms may lead in the end, beside this server.
    pub(crate) target: Option<&'a Url>,
}

impl<'a> Page<'a> {
    pub(crate) fn new(title: &'a str, html: Html) -> Self {
        Self { title, html, ..Self::default() }
    }

    /// A page of nothing but what went wrong.
    pub(crate) fn failed(status: StatusCode, problem: &'a str) -> Self {
        Self { status, problem, ..Self::new("This didn't work", Html::default()) }
    }

    /// What somebody sees who has passed a stage of user-interactive authentication. It tells the client.
    /// <https://spec.matrix.org/v1.19/client-server-api/#fallback>
    pub(crate) fn passed() -> Self {
        let html = Html::default().paragraph("You can go back to your client.");
        Self { script: PASSED, ..Self::new("Done", html) }
    }

    /// The page as an answer.
    pub(crate) fn answer(self) -> Response<Body> {
        let (script, target) = (self.script, self.target);
        answer(self.status, self.written(), &policy(script, target))
    }

    fn written(self) -> String {
        let Self { title, server, problem, html, script, .. } = self;
        let mut page = Html::default()
            .mark("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>")
            .mark(if problem.is_empty() { "" } else { "Error: " })
            .text(title);
        if !server.is_empty() {
            page = page.mark(" – ").text(server);
        }
        page = page
            .mark("</title><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
            .mark("<meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\"><style>")
            .mark(STYLE)
            .mark("</style></head><body>");
        if !server.is_empty() {
            page = page.mark("<header>").mark(BERRY).mark("<span>").text(server).mark("</span></header>");
        }
        page = page.mark("<main><h1>").text(title).mark("</h1>");
        if !problem.is_empty() {
            page = page.mark("<div class=\"problem\" role=\"alert\">").text(problem).mark("</div>");
        }
        page = page.add(&html).mark("</main>");
        if !script.is_empty() {
            page = page.mark("<script>").mark(script).mark("</script>");
        }
        page.mark("</body></html>").into()
    }
}

/// Leads a browser elsewhere.
pub(crate) fn redirect(status: StatusCode, to: &str) -> Response<Body> {
    let mut response = answer(status, String::new(), &policy("", None));
    // Every URL that comes here is of printable ASCII.
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// Has a browser keep a cookie, for so long or until it is closed. It comes along with links from elsewhere, and with nothing
/// else that pages from there send. A name that begins with [`HOST`] is for a server with TLS: nobody else can set such a
/// cookie, not even from a part of its domain.
pub(crate) fn set_cookie(response: &mut Response<Body>, name: &str, value: &str, lifetime: Option<Duration>) {
    let secure = if name.starts_with(HOST) { "; Secure" } else { "" };
    let lifetime = lifetime.map(|time| format!("; Max-Age={}", time.as_secs())).unwrap_or_default();
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{lifetime}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
}

/// The name of a cookie of this server, whose browsers reach it at this URL.
pub(crate) fn cookie_name(name: &'static str, base: &str) -> &'static str {
    if base.starts_with("https:") { name } else { name.trim_start_matches(HOST) }
}

/// What is said before somebody goes back to the client at a URL, which is logged in then.
pub(crate) fn to_client(url: &Url, user_id: &UserId) -> Html {
    let html = match url.host_str().filter(|_| url.scheme().starts_with("http")) {
        Some(host) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Html::default()
                .paragraph("This website wants to use your account:")
                .quote(&format!("{host}{port}"))
        }
        None => Html::default()
            .paragraph("An app on this device wants to use your account. It opens what begins with")
            .quote(&format!("{}:", url.scheme())),
    };
    html.paragraph("It will be able to read and send messages as")
        .quote(user_id.as_str())
        .paragraph("Continue only if you were signing in there. Otherwise close this page.")
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

fn answer(status: StatusCode, html: String, policy: &str) -> Response<Body> {
    let mut response = Response::new(Body::Whole(html.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(policy).expect("a policy is of plain ASCII");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What a browser lets a page do that has this script, and whose forms may lead there.
fn policy(script: &str, target: Option<&Url>) -> String {
    let scripts = match script {
        "" => String::new(),
        script => format!("script-src {}; connect-src 'self'; ", digest(script)),
    };
    let target = target.map(source).unwrap_or_default();
    format!(
        "default-src 'none'; style-src {}; {scripts}form-action 'self'{target}; base-uri 'none'; frame-ancestors 'none'",
        digest(STYLE),
    )
}

/// Where a URL leads, as a policy names it, with a space before it.
fn source(url: &Url) -> String {
    // A policy can't write every host: no IPv6 address, and nothing that would end its directive.
    let plain = |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let host = url.host_str().filter(|_| url.scheme().starts_with("http")).filter(plain);
    match (host, url.port()) {
        (Some(host), Some(port)) => format!(" {}://{host}:{port}", url.scheme()),
        (Some(host), None) => format!(" {}://{host}", url.scheme()),
        (None, _) => format!(" {}:", url.scheme()),
    }
}

/// What a policy calls a script or a style that stands in the page.
fn digest(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// What every page has: nobody keeps it, guesses what it is, puts it in a frame or is told of its address.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
];

/// <https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#section-4.1.3.2>
const HOST: &str = "__Host-";

/// As the specification writes it.
const PASSED: &str = "if (window.onAuthDone) { window.onAuthDone(); } \
     else if (window.opener && window.opener.postMessage) { window.opener.postMessage(\"authDone\", \"*\"); }";

/// How all pages look.
const STYLE: &str = include_str!("style.css");

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
    fn what_is_not_ours_stays_text() {
        let evil = "</h1><script>";
        let page = Page { title: evil, server: evil, problem: evil, ..Page::default() }.written();
        assert_eq!((page.matches("&lt;/h1&gt;&lt;script&gt;").count(), page.contains(evil)), (5, false));
    }

    #[test]
    fn a_policy_lets_nothing_run_that_is_not_meant() {
        let policy =
            |page: Page<'_>| page.answer().headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        let plain = policy(Page::default());
        assert!(plain.starts_with("default-src 'none'; style-src 'sha256-") && !plain.contains("script-src"));
        assert!(plain.contains("form-action 'self'; base-uri 'none'; frame-ancestors 'none'"), "{plain}");
        let running = policy(Page { script: "x", ..Page::default() });
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
            ("org.example.app://ü;x/y", "org.example.app:"),
        ] {
            let url = Url::parse(url).unwrap();
            let policy = policy(Page { target: Some(&url), ..Page::default() });
            assert!(policy.contains(&format!("form-action 'self' {target}; ")), "{policy}");
        }
    }

    #[test]
    fn a_cookie_is_of_its_server_alone() {
        let set = |base: &str, lifetime| {
            let mut response = Response::new(Body::Whole(Default::default()));
            set_cookie(&mut response, cookie_name("__Host-a", base), "x", lifetime);
            response.headers()[SET_COOKIE].to_str().unwrap().to_owned()
        };
        let safe = "__Host-a=x; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60";
        assert_eq!(set("https://a.org", Some(Duration::from_secs(60))), safe);
        assert_eq!(set("http://localhost:1", None), "a=x; Path=/; HttpOnly; SameSite=Lax");
    }
}
