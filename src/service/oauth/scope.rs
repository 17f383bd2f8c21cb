//! What a program may do: everything, as one device.
//! <https://spec.matrix.org/v1.19/client-server-api/#scope>

use ruma::OwnedDeviceId;

use crate::base::limits;

/// A scope that a program may be granted.
#[derive(Clone)]
pub struct Scope {
    pub device_id: OwnedDeviceId,
    /// What of the scope is known, in the words of whoever asked.
    pub text: String,
}

impl Scope {
    /// Reads a scope; none unless it has the API and exactly one device. What it has beside them is granted to nobody.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
        let (mut has_api, mut device_id, mut known) = (false, None, Vec::new());
        for token in text.split(' ') {
            let Some(what) = PREFIXES.iter().find_map(|prefix| token.strip_prefix(prefix)) else { continue };
            match what.strip_prefix("device:") {
                Some(id) if device_id.is_none_or(|other| other == id) => device_id = Some(id),
                Some(_) => return None,
                None if what == "api:*" => has_api = true,
                None => continue,
            }
            known.push(token);
        }
        let device_id = device_id.filter(|id| !id.is_empty() && id.bytes().all(legal))?;
        let fits = text.len() <= limits::OAUTH_SCOPE_BYTES && device_id.len() <= limits::DEVICE_FIELD_BYTES;
        (has_api && fits).then(|| Self { device_id: device_id.into(), text: known.join(" ") })
    }
}

/// The names, and those of [MSC2967](https://github.com/matrix-org/matrix-spec-proposals/pull/2967), which clients still
/// use.
const PREFIXES: [&str; 2] = ["urn:matrix:client:", "urn:matrix:org.matrix.msc2967.client:"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_the_api_and_one_device() {
        let parsed = |text: &str| Scope::parse(text).map(|scope| (scope.device_id.to_string(), scope.text));
        let of = |device: &str, text: &str| Some((device.to_owned(), text.to_owned()));
        let usual = "urn:matrix:client:api:* urn:matrix:client:device:AB-._~c";
        assert_eq!(parsed(usual), of("AB-._~c", usual));
        let old = "urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:A";
        assert_eq!(parsed(old), of("A", old));
        assert_eq!(parsed(&format!("openid {old} urn:matrix:client:other")), of("A", old));
        let both = format!("{old} urn:matrix:client:device:A");
        assert_eq!(parsed(&both), of("A", &both));
        for bad in [
            "",
            "urn:matrix:client:api:*",
            "urn:matrix:client:device:A",
            "urn:matrix:client:api:* urn:matrix:client:device:",
            "urn:matrix:client:api:* urn:matrix:client:device:a\"b",
            "urn:matrix:client:api:* urn:matrix:client:device:a\\b",
            "urn:matrix:client:api:* urn:matrix:client:device:ä",
            "urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:client:device:B",
            "urn:matrix:client:api:read urn:matrix:client:device:A",
            &format!("urn:matrix:client:api:* urn:matrix:client:device:{}", "A".repeat(256)),
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
