//! The keys by which this server signs: the one of now, those that it gave up, and the change from one to another.
//! <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>
//!
//! The store knows the public part of each, and a file the secret one of the last. A change can be cut short anywhere: the
//! new key is on the device in a file of its own before the store knows it, and takes the place of the old file last. What
//! is known to the store holds, so that nothing that was signed is ever without its key.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use ruma::signatures::{Ed25519KeyPair, Ed25519KeyPairParseError};
use tokio::sync::Mutex;

use super::{App, signer::signing_key};
use crate::{
    base::{clock::Timestamp, limits, rng::Rng},
    config::{Config, SigningKey, SigningKeyError},
    store::{OwnKey, Store, StoreError, StoredServerKey, Transaction, View},
};

/// The keys that came after the one with which the server started. None of them goes before the server does: somebody may
/// be about to sign with it.
#[derive(Default)]
pub(super) struct Later {
    first: OnceLock<Box<Next>>,
    /// One change at a time.
    changing: Mutex<()>,
}

struct Next {
    key: Ed25519KeyPair,
    next: OnceLock<Box<Self>>,
}

/// Why there is no key to sign with, or no other one.
#[derive(Debug, thiserror::Error)]
pub enum OwnKeyError {
    #[error(transparent)]
    File(#[from] SigningKeyError),
    #[error("the signing key is of no use: {0}")]
    Key(#[from] Ed25519KeyPairParseError),
    #[error(
        "{path} holds the key {found}, and this server signs with {known}: restore that file from a backup, or change \
         the key with `tayberry key import` or `tayberry key rotate`"
    )]
    Other { path: PathBuf, found: String, known: String },
    #[error(
        "this server gave the key {0} up, and others take it no more: make another with `tayberry key rotate`"
    )]
    GivenUp(String),
    #[error(
        "this server had another key by the name of {0}, which others know: make one with `tayberry key rotate`"
    )]
    Taken(String),
    #[error("other servers take {} keys of one at most, and this one has had as many", limits::SERVER_KEYS)]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds the key to sign with. One is made for a server that nobody knows yet, and for no other: what that one has signed,
/// and whatever it will, others hold against the keys that they know. Who is about to change to `another` needs no other
/// than that where the known one is lost.
///
/// # Errors
/// There is none, or not the one that it must be.
pub async fn open(
    store: &Store,
    config: &Config,
    another: Option<&SigningKey>,
    rng: &Rng,
) -> Result<Ed25519KeyPair, OwnKeyError> {
    let read = |view: &View<'_>| Ok::<_, StoreError>((view.own_keys()?, view.server_name()?.is_none()));
    let (known, is_new) = store.read(read).await?;
    settle(config, &known)?;
    let file = config.signing_key_file();
    let key = match (find(&file, &known, is_new), another) {
        (Ok(Some(key)), _) => key,
        (Ok(None), None) => pair(&SigningKey::make(&file, rng)?)?,
        (
            Ok(None)
            | Err(
                OwnKeyError::File(SigningKeyError::Gone { .. } | SigningKeyError::Form { .. })
                | OwnKeyError::Other { .. },
            ),
            Some(another),
        ) => return pair(another),
        (Err(error), _) => return Err(error),
    };
    if known.iter().filter(|key| key.expired_at.is_none()).count() != 1 {
        let own = public(&key);
        let keep = move |transaction: &mut Transaction<'_>| {
            transaction.put_own_key(&own)?;
            transaction.expire_own_keys(&own.id, transaction.now())
        };
        store.write(keep).await?;
    }
    Ok(key)
}

/// Ends a change that was cut short, as far as it was known to the store, or undoes it.
fn settle(config: &Config, known: &[OwnKey]) -> Result<(), SigningKeyError> {
    let (file, next) = (config.signing_key_file(), config.next_signing_key_file());
    let holds = |path: &Path| {
        let key = SigningKey::read(path).ok().and_then(|key| pair(&key).ok());
        key.is_some_and(|key| known.last() == Some(&public(&key)))
    };
    match () {
        () if !next.try_exists().unwrap_or(true) => Ok(()),
        () if holds(&next) => SigningKey::replace(&file, &next),
        () if known.is_empty() || holds(&file) => {
            fs::remove_file(&next).map_err(|source| SigningKeyError::Write { path: next, source })
        }
        () => Ok(()),
    }
}

/// The key in the file, if it is the known one; none where one may be made.
fn find(file: &Path, known: &[OwnKey], is_new: bool) -> Result<Option<Ed25519KeyPair>, OwnKeyError> {
    if !file.try_exists().unwrap_or(true) {
        let gone = || SigningKeyError::Gone { path: file.into() }.into();
        return if is_new && known.is_empty() { Ok(None) } else { Err(gone()) };
    }
    let key = pair(&SigningKey::read(file)?)?;
    let found = public(&key);
    match known.last() {
        Some(known) if *known != found => {
            Err(OwnKeyError::Other { path: file.into(), found: found.id, known: known.id.clone() })
        }
        _ => Ok(Some(key)),
    }
}

/// All keys that this server signs by, or did, the newest last.
///
/// # Errors
/// The store failed.
pub async fn all(app: &App) -> Result<Vec<OwnKey>, StoreError> {
    let mut keys = app.store.read(|view| view.own_keys()).await?;
    let current = public(app.signer().key);
    if !keys.contains(&current) {
        keys.push(current);
    }
    Ok(keys)
}

/// Changes to another key, and takes in those that the server gave up elsewhere. The last key is given up, unless that is
/// the same.
///
/// # Errors
/// The key, or one that was given up, can't be this server's, or it can't be kept.
pub async fn change(app: &App, new: SigningKey, old: Vec<OwnKey>) -> Result<(), OwnKeyError> {
    let app = app.clone();
    // To its end, whether whoever asked for it waits or not.
    let changing = tokio::spawn(async move { proceed(&app, &new, old).await });
    changing.await.unwrap_or(Err(OwnKeyError::Store(StoreError::Panicked)))
}

async fn proceed(app: &App, new: &SigningKey, old: Vec<OwnKey>) -> Result<(), OwnKeyError> {
    let _turn = app.own_keys.changing.lock().await;
    let known = app.store.read(|view| view.own_keys()).await?;
    settle(app, &known)?;
    let (key, former) = (pair(new)?, public(app.signer().key));
    let own = public(&key);
    if known.len() + old.len() + 2 > limits::SERVER_KEYS {
        return Err(OwnKeyError::TooMany);
    }
    let among = |keys: &[OwnKey], key: &OwnKey| match keys.iter().find(|known| known.id == key.id) {
        Some(known) if known.key != key.key => Err(OwnKeyError::Taken(key.id.clone())),
        Some(known) if known.expired_at.is_some() && key.expired_at.is_none() => {
            Err(OwnKeyError::GivenUp(key.id.clone()))
        }
        _ => Ok(()),
    };
    old.iter().chain([&own]).try_for_each(|key| among(&known, key))?;
    among(&old, &own)?;
    let changes = known.last() != Some(&own);
    if changes {
        new.write(&app.next_signing_key_file())?;
    }
    let (id, added) = (own.id.clone(), [old, vec![own]].concat());
    let take = move |transaction: &mut Transaction<'_>| {
        if changes && transaction.rooms().next().is_none() {
            // What has signed no event nobody needs.
            transaction.forget_own_keys()?;
        } else if former.id != id {
            transaction.put_own_key(&former)?;
        }
        added.iter().try_for_each(|key| transaction.put_own_key(key))
    };
    app.store.write(take).await?;
    if changes {
        let id = app.own_keys.push(key);
        // Later than whatever was signed by the former one.
        let since = app.clock.now();
        let expire = move |transaction: &mut Transaction<'_>| {
            let at = transaction.now().max(since).plus(Duration::from_millis(1));
            transaction.expire_own_keys(&id, at)
        };
        app.store.write(expire).await?;
        SigningKey::replace(&app.signing_key_file(), &app.next_signing_key_file())?;
    }
    Ok(())
}

/// This server's key of an id, whether it is given up or not.
///
/// # Errors
/// The store failed.
pub(super) async fn by_id(app: &App, id: &str) -> Result<Option<StoredServerKey>, StoreError> {
    let current = public(app.signer().key);
    let known = if current.id == id { vec![current] } else { app.store.read(|view| view.own_keys()).await? };
    let key = known.into_iter().find(|key| key.id == id);
    let valid_until = Timestamp(u64::MAX);
    Ok(key.map(|OwnKey { key, expired_at, .. }| StoredServerKey { key, valid_until, expired_at }))
}

fn pair(key: &SigningKey) -> Result<Ed25519KeyPair, OwnKeyError> {
    Ok(signing_key(&key.version, &key.seed)?)
}

/// What others may know of a key.
pub fn public(key: &Ed25519KeyPair) -> OwnKey {
    OwnKey { id: format!("ed25519:{}", key.version()), key: key.public_key().to_vec(), expired_at: None }
}

impl Later {
    /// The key that came last.
    pub(super) fn last(&self) -> Option<&Ed25519KeyPair> {
        let mut last = self.first.get()?;
        while let Some(next) = last.next.get() {
            last = next;
        }
        Some(&last.key)
    }

    /// Signs by a key from now on, and gives its id.
    fn push(&self, key: Ed25519KeyPair) -> String {
        let id = public(&key).id;
        let mut place = &self.first;
        while let Some(next) = place.get() {
            place = &next.next;
        }
        let next = Box::new(Next { key, next: OnceLock::new() });
        assert!(place.set(next).is_ok(), "there is one change at a time");
        id
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{base::clock::Clock, store::Options};

    struct Folder(#[expect(dead_code, reason = "it goes with its folder")] TempDir, Store, Config);

    impl Folder {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let (dir, rng) = (folder.path().to_owned(), Rng::system());
            let store = Store::open(Options { dir, clock: Clock::manual(Timestamp(9)), rng }).unwrap();
            let config = Config::of_defaults(ruma::server_name!("one.example"), folder.path());
            Self(folder, store, config)
        }

        async fn open(&self) -> Result<String, OwnKeyError> {
            let key = open(&self.1, &self.2, None, &Rng::system()).await?;
            Ok(public(&key).id)
        }

        async fn known(&self) -> Vec<(String, Option<u64>)> {
            let keys = self.1.read(|view| view.own_keys()).await.unwrap();
            keys.into_iter().map(|key| (key.id, key.expired_at.map(|at| at.0))).collect()
        }
    }

    fn another() -> (SigningKey, OwnKey) {
        let key = SigningKey::random(&Rng::seeded(7));
        let own = public(&pair(&key).unwrap());
        (key, own)
    }

    #[tokio::test]
    async fn a_change_that_was_cut_short_is_undone_before_the_store_knows_it_and_ended_after() {
        for is_known in [false, true] {
            let folder = Folder::new();
            let first = folder.open().await.unwrap();
            let (new, own) = another();
            new.write(&folder.2.next_signing_key_file()).unwrap();
            let id = own.id.clone();
            if is_known {
                folder.1.write(move |transaction| transaction.put_own_key(&own)).await.unwrap();
            }
            for _ in 0..2 {
                assert_eq!(folder.open().await.unwrap(), if is_known { &*id } else { &*first });
                assert!(!folder.2.next_signing_key_file().exists());
                let expected = if is_known {
                    vec![(first.clone(), Some(9)), (id.clone(), None)]
                } else {
                    vec![(first.clone(), None)]
                };
                assert_eq!(folder.known().await, expected);
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_was_cut_short_is_taken_away() {
        let folder = Folder::new();
        let first = folder.open().await.unwrap();
        fs::write(folder.2.next_signing_key_file(), "ed25519 a").unwrap();
        assert_eq!(folder.open().await.unwrap(), first);
        assert!(!folder.2.next_signing_key_file().exists());
    }

    #[tokio::test]
    async fn another_key_than_the_known_one_is_refused() {
        let folder = Folder::new();
        let first = folder.open().await.unwrap();
        let (new, own) = another();
        let file = folder.2.signing_key_file();
        let kept = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let gone = folder.open().await.unwrap_err().to_string();
        assert!(gone.contains("gone") && gone.contains("restore"), "{gone}");
        new.write(&file).unwrap();
        let other = folder.open().await.unwrap_err().to_string();
        assert!(other.contains(&own.id) && other.contains(&first) && other.contains("restore"), "{other}");
        // Not what is known of a change by its file alone.
        fs::write(folder.2.next_signing_key_file(), &kept).unwrap();
        assert_eq!(folder.open().await.unwrap(), first);
    }
}
