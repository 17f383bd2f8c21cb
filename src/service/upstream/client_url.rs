//! The URL at which a client gets a log-in token: which it may be, whether it is known, and the token in it.
//! <https://spec.matrix.org/v1.19/client-server-api/#client-login-via-sso>

use url::{Url, form_urlencoded};

use crate::base::limits;

/// Reads a URL to which a browser can be led. None if a browser would run it, or read it where nobody else does.
pub(super) fn read(text: &str) -> Option<Url> {
    if text.len() > limits::REDIRECT_URL_BYTES {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https");
    let is_named = url.username().is_empty() && url.password().is_none();
    (is_named && !NOT_CLIENTS.contains(&url.scheme()) && (!is_web || url.host().is_some())).then_some(url)
}

/// Whether a URL lies under another.
pub(super) fn lies_under(url: &Url, known: &Url) -> bool {
    let (path, known_path) = (url.path(), known.path().trim_end_matches('/'));
    url.scheme() == known.scheme()
        && url.host_str() == known.host_str()
        && url.port_or_known_default() == known.port_or_known_default()
        && path.strip_prefix(known_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The URL with a token in it, and no other token.
pub(super) fn with_token(url: &Url, token: &str) -> String {
    let pairs = url.query().unwrap_or_default().split('&').filter(|pair| {
        let name = form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name);
        name.is_some_and(|name| name != PARAMETER)
    });
    let token = format!("{PARAMETER}={token}");
    let query = pairs.chain([token.as_str()]).collect::<Vec<_>>().join("&");
    let mut url = url.clone();
    url.set_query(Some(&query));
    url.into()
}

const PARAMETER: &str = "loginToken";

/// Schemes of what browsers do themselves.
const NOT_CLIENTS: &[&str] = &[
    "about",
    "blob",
    "data",
    "file",
    "filesystem",
    "ftp",
    "javascript",
    "mailto",
    "tel",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_would_run_is_no_client() {
        for good in [
            "https://app.example.org/#/login",
            "http://localhost:8080/",
            "element://connect?x=y",
            "io.element:/callback",
            "app:callback",
        ] {
            assert!(read(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "/relative",
            "app.example.org",
            "javascript:alert(1)",
            " JavaScript:alert(1)",
            "java\nscript:alert(1)",
            "data:text/html,x",
            "blob:https://example.org/x",
            "file:///etc/passwd",
            "https://",
            "https://user@example.org/",
            "https://:pass@example.org/",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
        let long = |bytes: usize| format!("https://a.example/{}", "a".repeat(bytes - 18));
        assert!(read(&long(limits::REDIRECT_URL_BYTES)).is_some());
        assert!(read(&long(limits::REDIRECT_URL_BYTES + 1)).is_none());
    }

    #[test]
    fn a_known_client_is_known_by_more_than_how_it_begins() {
        let lies = |url: &str, known: &str| lies_under(&read(url).unwrap(), &Url::parse(known).unwrap());
        for (url, known, expected) in [
            ("https://app.example.org/", "https://app.example.org", true),
            ("https://app.example.org/#/home?x", "https://app.example.org/", true),
            ("https://APP.example.org:443/a/b?c", "https://app.example.org/a", true),
            ("https://app.example.org/ab", "https://app.example.org/a", false),
            ("https://app.example.org/a/../b", "https://app.example.org/a", false),
            ("https://app.example.org.evil.com/", "https://app.example.org", false),
            ("https://app.example.org:8443/", "https://app.example.org", false),
            ("http://app.example.org/", "https://app.example.org", false),
            ("element://connect/x?y", "element://connect", true),
            ("element://other", "element://connect", false),
            ("other://connect", "element://connect", false),
        ] {
            assert_eq!(lies(url, known), expected, "{url} {known}");
        }
    }

    #[test]
    fn one_token_is_added_and_the_rest_stays() {
        for (url, expected) in [
            ("https://a.org", "https://a.org/?loginToken=T"),
            ("https://a.org/?x=%20+&y#/z", "https://a.org/?x=%20+&y&loginToken=T#/z"),
            ("https://a.org/?loginToken=1&x=2&login%54oken=3", "https://a.org/?x=2&loginToken=T"),
            ("https://a.org/?loginTokens=1", "https://a.org/?loginTokens=1&loginToken=T"),
            ("element://connect", "element://connect?loginToken=T"),
            ("app:callback?x=1", "app:callback?x=1&loginToken=T"),
        ] {
            assert_eq!(with_token(&read(url).unwrap(), "T"), expected, "{url}");
        }
    }
}
