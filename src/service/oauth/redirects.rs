//! Redirect URIs: by the one that it controls, a program proves which one it is.
//! <https://spec.matrix.org/v1.19/client-server-api/#redirect-uri-validation>

use url::{Url, form_urlencoded};

/// The host of a program's own page; none if that is no URL of such a page.
pub(super) fn host_of_client(uri: &str) -> Option<String> {
    let url = proper(uri)?;
    let host = url.host_str().filter(|_| url.scheme() == "https")?;
    Some(host.to_owned())
}

/// Whether a page is the program's: `https`, at its host or one below.
pub(super) fn is_of_client(uri: &str, client_host: &str) -> bool {
    host_of_client(uri).is_some_and(|host| {
        let below = host.strip_suffix(client_host).map(|below| below.is_empty() || below.ends_with('.'));
        below.unwrap_or(false)
    })
}

/// Whether a program at this host may register a redirect URI.
pub(super) fn is_legal(uri: &str, client_host: &str, is_native: bool) -> bool {
    let Some(url) = proper(uri).filter(|url| url.fragment().is_none()) else { return false };
    match url.scheme() {
        "https" => is_of_client(uri, client_host),
        "http" => is_native && loopback(uri).is_some_and(|(_, port, _)| port.is_none()),
        scheme => {
            let reversed = client_host.rsplit('.').collect::<Vec<_>>().join(".");
            let rest = scheme.strip_prefix(&reversed);
            is_native
                && !url.has_authority()
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        }
    }
}

/// Whether a redirect URI is the registered one: letter for letter, but that an app that listens on its own machine may do
/// so at any port.
pub(super) fn is_same(uri: &str, registered: &str) -> bool {
    let given = || loopback(uri).map(|(host, _, rest)| (host, rest));
    uri == registered
        || loopback(registered).is_some_and(|(host, _, rest)| {
            given() == Some((host, rest)) && proper(uri).is_some_and(|url| url.fragment().is_none())
        })
}

/// The redirect URI with an answer in it.
pub(super) fn with_answer(uri: &str, in_fragment: bool, answer: &[(&str, &str)]) -> String {
    let sign = match in_fragment {
        true => '#',
        false if uri.contains('?') => '&',
        false => '?',
    };
    let answer = form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
    format!("{uri}{sign}{answer}")
}

/// Where a redirect URI leads, in words.
pub fn place(uri: &str) -> String {
    match Url::parse(uri) {
        _ if loopback(uri).is_some() => "a program on this device".to_owned(),
        Ok(url) => match url.host_str() {
            Some(host) => host.to_owned(),
            None => format!("the app {} on this device", url.scheme()),
        },
        Err(_) => String::new(),
    }
}

/// A URL without user and password, and without what browsers take away or read as something else.
fn proper(uri: &str) -> Option<Url> {
    let is_plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let url = Url::parse(uri).ok().filter(|_| is_plain)?;
    (url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Host, port and rest of a URL of this machine.
fn loopback(uri: &str) -> Option<(&str, Option<&str>, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = ["localhost", "127.0.0.1", "[::1]"].into_iter().find(|host| authority.starts_with(host))?;
    match &authority[host.len()..] {
        "" => Some((host, None, rest)),
        port => {
            let port = port.strip_prefix(':')?;
            let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
            is_port.then_some((host, Some(port), rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_programs_redirect_to_their_own_hosts() {
        for (uri, legal) in [
            ("https://example.com/callback", true),
            ("https://app.example.com/callback", true),
            ("https://example.com:5173/?query=value", true),
            ("https://example.com", true),
            ("https://example.com/callback#fragment", false),
            ("https://example.com/callback#", false),
            ("http://example.com/callback", false),
            ("http://localhost/", false),
            ("https://evilexample.com/", false),
            ("https://example.com.evil.org/", false),
            ("https://user@example.com/", false),
            ("https://user:word@example.com/", false),
            ("https:user@example.com/", false),
            ("https://example.com\\@evil.org/", false),
            ("https://exam\nple.com/", false),
            ("https://example.com/ä", false),
            ("com.example:/callback", false),
            ("javascript:alert(1)", false),
            ("", false),
        ] {
            assert_eq!(is_legal(uri, "example.com", false), legal, "{uri}");
        }
    }

    #[test]
    fn native_programs_redirect_to_themselves() {
        for (uri, legal) in [
            ("com.example.app:/callback", true),
            ("com.example:/", true),
            ("com.example:callback", true),
            ("http://localhost/callback", true),
            ("http://127.0.0.1/callback", true),
            ("http://[::1]/callback", true),
            ("https://app.example.com/callback", true),
            ("example:/callback", false),
            ("com.example.app://callback", false),
            ("com.example.app:///callback", false),
            ("com.examples:/callback", false),
            ("https://localhost/callback", false),
            ("http://localhost:1234/callback", false),
            ("http://localhost:80/callback", false),
            ("http://localhost.evil.org/callback", false),
            ("http://localhost@evil.org/callback", false),
            ("http://example.com/", false),
            ("com.example:/callback#x", false),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
        ] {
            assert_eq!(is_legal(uri, "example.com", true), legal, "{uri}");
        }
    }

    #[test]
    fn only_the_port_of_this_machine_may_differ() {
        for (uri, registered, same) in [
            ("http://127.0.0.1:1234/a", "http://127.0.0.1/a", true),
            ("http://[::1]:1234/a?b", "http://[::1]/a?b", true),
            ("http://localhost/a", "http://localhost/a", true),
            ("http://localhost:1/a", "http://127.0.0.1/a", false),
            ("http://localhost:1/b", "http://localhost/a", false),
            ("http://localhost:1/a/", "http://localhost/a", false),
            ("http://localhost:1x/a", "http://localhost/a", false),
            ("http://localhost:99999/a", "http://localhost/a", false),
            ("http://localhost:1@evil.org/a", "http://localhost/a", false),
            ("http://localhost:1/a#b", "http://localhost/a", false),
            ("https://a.org:1/a", "https://a.org/a", false),
            ("https://a.org/A", "https://a.org/a", false),
            ("https://a.org/a?b", "https://a.org/a", false),
        ] {
            assert_eq!(is_same(uri, registered), same, "{uri}");
        }
    }

    #[test]
    fn an_answer_stands_behind_what_is_there() {
        let answer = [("code", "1"), ("state", "a b&c")];
        assert_eq!(with_answer("https://a/b", false, &answer), "https://a/b?code=1&state=a+b%26c");
        assert_eq!(with_answer("https://a/b?c", false, &answer[..1]), "https://a/b?c&code=1");
        assert_eq!(with_answer("com.a:/b?c", true, &answer[..1]), "com.a:/b?c#code=1");
    }

    #[test]
    fn people_are_told_where_it_leads() {
        for (uri, words) in [
            ("https://a.org:8/b?c", "a.org"),
            ("http://127.0.0.1:1234/b", "a program on this device"),
            ("http://[::1]:1234/b", "a program on this device"),
            ("org.a.app:/b", "the app org.a.app on this device"),
        ] {
            assert_eq!(place(uri), words);
        }
    }
}
