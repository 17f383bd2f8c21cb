//! The keys by which an event from elsewhere is checked.
//! <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>

use ruma::{CanonicalJsonValue, ServerSigningKeyId, serde::Base64, signatures::PublicKeyMap};

use crate::{
    base::{clock::Timestamp, json::Object, limits},
    room::{sign::signers, version::Version},
    service::{
        App,
        server_keys::{self, Asker, ServerKeyError},
    },
    store::StoreError,
};

/// The keys of those servers that must have signed an event, as far as it is signed by them and they were good when it
/// says that it was sent. A server that tells no keys has none: the event is then not to be believed.
///
/// # Errors
/// The store failed.
pub(super) async fn keys(app: &App, event: &Object, version: Version) -> Result<PublicKeyMap, StoreError> {
    let mut found = PublicKeyMap::new();
    let Ok(servers) = signers(event, version) else { return Ok(found) };
    let sent = event.integer("origin_server_ts").and_then(|time| u64::try_from(time).ok());
    let sent = Timestamp(sent.unwrap_or_default());
    let signatures = event.get("signatures").and_then(CanonicalJsonValue::as_object);
    for server in servers {
        let of_server = signatures.and_then(|signatures| signatures.get(server.as_str())?.as_object());
        let ids = of_server.into_iter().flatten().map(|(id, _)| id.as_str());
        for id in ids.filter_map(|id| <&ServerSigningKeyId>::try_from(id).ok()).take(limits::SIGNATURES) {
            let key = if server == app.server_name {
                let own = app.signer().key;
                (id.as_str() == format!("ed25519:{}", own.version())).then(|| own.public_key().to_vec())
            } else {
                match server_keys::key(app, &server, id, sent, Asker::Peer).await {
                    Ok(key) => key
                        .filter(|key| !version.rules().enforce_key_validity || key.is_valid_at(sent))
                        .map(|key| key.key),
                    Err(ServerKeyError::Store(error)) => return Err(error),
                    Err(ServerKeyError::Net(error)) => {
                        tracing::debug!(%server, %error, "a server tells no keys");
                        None
                    }
                }
            };
            let of_server = found.entry(server.to_string()).or_default();
            of_server.extend(key.map(|key| (id.to_string(), Base64::new(key))));
        }
    }
    Ok(found)
}
