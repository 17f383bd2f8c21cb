//! The keys by which an event from elsewhere is checked.
//! <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName, ServerSigningKeyId,
    serde::Base64, signatures::PublicKeyMap,
};
use tokio::task::JoinSet;

use crate::{
    base::{clock::Timestamp, json::Object, limits},
    room::{receive::Dropped, sign::signers, version::Version},
    service::{
        App,
        server_keys::{self, Asker, ServerKeyError},
    },
    store::{StoreError, StoredServerKey},
};

/// Asks the servers that must have signed some events for their keys, each once and several at a time, so that none of the
/// events waits for what another one could have brought.
pub(super) async fn gather(app: &App, events: &[Object], version: Version) {
    let mut wanted: BTreeMap<OwnedServerName, (OwnedServerSigningKeyId, Timestamp)> = BTreeMap::new();
    for event in events {
        for server in signers(event, version).into_iter().flatten() {
            if server == app.server_name || wanted.contains_key(&server) {
                continue;
            }
            let id = key_ids(event, server.as_str()).next().map(ToOwned::to_owned);
            wanted.extend(id.map(|id| (server, (id, sent(event)))));
        }
    }
    let mut asked = JoinSet::new();
    for (server, (id, sent)) in wanted {
        if asked.len() >= limits::KEY_ASKED {
            asked.join_next().await;
        }
        let app = app.clone();
        // What comes of it is asked for again, event by event, where it is known then.
        asked.spawn(async move { drop(server_keys::key(&app, &server, &id, sent, Asker::Peer).await) });
    }
    while asked.join_next().await.is_some() {}
}

/// The keys of those servers that must have signed an event, as far as it is signed by them and they were good when it
/// says that it was sent. A server that tells no keys has none: the event is then not to be believed.
///
/// # Errors
/// The store failed.
pub(super) async fn keys(app: &App, event: &Object, version: Version) -> Result<PublicKeyMap, StoreError> {
    keys_of(app, event, signers(event, version).unwrap_or_default(), version).await
}

/// The same for some servers that signed it.
///
/// # Errors
/// The store failed.
pub(super) async fn keys_of(
    app: &App,
    event: &Object,
    servers: BTreeSet<OwnedServerName>,
    version: Version,
) -> Result<PublicKeyMap, StoreError> {
    let mut found = PublicKeyMap::new();
    let sent = sent(event);
    for server in servers {
        for id in key_ids(event, server.as_str()) {
            let key = match server_keys::key(app, &server, id, sent, Asker::Peer).await {
                Ok(key) => key,
                Err(ServerKeyError::Store(error)) => return Err(error),
                Err(ServerKeyError::Net(error)) => {
                    tracing::debug!(%server, %error, "a server tells no keys");
                    continue;
                }
            };
            add(&mut found, &server, id, key, (sent, version));
        }
    }
    Ok(found)
}

/// Adds what is known of a key: of a server that is to be heard again, nothing.
pub(super) fn add(
    keys: &mut PublicKeyMap,
    server: &ServerName,
    id: &ServerSigningKeyId,
    key: Option<StoredServerKey>,
    (sent, version): (Timestamp, Version),
) {
    let asks = version.rules().enforce_key_validity;
    let Some(is_good) = key.as_ref().map_or(Some(false), |key| key.is_good_at(sent, asks)) else { return };
    let of_server = keys.entry(server.to_string()).or_default();
    of_server.extend(key.filter(|_| is_good).map(|key| (id.to_string(), Base64::new(key.key))));
}

/// Whether an event was dropped because a server that signed it is still to be heard of its keys.
pub(super) fn lacks_keys(dropped: &Dropped, event: &Object, keys: &PublicKeyMap, version: Version) -> bool {
    let lacks = |server: &OwnedServerName| {
        !keys.contains_key(server.as_str()) && key_ids(event, server.as_str()).next().is_some()
    };
    matches!(dropped, Dropped::Signature(_)) && signers(event, version).unwrap_or_default().iter().any(lacks)
}

/// The ids of the keys by which a server says that it signed an event.
pub(super) fn key_ids<'e>(event: &'e Object, server: &str) -> impl Iterator<Item = &'e ServerSigningKeyId> {
    let signatures = event.get("signatures").and_then(CanonicalJsonValue::as_object);
    let of_server = signatures.and_then(|signatures| signatures.get(server)?.as_object());
    let ids = of_server.into_iter().flatten().map(|(id, _)| id.as_str());
    ids.filter_map(|id| <&ServerSigningKeyId>::try_from(id).ok()).take(limits::SIGNATURES)
}

/// When an event says that it was sent.
pub(super) fn sent(event: &Object) -> Timestamp {
    let sent = event.integer("origin_server_ts").and_then(|time| u64::try_from(time).ok());
    Timestamp(sent.unwrap_or_default())
}
