//! The keys of servers: this one's, as it publishes them, and others', as they were fetched and kept.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

mod vouching;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    ServerSigningKeyId,
    serde::{Base64, base64::Standard},
    signatures::sign_json,
};
use serde_json::value::{RawValue, to_raw_value};
use tokio::{sync::Semaphore, time::timeout};

pub use self::vouching::vouched;
use super::{App, own_keys};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        limits,
    },
    net::{Host, NetError, cache::Cache, discovery::unspelled, keys},
    store::{KeyDocument, OwnKey, StoreError, StoredServerKey, Transaction},
};

/// How the last fetch of each server's keys went, and what it told: the names of one server that differ in spelling alone
/// are one.
pub(super) struct Fetches {
    servers: Cache<(Host, Option<u16>), Result<Arc<Fetched>, NetError>>,
    /// A permit for each that nothing but an unproven request asks for.
    strangers: Arc<Semaphore>,
}

/// Some of the keys that a server told.
struct Fetched {
    server: OwnedServerName,
    keys: Vec<(OwnedServerSigningKeyId, StoredServerKey)>,
    /// All that it told, unless that is large.
    document: Option<KeyDocument>,
    /// Whether it is written down.
    is_kept: AtomicBool,
}

/// For whose sake a server is asked for its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Anybody's, who says to be it.
    Stranger,
    /// A server's that proved its request.
    Peer,
}

/// Why it can't be said what a server's key is.
#[derive(Debug, thiserror::Error)]
pub enum ServerKeyError {
    #[error("the server's keys can't be had: {0}")]
    Net(#[from] NetError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// This server's keys, signed.
///
/// # Errors
/// The store failed.
pub async fn own(app: &App) -> Result<Box<RawValue>, StoreError> {
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let time =
        |time: Timestamp| CanonicalJsonValue::Integer(ruma::MilliSecondsSinceUnixEpoch::from(time).0.into());
    let known = own_keys::all(app).await?;
    let (mut current, mut old) = (CanonicalJsonObject::new(), CanonicalJsonObject::new());
    for OwnKey { id, key, expired_at } in known {
        let key = text(&Base64::<Standard, _>::new(key).encode());
        let mut entry = CanonicalJsonObject::from([("key".to_owned(), key)]);
        entry.extend(expired_at.map(|at| ("expired_ts".to_owned(), time(at))));
        if expired_at.is_some() { &mut old } else { &mut current }.insert(id, entry.into());
    }
    let signer = app.signer();
    let mut keys = CanonicalJsonObject::from([
        ("server_name".to_owned(), text(signer.server_name.as_str())),
        ("valid_until_ts".to_owned(), time(app.clock.now().plus(limits::OWN_KEYS_LIFETIME))),
        ("verify_keys".to_owned(), current.into()),
        ("old_verify_keys".to_owned(), old.into()),
    ]);
    sign_json(signer.server_name.as_str(), signer.key, &mut keys).expect("canonical JSON can be signed");
    Ok(to_raw_value(&keys).expect("canonical JSON has a text"))
}

/// Another server's key that is good at a time, if one is known: nobody is asked.
///
/// # Errors
/// The store failed.
pub async fn known(
    app: &App,
    server: &ServerName,
    id: &ServerSigningKeyId,
    at: Timestamp,
) -> Result<Option<StoredServerKey>, StoreError> {
    Ok(kept(app, server, id).await?.filter(|key| key.is_valid_at(at)))
}

/// A server's key, which is good at a time if there is one that is: the known one, or else what the server says now; of
/// this server, the known one. Whether it is good enough is up to the caller, above all where the server can't be asked.
/// None: it has no such key.
///
/// # Errors
/// Nothing is known, and the server has to be asked and doesn't tell, or was asked a moment ago and didn't.
pub async fn key(
    app: &App,
    server: &ServerName,
    id: &ServerSigningKeyId,
    at: Timestamp,
    asker: Asker,
) -> Result<Option<StoredServerKey>, ServerKeyError> {
    if server == app.server_name {
        return Ok(own_keys::by_id(app, id.as_str()).await?);
    }
    if asker == Asker::Peer {
        write_down(app, server).await;
    }
    let kept = kept(app, server, id).await?;
    if kept.as_ref().is_some_and(|key| key.is_valid_at(at)) {
        return Ok(kept);
    }
    match refresh(app, server, Some(id), asker).await {
        Ok(fetched) => match fetched.key(server, id) {
            Some(key) => Ok(Some(key)),
            None => Ok(self::kept(app, server, id).await?),
        },
        Err(error) if kept.is_some() => {
            tracing::debug!(%server, %error, "a server tells no keys, and what it told before is kept");
            Ok(kept)
        }
        Err(error) => Err(error.into()),
    }
}

/// Several keys of a server.
#[derive(Debug, Default)]
pub struct Several {
    /// Those that are good at their times, or as the server tells them; none is one that it doesn't have.
    pub told: Vec<(OwnedServerSigningKeyId, Option<StoredServerKey>)>,
    /// Those that it would have had to tell, as they were known before.
    pub untold: Vec<(OwnedServerSigningKeyId, Option<StoredServerKey>)>,
    /// Whether it was asked.
    pub asked: bool,
}

/// Several keys of a server that proved who it is, each good at its time if there is one that is, as of [`key`]: the server
/// is asked once for all that are not known, and has so long to tell them. In no time it isn't asked.
///
/// # Errors
/// The store failed.
pub async fn keys(
    app: &App,
    server: &ServerName,
    wanted: &BTreeMap<OwnedServerSigningKeyId, Timestamp>,
    time: Duration,
) -> Result<Several, StoreError> {
    let mut several = Several::default();
    if server == app.server_name {
        for id in wanted.keys() {
            several.told.push((id.clone(), own_keys::by_id(app, id.as_str()).await?));
        }
        return Ok(several);
    }
    write_down(app, server).await;
    for (id, at) in wanted {
        let kept = kept(app, server, id).await?;
        let is_good = kept.as_ref().is_some_and(|key| key.is_valid_at(*at));
        let keys = if is_good { &mut several.told } else { &mut several.untold };
        keys.push((id.clone(), kept));
    }
    let Some((first, _)) = several.untold.first().filter(|_| !time.is_zero()) else { return Ok(several) };
    several.asked = true;
    match timeout(time, refresh(app, server, Some(first), Asker::Peer)).await {
        Ok(Ok(fetched)) => {
            for (id, _) in std::mem::take(&mut several.untold) {
                let key = match fetched.key(server, &id) {
                    Some(key) => Some(key),
                    None => kept(app, server, &id).await?,
                };
                several.told.push((id, key));
            }
        }
        Ok(Err(error)) => tracing::debug!(%server, %error, "a server tells no keys"),
        Err(_) => tracing::debug!(%server, ?time, "a server takes too long to tell its keys"),
    }
    Ok(several)
}

async fn kept(
    app: &App,
    server: &ServerName,
    id: &ServerSigningKeyId,
) -> Result<Option<StoredServerKey>, StoreError> {
    if let Some(Ok(fetched)) = app.server_keys.servers.last(&unspelled(server))
        && let Some(key) = fetched.key(server, id)
    {
        return Ok(Some(key));
    }
    let (server, id) = (server.to_owned(), id.to_owned());
    app.store.read(move |view| view.server_key(server.as_str(), id.as_str())).await
}

/// Writes down what a server told before it was anything to a room, if it is now.
async fn write_down(app: &App, server: &ServerName) {
    if let Some(Ok(fetched)) = app.server_keys.servers.last(&unspelled(server))
        && !fetched.is_kept.load(Ordering::Relaxed)
    {
        fetched.keep(app).await;
    }
}

/// Fetches a server's keys and keeps them, unless that was done or tried a moment ago.
async fn refresh(
    app: &App,
    server: &ServerName,
    id: Option<&ServerSigningKeyId>,
    asker: Asker,
) -> Result<Arc<Fetched>, NetError> {
    let places = &app.server_keys.strangers;
    let begin = || async move {
        match asker {
            Asker::Stranger => Some(places.clone().acquire_owned().await.expect("it is never closed")),
            Asker::Peer => None,
        }
    };
    let (shared, name, id) = (app.clone(), server.to_owned(), id.map(ToOwned::to_owned));
    let fetch = |place| async move {
        let fetched = fetch(&shared, &name, id).await;
        drop(place);
        // Of what this server couldn't do another one is not to blame.
        let pause = match fetched {
            Err(NetError::Busy) => Duration::ZERO,
            _ => limits::SERVER_KEYS_PAUSE,
        };
        (fetched, pause)
    };
    app.server_keys.servers.get_begun(&unspelled(server), begin, fetch).await
}

async fn fetch(
    app: &App,
    server: &ServerName,
    asked: Option<OwnedServerSigningKeyId>,
) -> Result<Arc<Fetched>, NetError> {
    let keys::ServerKeys { server, keys, valid_until, document } =
        keys::fetch(&app.federation, server, app.clock.now()).await?;
    let stored = |key: keys::ServerKey| {
        let (id, expired_at) = (key.id, key.expired_at);
        (id, StoredServerKey { key: key.key.as_bytes().to_vec(), valid_until, expired_at })
    };
    let mut keys: Vec<_> = keys.into_iter().map(stored).collect();
    keys.sort_by_key(|(id, key)| (Some(id) != asked.as_ref(), key.expired_at.is_some()));
    let document = KeyDocument { text: document, valid_until };
    let document = Some(document).filter(|document| document.text.len() <= limits::KEY_DOCUMENT_BYTES);
    let mut fetched = Fetched { server, keys, document, is_kept: AtomicBool::new(false) };
    fetched.keep(app).await;
    fetched.keys.truncate(limits::SERVER_KEYS_IN_MEMORY);
    fetched.keys.shrink_to_fit();
    Ok(Arc::new(fetched))
}

/// Writes a server's keys down, if it is or was anything to a room: anybody can make up others, as many as they like. Tells
/// whether they are.
async fn keep(
    app: &App,
    server: OwnedServerName,
    keys: Vec<(OwnedServerSigningKeyId, StoredServerKey)>,
    document: Option<KeyDocument>,
) -> Result<bool, StoreError> {
    let name = server.clone();
    if app.store.read(move |view| view.server_number(&name)).await?.is_none() {
        return Ok(false);
    }
    let job = move |transaction: &mut Transaction<'_>| {
        for (id, key) in &keys {
            transaction.put_server_key(server.as_str(), id.as_str(), key)?;
        }
        if let Some(document) = &document {
            transaction.put_server_key_document(server.as_str(), document)?;
        }
        transaction.trim_server_keys(server.as_str(), limits::SERVER_KEYS)
    };
    app.store.write(job).await.map(|()| true)
}

impl Fetches {
    pub(super) fn new(clock: Clock) -> Self {
        let servers = Cache::new(limits::SERVER_KEY_FETCHES, clock);
        Self { servers, strangers: Arc::new(Semaphore::new(limits::STRANGERS)) }
    }
}

impl Fetched {
    async fn keep(&self, app: &App) {
        let Self { server, keys, document, is_kept } = self;
        match keep(app, server.clone(), keys.clone(), document.clone()).await {
            Ok(is_written) => is_kept.store(is_written, Ordering::Relaxed),
            Err(error) => tracing::error!(%server, %error, "a server's keys can't be kept"),
        }
    }

    fn key(&self, server: &ServerName, id: &ServerSigningKeyId) -> Option<StoredServerKey> {
        let key = self.keys.iter().find(|(kept, _)| *kept == *id)?;
        (self.server == *server).then(|| key.1.clone())
    }
}
