//! This server's name and key, with which it signs what it sends.

use ruma::{
    ServerName,
    signatures::{Ed25519KeyPair, Ed25519KeyPairParseError},
};

use super::federation::policy::Consents;
use crate::base::secret::Secret;

/// This server, as it signs.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Its name.
    pub server_name: &'a ServerName,
    /// Its key.
    pub key: &'a Ed25519KeyPair,
    /// What the policy servers of rooms have signed, too.
    pub consents: &'a Consents,
}

/// The key that follows from 32 secret bytes and goes by `ed25519:VERSION`.
///
/// # Errors
/// The bytes make no key.
pub fn signing_key(
    version: &str,
    seed: &Secret<[u8; 32]>,
) -> Result<Ed25519KeyPair, Ed25519KeyPairParseError> {
    let document = [&PKCS8_ED25519[..], seed.expose()].concat();
    Ed25519KeyPair::from_der(&document, version.to_owned())
}

/// What stands before the seed in the form in which keys are read. <https://www.rfc-editor.org/rfc/rfc8410#section-7>
const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

#[cfg(test)]
mod tests {
    use ruma::{CanonicalJsonObject, serde::Base64, signatures::sign_json};

    use super::*;

    #[test]
    fn a_seed_makes_the_key_of_the_specifications_test_vectors() {
        let seed =
            Base64::<ruma::serde::base64::Standard>::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1");
        let seed = Secret::new(seed.unwrap().as_bytes().try_into().unwrap());
        let key = signing_key("1", &seed).unwrap();
        let mut object = CanonicalJsonObject::new();
        sign_json("domain", &key, &mut object).unwrap();
        let signed = serde_json::to_string(&object).unwrap();
        assert!(signed.contains(
            "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"
        ));
    }
}
