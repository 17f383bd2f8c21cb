//! How servers prove requests to each other: the `X-Matrix` scheme of the `Authorization` header.
//!
//! It stands here because a request is no event: what is signed is its method, path and body, as they went over the net.
//! The code is pure; keys are arguments.
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::{borrow::Cow, str::CharIndices};

use http::HeaderValue;
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, KeyPair, verify_canonical_json_bytes},
};

use crate::base::{
    json::{JsonError, nested_text},
    limits,
};

/// What of a request is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    pub method: &'a str,
    /// The path with its query, as it stands in the request.
    pub uri: &'a str,
    /// The body as JSON; none if it is empty.
    pub content: Option<&'a str>,
}

/// Who says to have sent a request, and the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    pub origin: OwnedServerName,
    /// Older servers leave it out.
    pub destination: Option<OwnedServerName>,
    pub key: OwnedServerSigningKeyId,
    pub signature: Base64,
}

/// Why a header is no proof of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is of another scheme than X-Matrix")]
    Scheme,
    #[error("it is no list of names with values")]
    List,
    #[error("`{0}` is there twice")]
    Twice(&'static str),
    #[error("`{0}` is missing or malformed")]
    Parameter(&'static str),
}

/// Why a request is not from whom it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("it is for another server")]
    Destination,
    #[error("its body is no JSON that can be signed")]
    Content,
    #[error("the key is of no known kind")]
    Algorithm,
    #[error("the signature is not by this key")]
    Signature,
}

/// The header that proves a request.
///
/// # Errors
/// The body is no JSON.
pub fn sign(
    request: Signable<'_>,
    origin: &ServerName,
    destination: &ServerName,
    key: &Ed25519KeyPair,
) -> Result<HeaderValue, JsonError> {
    let signature = key.sign(request.text(origin, destination)?.as_bytes());
    let sig = Base64::<Standard, _>::new(signature.as_bytes()).encode();
    // In quotes all of it, in small letters and without spaces, for older servers.
    let header = format!(
        "X-Matrix origin=\"{origin}\",destination=\"{destination}\",key=\"{}\",sig=\"{sig}\"",
        signature.id()
    );
    Ok(HeaderValue::try_from(header).expect("names of servers and keys are of visible characters"))
}

impl XMatrix {
    /// Reads a header.
    ///
    /// # Errors
    /// It is no `X-Matrix` header, or not all of one.
    pub fn parse(header: &HeaderValue) -> Result<Self, Malformed> {
        let header = header.to_str().map_err(|_| Malformed::List)?;
        let (scheme, list) = header.split_once(' ').ok_or(Malformed::Scheme)?;
        if !scheme.eq_ignore_ascii_case("x-matrix") {
            return Err(Malformed::Scheme);
        }
        let mut values = [None, None, None, None];
        let mut list = List(list);
        while let Some((name, value)) = list.next()? {
            let known = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known));
            if let Some(place) = known
                && values[place].replace(value).is_some()
            {
                return Err(Malformed::Twice(NAMES[place]));
            }
        }
        let [origin, destination, key, sig] = values;
        let server =
            |value: Cow<'_, str>, name| ServerName::parse(value).map_err(|_| Malformed::Parameter(name));
        let missing = Malformed::Parameter;
        Ok(Self {
            origin: server(origin.ok_or(missing("origin"))?, "origin")?,
            destination: destination.map(|value| server(value, "destination")).transpose()?,
            key: key.and_then(|value| value.parse().ok()).ok_or(missing("key"))?,
            signature: sig.and_then(|value| Base64::parse(value.as_bytes()).ok()).ok_or(missing("sig"))?,
        })
    }

    /// Checks that it is for this server, as far as it says.
    ///
    /// # Errors
    /// It is for another one.
    pub fn is_for(&self, own: &ServerName) -> Result<(), Unproven> {
        match self.destination.as_deref() {
            Some(destination) if destination != own => Err(Unproven::Destination),
            _ => Ok(()),
        }
    }

    /// Checks that a request is from [`Self::origin`] and for this server, by the origin's key of the id [`Self::key`].
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(&self, request: Signable<'_>, own: &ServerName, key: &[u8]) -> Result<(), Unproven> {
        self.is_for(own)?;
        if self.key.algorithm() != SigningKeyAlgorithm::Ed25519 {
            return Err(Unproven::Algorithm);
        }
        let text = request.text(&self.origin, own).map_err(|_| Unproven::Content)?;
        verify_canonical_json_bytes(
            &SigningKeyAlgorithm::Ed25519,
            key,
            self.signature.as_bytes(),
            text.as_bytes(),
        )
        .map_err(|_| Unproven::Signature)
    }
}

impl Signable<'_> {
    /// The canonical form of what is signed. The body may hold events of old room versions, with the numbers that those
    /// allow, and such as are nested too deep, which are refused one by one.
    fn text(&self, origin: &ServerName, destination: &ServerName) -> Result<String, JsonError> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let content = match self.content {
            Some(content) => {
                format!("\"content\":{},", nested_text(content, limits::REQUEST_DEPTH)?)
            }
            None => String::new(),
        };
        let (destination, method) = (quoted(destination.as_str()), quoted(self.method));
        let (origin, uri) = (quoted(origin.as_str()), quoted(self.uri));
        Ok(format!(
            "{{{content}\"destination\":{destination},\"method\":{method},\"origin\":{origin},\"uri\":{uri}}}"
        ))
    }
}

/// Names with their values, separated by commas. <https://www.rfc-editor.org/rfc/rfc9110#section-11.4>
struct List<'a>(&'a str);

impl<'a> List<'a> {
    /// The next of them, if there is one more.
    fn next(&mut self) -> Result<Option<(&'a str, Cow<'a, str>)>, Malformed> {
        // A list may have empty elements. <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1.2>
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
        if self.0.is_empty() {
            return Ok(None);
        }
        let name = self.while_in(is_token);
        self.skip_spaces();
        self.0 = self.0.strip_prefix('=').filter(|_| !name.is_empty()).ok_or(Malformed::List)?;
        self.skip_spaces();
        let value = match self.0.strip_prefix('"') {
            Some(quoted) => self.unquoted(quoted)?,
            // For older servers a colon needs no quotes.
            None => self.while_in(|c| is_token(c) || c == ':').into(),
        };
        self.skip_spaces();
        if self.0.is_empty() || self.0.starts_with(',') {
            Ok(Some((name, value)))
        } else {
            Err(Malformed::List)
        }
    }

    fn while_in(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (found, rest) = self.0.split_at(end);
        self.0 = rest;
        found
    }

    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// What is in quotes; a backslash stands before a character that is meant as it is.
    fn unquoted(&mut self, quoted: &'a str) -> Result<Cow<'a, str>, Malformed> {
        let mut characters: CharIndices<'_> = quoted.char_indices();
        let mut value = Cow::Borrowed("");
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Ok(value);
                }
                '\\' => {
                    let (_, c) = characters.next().ok_or(Malformed::List)?;
                    value.to_mut().push(c);
                }
                c => match &mut value {
                    Cow::Borrowed(text) => *text = &quoted[..at + c.len_utf8()],
                    Cow::Owned(text) => text.push(c),
                },
            }
        }
        Err(Malformed::List)
    }
}

/// <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2>
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

const NAMES: [&str; 4] = ["origin", "destination", "key", "sig"];

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the specification's test vectors.
    fn key() -> Ed25519KeyPair {
        let seed = Base64::<Standard>::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        Ed25519KeyPair::from_der(&[&prefix[..], seed.as_bytes()].concat(), "key1".to_owned()).unwrap()
    }

    fn public() -> Vec<u8> {
        key().public_key().to_vec()
    }

    const REQUEST: Signable<'_> = Signable {
        method: "PUT",
        uri: "/_matrix/federation/v1/send/1?a=%20b",
        content: Some(r#"{"b": [1.50, -0, 1E+2], "a": "\u00e9"}"#),
    };

    fn names() -> (OwnedServerName, OwnedServerName) {
        (ServerName::parse("origin.org").unwrap(), ServerName::parse("[::1]:8448").unwrap())
    }

    fn signed() -> XMatrix {
        let (origin, destination) = names();
        XMatrix::parse(&sign(REQUEST, &origin, &destination, &key()).unwrap()).unwrap()
    }

    #[test]
    fn what_is_signed_is_the_canonical_form_of_the_whole_request() {
        let (origin, destination) = names();
        let text = REQUEST.text(&origin, &destination).unwrap();
        let expected = concat!(
            r#"{"content":{"a":"é","b":[1.5,0,100.0]},"destination":"[::1]:8448","method":"PUT","#,
            r#""origin":"origin.org","uri":"/_matrix/federation/v1/send/1?a=%20b"}"#
        );
        assert_eq!(text, expected);
        let text = Signable { content: None, ..REQUEST }.text(&origin, &destination).unwrap();
        assert!(text.starts_with(r#"{"destination""#), "{text}");
    }

    #[test]
    fn a_header_is_written_for_older_servers_too() {
        let (origin, destination) = names();
        let header = sign(REQUEST, &origin, &destination, &key()).unwrap();
        let header = header.to_str().unwrap();
        let start = r#"X-Matrix origin="origin.org",destination="[::1]:8448",key="ed25519:key1",sig=""#;
        assert!(header.starts_with(start) && header.ends_with('"'), "{header}");
        assert!(!header[9..].contains([' ', '\\']), "{header}");
    }

    #[test]
    fn a_request_is_proven_by_every_part_of_it() {
        let (_, own) = names();
        let (good, key) = (signed(), public());
        assert_eq!(good.verify(REQUEST, &own, &key), Ok(()));
        let other = ServerName::parse("other.org").unwrap();
        for (what, proof, request) in [
            ("method", good.clone(), Signable { method: "POST", ..REQUEST }),
            ("query", good.clone(), Signable { uri: "/_matrix/federation/v1/send/1", ..REQUEST }),
            ("content", good.clone(), Signable { content: Some("{}"), ..REQUEST }),
            ("no content", good.clone(), Signable { content: None, ..REQUEST }),
            ("origin", XMatrix { origin: other.clone(), ..good.clone() }, REQUEST),
        ] {
            assert_eq!(proof.verify(request, &own, &key), Err(Unproven::Signature), "{what}");
        }
        assert_eq!(good.verify(REQUEST, &other, &key), Err(Unproven::Destination));
        let wrong_key = vec![1; 32];
        assert_eq!(good.verify(REQUEST, &own, &wrong_key), Err(Unproven::Signature));
        // Without a destination in the header it is signed all the same.
        let silent = XMatrix { destination: None, ..good.clone() };
        assert_eq!(silent.verify(REQUEST, &own, &key), Ok(()));
        assert_eq!(silent.verify(REQUEST, &other, &key), Err(Unproven::Signature));
        let unknown = XMatrix { key: "rsa:1".try_into().unwrap(), ..good.clone() };
        assert_eq!(unknown.verify(REQUEST, &own, &key), Err(Unproven::Algorithm));
        for content in ["", "{", r#"{"a":1,"a":2}"#] {
            let request = Signable { content: Some(content), ..REQUEST };
            assert_eq!(good.verify(request, &own, &key), Err(Unproven::Content), "{content}");
        }
    }

    fn parsed(header: &str) -> Result<XMatrix, Malformed> {
        XMatrix::parse(&HeaderValue::from_str(header).unwrap())
    }

    #[test]
    fn headers_are_read_as_the_standard_and_older_servers_write_them() {
        let expected = XMatrix {
            origin: ServerName::parse("a.org:1").unwrap(),
            destination: Some(ServerName::parse("b.org").unwrap()),
            key: "ed25519:k".try_into().unwrap(),
            signature: Base64::new(b"test".to_vec()),
        };
        for header in [
            r#"X-Matrix origin="a.org:1",destination="b.org",key="ed25519:k",sig="dGVzdA""#,
            r#"X-Matrix origin="a.org:1",destination="b.org",key="ed25519:k",sig="dGVzdA==""#,
            "X-Matrix origin=a.org:1,destination=b.org,key=ed25519:k,sig=dGVzdA",
            "x-matrix   ORIGIN=a.org:1 ,	 Destination=b.org,KEY=ed25519:k , sig=dGVzdA ",
            r#"X-Matrix sig="dGVzdA",key="ed25519\:\k",destination="b\.org",origin="a.org:\1""#,
            r#"X-Matrix ,origin = "a.org:1",,destination=b.org,key=ed25519:k,sig=dGVzdA,new="\",=",signature=x,"#,
        ] {
            let header = header.replace(r"\\", r"\");
            assert_eq!(parsed(&header), Ok(expected.clone()), "{header}");
        }
        let old = "X-Matrix origin=a.org:1,key=ed25519:k,sig=dGVzdA";
        assert_eq!(parsed(old), Ok(XMatrix { destination: None, ..expected }));
    }

    #[test]
    fn what_is_no_header_of_the_scheme_is_refused_with_the_reason() {
        for (header, expected) in [
            ("", Malformed::Scheme),
            ("X-Matrix", Malformed::Scheme),
            ("Bearer origin=a.org,key=ed25519:k,sig=dGVzdA", Malformed::Scheme),
            ("X-Matrix ", Malformed::Parameter("origin")),
            ("X-Matrix key=ed25519:k,sig=dGVzdA", Malformed::Parameter("origin")),
            ("X-Matrix origin=a.org,sig=dGVzdA", Malformed::Parameter("key")),
            ("X-Matrix origin=a.org,key=ed25519:k", Malformed::Parameter("sig")),
            ("X-Matrix origin=\"a b\",key=ed25519:k,sig=dGVzdA", Malformed::Parameter("origin")),
            (
                "X-Matrix origin=a.org,destination=\"\",key=ed25519:k,sig=dGVzdA",
                Malformed::Parameter("destination"),
            ),
            ("X-Matrix origin=a.org,key=k,sig=dGVzdA", Malformed::Parameter("key")),
            ("X-Matrix origin=a.org,key=ed25519:k,sig=\"(\"", Malformed::Parameter("sig")),
            ("X-Matrix origin=a.org,origin=a.org,key=ed25519:k,sig=dGVzdA", Malformed::Twice("origin")),
            ("X-Matrix origin=a.org key=ed25519:k,sig=dGVzdA", Malformed::List),
            ("X-Matrix origin=\"a.org,key=ed25519:k,sig=dGVzdA", Malformed::List),
            ("X-Matrix origin=a.org,key=ed25519:k,sig=\"a\\", Malformed::List),
            ("X-Matrix origin=[::1],key=ed25519:k,sig=dGVzdA", Malformed::List),
            ("X-Matrix origin", Malformed::List),
            ("X-Matrix =a.org", Malformed::List),
        ] {
            assert_eq!(parsed(header), Err(expected), "{header}");
        }
    }
}
