//! The keys of servers: this one's, as it publishes them, and others', as they were fetched and kept.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName, ServerSigningKeyId,
    serde::{Base64, base64::Standard},
    signatures::sign_json,
};
use serde_json::value::{RawValue, to_raw_value};

use super::App;
use crate::{
    base::{clock::Timestamp, limits},
    net::{NetError, keys},
    store::{StoreError, StoredServerKey, Transaction},
};

/// Why it can't be said what a server's key is.
#[derive(Debug, thiserror::Error)]
pub enum ServerKeyError {
    #[error("the server's keys can't be had: {0}")]
    Net(#[from] NetError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// This server's keys, signed. There are no old ones: the signing key is made once and stays.
///
/// # Errors
/// They can't be signed.
pub fn own(app: &App) -> Result<Box<RawValue>, ruma::signatures::JsonError> {
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let object = |key: &str, value| CanonicalJsonObject::from([(key.to_owned(), value)]);
    let signer = app.signer();
    let id = format!("ed25519:{}", signer.key.version());
    let public = Base64::<Standard, _>::new(signer.key.public_key()).encode();
    let verify_keys = object(&id, object("key", CanonicalJsonValue::String(public)).into());
    let until = ruma::MilliSecondsSinceUnixEpoch::from(app.clock.now().plus(limits::OWN_KEYS_LIFETIME));
    let mut keys = CanonicalJsonObject::from([
        ("server_name".to_owned(), text(signer.server_name.as_str())),
        ("valid_until_ts".to_owned(), CanonicalJsonValue::Integer(until.0.into())),
        ("verify_keys".to_owned(), verify_keys.into()),
        ("old_verify_keys".to_owned(), CanonicalJsonObject::new().into()),
    ]);
    sign_json(signer.server_name.as_str(), signer.key, &mut keys)?;
    Ok(to_raw_value(&keys).expect("canonical JSON has a text"))
}

/// Another server's key, which is good at a time if there is one that is: the kept one, or else what the server says now.
/// Whether it is good enough is up to the caller. None: the server has no such key.
///
/// # Errors
/// The server has to be asked and doesn't tell, or was asked a moment ago and didn't.
pub async fn key(
    app: &App,
    server: &ServerName,
    id: &ServerSigningKeyId,
    at: Timestamp,
) -> Result<Option<StoredServerKey>, ServerKeyError> {
    let kept = kept(app, server, id).await?;
    // One that was given up never gets better.
    if kept.as_ref().is_some_and(|key| key.expired_at.is_some() || key.is_valid_at(at)) {
        return Ok(kept);
    }
    refresh(app, server).await?;
    Ok(self::kept(app, server, id).await?)
}

async fn kept(
    app: &App,
    server: &ServerName,
    id: &ServerSigningKeyId,
) -> Result<Option<StoredServerKey>, StoreError> {
    let (server, id) = (server.to_owned(), id.to_owned());
    app.store.read(move |view| view.server_key(server.as_str(), id.as_str())).await
}

/// Fetches a server's keys and keeps them, unless that was done or tried a moment ago.
async fn refresh(app: &App, server: &ServerName) -> Result<(), ServerKeyError> {
    let mut unkept = None;
    let fetch = async |_| {
        let fetched = keys::fetch(&app.federation, server, app.clock.now()).await;
        let outcome = match fetched {
            Ok(keys) => {
                unkept = keep(app, server.to_owned(), keys).await.err();
                Ok(())
            }
            Err(error) => Err(error),
        };
        let pause = if unkept.is_some() { std::time::Duration::ZERO } else { limits::SERVER_KEYS_PAUSE };
        (outcome, pause)
    };
    let outcome = app.server_key_fetches.get(&server.to_owned(), fetch).await;
    unkept.map_or(Ok(()), Err)?;
    Ok(outcome?)
}

async fn keep(app: &App, server: OwnedServerName, keys: keys::ServerKeys) -> Result<(), StoreError> {
    let valid_until = keys.valid_until;
    let job = move |transaction: &mut Transaction<'_>| {
        for key in &keys.keys {
            let expired_at = key.expired_at;
            let stored = StoredServerKey { key: key.key.as_bytes().to_vec(), valid_until, expired_at };
            transaction.put_server_key(server.as_str(), key.id.as_str(), &stored)?;
        }
        Ok(())
    };
    app.store.write(job).await
}
