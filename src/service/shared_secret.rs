//! Registration by shared secret: a tool that knows the secret of the configuration makes accounts, also in closed
//! mode. What it sends carries a code over it and over a nonce, so that nobody repeats it.

use std::net::IpAddr;

use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::App;
use crate::base::{expiring::Expiring, secret::Secret};

/// The nonces that are out.
pub type Nonces = Expiring<()>;

/// What the code covers.
pub struct Claim<'a> {
    pub nonce: &'a str,
    pub name: &'a str,
    pub password: &'a str,
    pub admin: bool,
    pub user_type: Option<&'a str>,
}

/// Why a claim is refused.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("no shared secret is configured")]
    Disabled,
    #[error("the nonce is unknown, used or too old")]
    Nonce,
    #[error("the code is wrong")]
    Code,
}

/// A nonce for one claim of a client, if that is known.
pub fn nonce(app: &App, client: Option<IpAddr>) -> Result<String, ClaimError> {
    secret(app)?;
    let nonce = app.rng.token();
    app.nonces.insert(client, nonce.clone(), (), app.clock.now());
    Ok(nonce)
}

/// Checks a claim by its code in hexadecimal digits, and uses its nonce up.
pub fn check(app: &App, claim: &Claim<'_>, code: &str) -> Result<(), ClaimError> {
    let secret = secret(app)?;
    app.nonces.take_if(claim.nonce, app.clock.now(), |()| true).ok_or(ClaimError::Nonce)?;
    let code = from_hex(code).ok_or(ClaimError::Code)?;
    mac(secret, claim).verify_slice(&code).map_err(|_| ClaimError::Code)
}

fn mac(secret: &Secret<String>, claim: &Claim<'_>) -> Hmac<Sha1> {
    let mut mac = Hmac::new_from_slice(secret.expose().as_bytes()).expect("a key has any length");
    let role = if claim.admin { "admin" } else { "notadmin" };
    let fields = [claim.nonce, claim.name, claim.password, role].into_iter().chain(claim.user_type);
    for (index, field) in fields.enumerate() {
        if index > 0 {
            mac.update(&[0]);
        }
        mac.update(field.as_bytes());
    }
    mac
}

fn secret(app: &App) -> Result<&Secret<String>, ClaimError> {
    app.registration.shared_secret.as_ref().ok_or(ClaimError::Disabled)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_covers_every_field() {
        let secret = Secret::new("secret".to_owned());
        let claim = Claim { nonce: "n", name: "alice", password: "pw", admin: true, user_type: None };
        let code = mac(&secret, &claim).finalize().into_bytes();
        // printf 'n\0alice\0pw\0admin' | openssl dgst -sha1 -hmac secret
        assert_eq!(from_hex("036e3dcd93f1e416023719328c17f3887c534b13").as_deref(), Some(&code[..]));
        for other in [
            Claim { nonce: "m", ..claim },
            Claim { name: "bob", ..claim },
            Claim { password: "pv", ..claim },
            Claim { admin: false, ..claim },
            Claim { user_type: Some("bot"), ..claim },
        ] {
            assert!(mac(&secret, &other).verify_slice(&code).is_err());
        }
    }

    #[test]
    fn hexadecimal_digits() {
        assert_eq!(from_hex("00fFa9"), Some(vec![0, 255, 0xa9]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("0g"), None);
        assert_eq!(from_hex("é"), None);
    }
}
