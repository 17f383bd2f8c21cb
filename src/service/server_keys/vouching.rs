//! This server as a notary: what others said of their keys, for those who can't ask them.
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>

use std::collections::BTreeMap;

use ruma::{OwnedServerName, ServerName, signatures::sign_json};
use serde_json::value::{RawValue, to_raw_value};
use tokio::{task::JoinSet, time::timeout};

use super::{Asker, own, refresh};
use crate::{
    base::{clock::Timestamp, json::canonical_object, limits},
    net::discovery::unspelled,
    service::App,
    store::{KeyDocument, StoreError},
};

/// What some servers said last of their keys, with this server's signature. A server whose word is not good for as long as
/// is wanted is asked; if that is in vain, what it said before is told.
pub async fn vouched(app: &App, wanted: BTreeMap<OwnedServerName, Timestamp>) -> Vec<Box<RawValue>> {
    let (mut asked, mut told) = (JoinSet::new(), Vec::new());
    for (server, until) in wanted.into_iter().take(limits::NOTARY_SERVERS) {
        let app = app.clone();
        asked.spawn(async move { vouch(&app, &server, until).await });
    }
    while let Some(document) = asked.join_next().await {
        told.extend(document.ok().flatten());
    }
    told
}

async fn vouch(app: &App, server: &ServerName, until: Timestamp) -> Option<Box<RawValue>> {
    if *server == app.server_name {
        return own(app).await.ok();
    }
    let mut document = known(app, server).await.ok()?;
    if document.as_ref().is_none_or(|document| document.valid_until < until) {
        let asking = timeout(limits::NOTARY_TIME, refresh(app, server, None, Asker::Stranger));
        if let Ok(Ok(_)) = asking.await {
            document = known(app, server).await.ok()?;
        }
    }
    let mut object = canonical_object(&document?.text).ok()?;
    let signer = app.signer();
    sign_json(signer.server_name.as_str(), signer.key, &mut object).ok()?;
    to_raw_value(&object).ok()
}

async fn known(app: &App, server: &ServerName) -> Result<Option<KeyDocument>, StoreError> {
    if let Some(Ok(fetched)) = app.server_keys.servers.last(&unspelled(server))
        && fetched.server == *server
        && let Some(document) = &fetched.document
    {
        return Ok(Some(document.clone()));
    }
    let server = server.to_owned();
    app.store.read(move |view| view.server_key_document(server.as_str())).await
}
