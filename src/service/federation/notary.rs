//! The keys of servers that don't tell them any more, as another one says that they were.
//!
//! Such a document is signed by the keys that are in it, so whoever is asked could make it up: nothing proves it but that
//! word. It counts for servers that can't be asked themselves, for events that the same server tells of, and no longer than
//! it takes to check these.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>

use std::collections::BTreeMap;

use http::StatusCode;
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName,
    api::federation::discovery::get_remote_server_keys_batch::v2::{QueryCriteria, Request},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ask::call;
use crate::{
    base::{clock::Timestamp, limits, ordered::Ordered},
    net::{Bounds, NetError, keys},
    service::App,
    store::StoredServerKey,
};

/// The ids of keys of some servers, each with the time at which it should be good.
pub(super) type Wanted = BTreeMap<OwnedServerName, BTreeMap<OwnedServerSigningKeyId, Timestamp>>;

/// Those of some keys that a server tells.
///
/// # Errors
/// It tells none.
pub(super) async fn told(
    app: &App,
    notary: &ServerName,
    wanted: &Wanted,
) -> Result<Vec<(OwnedServerName, OwnedServerSigningKeyId, StoredServerKey)>, NetError> {
    #[derive(Deserialize)]
    struct Answer {
        server_keys: Vec<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Document {
        server_name: OwnedServerName,
    }
    let criteria = |(id, at): (&OwnedServerSigningKeyId, &Timestamp)| {
        let mut criteria = QueryCriteria::new();
        criteria.minimum_valid_until_ts = Some((*at).into());
        (id.clone(), criteria)
    };
    let asked = wanted.iter().map(|(server, ids)| (server.clone(), ids.iter().map(criteria).into_map()));
    let bounds = Bounds { body_bytes: limits::NOTARY_ANSWER_BYTES, ..Bounds::SMALL };
    let response = app.federation.send(notary, call(Request::new(asked.into_map()))?, bounds).await?;
    if response.status() != StatusCode::OK {
        return Err(NetError::Content("no keys by the status"));
    }
    let body = response.into_body().collect().await?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| NetError::Content("no keys of others"))?;
    let mut found = Vec::new();
    for document in answer.server_keys.iter().map(|document| document.get()) {
        let Ok(Document { server_name }) = serde_json::from_str(document) else { continue };
        let Some(ids) = wanted.get(&server_name) else { continue };
        let Ok(told) = keys::read(document, &server_name, app.clock.now()) else { continue };
        for key in told.keys.into_iter().filter(|key| ids.contains_key(&key.id)) {
            let (valid_until, expired_at) = (told.valid_until, key.expired_at);
            let stored = StoredServerKey { key: key.key.as_bytes().to_vec(), valid_until, expired_at };
            found.push((server_name.clone(), key.id, stored));
        }
    }
    Ok(found)
}
