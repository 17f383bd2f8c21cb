//! Whether an identity token is good, as a pure function of it, the keys and what is expected.
//! <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    keys::{Algorithm, Key},
    provider::ProviderError,
};
use crate::base::{clock::Timestamp, limits, unambiguous};

/// Why it isn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it is malformed")]
    Form,
    #[error("it is signed in a way that is not taken")]
    Algorithm,
    #[error("nobody knows the key that signed it")]
    Key,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is another issuer's")]
    Issuer,
    #[error("it is for somebody else")]
    Audience,
    #[error("it has expired, or is not good yet")]
    Time,
    #[error("it answers another request")]
    Nonce,
    #[error("it names nobody")]
    Subject,
}

/// What must stand in it.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: Timestamp,
}

/// What it says.
pub(super) struct Claims {
    pub(super) subject: String,
    /// All claims.
    pub(super) others: Map<String, Value>,
}

impl Claims {
    /// Whether the token tells that the person was asked since a moment who they are, as it must where an age was asked for;
    /// not every provider's does. An error if it tells that they were not.
    /// <https://openid.net/specs/openid-connect-core-1_0.html#IDToken>
    pub(super) fn are_fresh(&self, since: Timestamp) -> Result<bool, ProviderError> {
        let Some(at) = self.others.get("auth_time").filter(|at| !at.is_null()) else { return Ok(false) };
        let skew = limits::PROVIDER_SKEW.as_secs_f64();
        match at.as_f64().is_some_and(|at| at + 1.0 + skew > since.0 as f64 / 1_000.0) {
            true => Ok(true),
            false => Err(ProviderError::Content("the person was not asked now who they are")),
        }
    }
}

/// The claims of a good token.
pub(super) fn claims(token: &str, keys: &[Key], expected: &Expected<'_>) -> Result<Claims, Fault> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(Fault::Form)?;
    let header = object(header)?;
    // It must be understood, and nothing that stands there is.
    if header.contains_key("crit") {
        return Err(Fault::Form);
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::of_name);
    let algorithm = algorithm.ok_or(Fault::Algorithm)?;
    let id = header.get("kid").and_then(Value::as_str);
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Fault::Form)?;
    let may_be = |key: &&Key| key.is_for(algorithm) && (id.is_none() || key.id.as_deref() == id);
    let mut fitting = keys.iter().filter(may_be).peekable();
    if fitting.peek().is_none() {
        return Err(Fault::Key);
    }
    if !fitting.any(|key| key.signed(algorithm, signed.as_bytes(), &signature)) {
        // Without its name, a key that is new can't be told from a wrong one.
        return Err(if id.is_none() { Fault::Key } else { Fault::Signature });
    }
    judged(object(claims)?, expected)
}

/// Claims that are signed.
fn judged(claims: Map<String, Value>, expected: &Expected<'_>) -> Result<Claims, Fault> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(Fault::Issuer);
    }
    let party = claims.get("azp");
    let is_for_us = match claims.get("aud") {
        Some(Value::String(audience)) => audience == expected.client_id,
        // One that is for others too must have been given to this server.
        Some(Value::Array(audiences)) => {
            audiences.iter().any(|audience| audience == expected.client_id)
                && (audiences.len() == 1 || party.is_some())
        }
        _ => false,
    };
    if !is_for_us || party.is_some_and(|party| party != expected.client_id) {
        return Err(Fault::Audience);
    }
    let skew = limits::PROVIDER_SKEW.as_secs_f64();
    let now = expected.now.0 as f64 / 1_000.0;
    let time = |claim: &str| claims.get(claim).map(|time| time.as_f64().ok_or(Fault::Form)).transpose();
    let (until, issued) = (time("exp")?.ok_or(Fault::Form)?, time("iat")?.ok_or(Fault::Form)?);
    let from = time("nbf")?.map_or(issued, |from| from.max(issued));
    if now >= until + skew || from > now + skew {
        return Err(Fault::Time);
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(Fault::Nonce);
    }
    let subject = text("sub").filter(|subject| (1..=limits::SUBJECT_BYTES).contains(&subject.len()));
    Ok(Claims { subject: subject.ok_or(Fault::Subject)?.to_owned(), others: claims })
}

fn object(part: &str) -> Result<Map<String, Value>, Fault> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Form)?;
    unambiguous::check(&json).map_err(|_| Fault::Form)?;
    serde_json::from_slice(&json).map_err(|_| Fault::Form)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://id", client_id: "us", nonce: "n", now: Timestamp(1_000_000) };

    fn fault(change: impl FnOnce(&mut Value)) -> Option<Fault> {
        let mut claims = json!({
            "iss": "https://id", "aud": "us", "exp": 1_300, "iat": 1_000, "nonce": "n", "sub": "alice",
        });
        change(&mut claims);
        let Value::Object(claims) = claims else { panic!("an object") };
        judged(claims, &EXPECTED).err()
    }

    #[test]
    fn every_claim_is_judged() {
        let table: &[(&str, Value, Option<Fault>)] = &[
            ("x", json!(1), None),
            ("iss", json!("https://id/"), Some(Fault::Issuer)),
            ("iss", json!(null), Some(Fault::Issuer)),
            ("aud", json!(["us"]), None),
            ("aud", json!("them"), Some(Fault::Audience)),
            ("aud", json!(["them"]), Some(Fault::Audience)),
            ("aud", json!(["us", "them"]), Some(Fault::Audience)),
            ("aud", json!([]), Some(Fault::Audience)),
            ("azp", json!("us"), None),
            ("azp", json!("them"), Some(Fault::Audience)),
            ("exp", json!(941), None),
            ("exp", json!(940), Some(Fault::Time)),
            ("exp", json!("1300"), Some(Fault::Form)),
            ("exp", json!(1_000.5), None),
            ("iat", json!(1_060), None),
            ("iat", json!(1_061), Some(Fault::Time)),
            ("iat", json!(null), Some(Fault::Form)),
            ("nbf", json!(1_061), Some(Fault::Time)),
            ("nonce", json!("m"), Some(Fault::Nonce)),
            ("nonce", json!(null), Some(Fault::Nonce)),
            ("sub", json!(""), Some(Fault::Subject)),
            ("sub", json!(7), Some(Fault::Subject)),
            ("sub", json!("a".repeat(limits::SUBJECT_BYTES)), None),
            ("sub", json!("a".repeat(limits::SUBJECT_BYTES + 1)), Some(Fault::Subject)),
        ];
        for (claim, value, expected) in table {
            let found = fault(|claims| claims[*claim] = value.clone());
            assert_eq!(found, *expected, "{claim}: {value}");
        }
        for claim in ["iss", "aud", "exp", "iat", "nonce", "sub"] {
            assert!(fault(|claims| _ = claims.as_object_mut().unwrap().remove(claim)).is_some(), "{claim}");
        }
        let both = fault(|claims| (claims["aud"], claims["azp"]) = (json!(["us", "them"]), json!("us")));
        assert_eq!(both, None);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let keys: &[Key] = &[];
        for (token, fault) in [
            (String::new(), Fault::Form),
            ("a.b".to_owned(), Fault::Form),
            ("!.b.c".to_owned(), Fault::Form),
            (format!("{}.e30.", part(json!([]))), Fault::Form),
            (format!("{}.e30.", part(json!({}))), Fault::Algorithm),
            (format!("{}.e30.", part(json!({"alg": "none"}))), Fault::Algorithm),
            (format!("{}.e30.AA", part(json!({"alg": "HS256"}))), Fault::Algorithm),
            (format!("{}.e30.AA", part(json!({"alg": "ES256", "crit": ["x"]}))), Fault::Form),
            (format!("{}.e30.AA", part(json!({"alg": "ES256"}))), Fault::Key),
            (
                format!("{}.e30.AA", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","alg":"none"}"#)),
                Fault::Form,
            ),
        ] {
            assert_eq!(claims(&token, keys, &EXPECTED).err(), Some(fault), "{token}");
        }
    }
}
