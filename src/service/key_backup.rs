//! Backups of room keys, which clients encrypt before the server sees them. Keys are written to a user's newest
//! backup only. <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    App,
    keys::{self, KeyError},
    sessions::Session,
};
use crate::{
    base::{ids::UserNumber, limits},
    store::{BackedUpKey, BackupScope, BackupState, KeyBackup, StoreError, View},
};

/// Why a backup is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the user has no such backup")]
    NotFound,
    #[error("the newest backup is version {current}")]
    WrongVersion { current: u64 },
    #[error("the backup has another algorithm")]
    Algorithm,
    #[error("a key is not as the specification has it, or too large")]
    Key,
    #[error("the user has too many backups, or too many keys in them")]
    TooMany,
    #[error("the auth_data can't be signed, or a signature on it is wrong: {0}")]
    AuthData(KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts a backup, and gives its version.
pub async fn create(
    app: &App,
    session: &Session,
    algorithm: String,
    auth_data: String,
) -> Result<u64, BackupError> {
    let user = session.number;
    let auth_data = checked(app, session, auth_data, None).await?;
    app.store
        .write(move |transaction| {
            if transaction.count_key_backups(user)? >= limits::BACKUPS {
                return Err(BackupError::TooMany);
            }
            Ok(transaction.create_key_backup(user, &algorithm, &auth_data)?)
        })
        .await
}

/// One version of a user's backup.
pub async fn find(app: &App, user: UserNumber, version: String) -> Result<KeyBackup, BackupError> {
    app.store.read(move |view| of_version(view, user, &version)).await
}

/// A user's newest backup.
pub async fn newest(app: &App, user: UserNumber) -> Result<KeyBackup, BackupError> {
    app.store.read(move |view| view.newest_key_backup(user)?.ok_or(BackupError::NotFound)).await
}

/// Replaces the `auth_data` of a backup that has this algorithm.
pub async fn update(
    app: &App,
    session: &Session,
    version: String,
    algorithm: String,
    auth_data: String,
) -> Result<(), BackupError> {
    let user = session.number;
    let auth_data = checked(app, session, auth_data, Some(version.clone())).await?;
    app.store
        .write(move |transaction| {
            let backup = of_version(transaction, user, &version)?;
            if backup.algorithm != algorithm {
                return Err(BackupError::Algorithm);
            }
            Ok(transaction.set_backup_auth_data(&backup, &auth_data)?)
        })
        .await
}

/// The `auth_data`, if no signature on it is wrong that the version it replaces doesn't have.
async fn checked(
    app: &App,
    session: &Session,
    auth_data: String,
    version: Option<String>,
) -> Result<String, BackupError> {
    let (user, user_id) = (session.number, session.user_id.clone());
    let check = move |view: &View<'_>| {
        let known = version.map(|version| of_version(view, user, &version)).transpose()?;
        let known = known.as_ref().map(|backup| backup.auth_data.as_str());
        match keys::check_own(view, user, &user_id, &auth_data, known) {
            Ok(()) => Ok(auth_data),
            Err(KeyError::Store(error)) => Err(error.into()),
            Err(error) => Err(BackupError::AuthData(error)),
        }
    };
    app.store.read(check).await
}

/// Removes a backup with its keys; one that was removed before is fine.
pub async fn remove(app: &App, user: UserNumber, version: String) -> Result<(), BackupError> {
    // The keys go first, a part at a time. Whoever breaks off in between asks again.
    match remove_keys(app, user, version.clone(), BackupScope::All).await {
        Ok(_) | Err(BackupError::NotFound) => {}
        Err(error) => return Err(error),
    }
    app.store
        .write(move |transaction| match of_version(transaction, user, &version) {
            Ok(backup) => Ok(transaction.remove_key_backup(&backup)?),
            Err(BackupError::NotFound) => {
                let last = transaction.last_backup_version(user)?;
                let was = number(&version).is_some_and(|version| (1..=last).contains(&version));
                if was { Ok(()) } else { Err(BackupError::NotFound) }
            }
            Err(error) => Err(error),
        })
        .await
}

/// The key of a session in a backup.
pub async fn key(
    app: &App,
    user: UserNumber,
    version: String,
    (room_id, session_id): (String, String),
) -> Result<Option<BackedUpKey>, BackupError> {
    app.store
        .read(move |view| {
            let backup = of_version(view, user, &version)?;
            Ok(view.backed_up_key(&backup, &room_id, &session_id)?)
        })
        .await
}

/// All keys of a backup or of one room in it, page by page: what is written meanwhile may be among them or not.
#[derive(Clone)]
pub struct Keys {
    app: App,
    user: UserNumber,
    version: String,
    room_id: Option<String>,
    /// Room and session of the last key that was read.
    after: (String, String),
}

impl Keys {
    /// Finds the backup.
    pub async fn of(
        app: &App,
        user: UserNumber,
        version: String,
        room_id: Option<String>,
    ) -> Result<Self, BackupError> {
        find(app, user, version.clone()).await?;
        Ok(Self { app: app.clone(), user, version, room_id, after: Default::default() })
    }

    /// The next keys, by room and session; none are left if there are none.
    pub async fn next(&mut self) -> Result<Vec<BackedUpKey>, BackupError> {
        let Self { user, version, room_id, after, .. } = self.clone();
        let read = move |view: &View<'_>| {
            let backup = of_version(view, user, &version)?;
            let after = (&*after.0, &*after.1);
            Ok::<_, BackupError>(view.backed_up_keys(
                &backup,
                room_id.as_deref(),
                after,
                limits::BACKUP_PAGE,
            )?)
        };
        let keys = self.app.store.read(read).await?;
        if let Some(last) = keys.last() {
            self.after = (last.room_id.clone(), last.session_id.clone());
        }
        Ok(keys)
    }
}

/// Adds keys to the newest backup, whose version this must be. Of two keys of a session the better one is kept.
pub async fn put(
    app: &App,
    user: UserNumber,
    version: String,
    keys: Vec<BackedUpKey>,
) -> Result<BackupState, BackupError> {
    let ranks = keys.iter().map(|key| rank(key).filter(|_| fits(key)).ok_or(BackupError::Key));
    let ranks = ranks.collect::<Result<Vec<_>, _>>()?;
    app.store
        .write(move |transaction| {
            let backup = transaction.newest_key_backup(user)?.ok_or(BackupError::NotFound)?;
            if number(&version) != Some(backup.version) {
                return Err(BackupError::WrongVersion { current: backup.version });
            }
            let others = transaction.backup_bytes(user)?.saturating_sub(backup.state.bytes);
            let mut state = backup.state;
            let mut is_changed = false;
            for (key, new) in keys.iter().zip(&ranks) {
                // Most are new, and asking first would cost as much as adding.
                if transaction.add_backed_up_key(&backup, key)? {
                    state.count += 1;
                } else {
                    let (bytes, rank) = kept(transaction, &backup, key)?;
                    if rank <= *new {
                        continue;
                    }
                    state.bytes = state.bytes.saturating_sub(bytes);
                    transaction.set_backed_up_key(&backup, key)?;
                }
                state.bytes += key.bytes();
                if others + state.bytes > limits::BACKUP_BYTES {
                    return Err(BackupError::TooMany);
                }
                is_changed = true;
            }
            if is_changed {
                state.etag += 1;
                transaction.set_backup_state(&backup, state)?;
            }
            Ok(state)
        })
        .await
}

/// Removes keys of a backup, a part at a time, so that nobody's writes wait for all of them.
pub async fn remove_keys(
    app: &App,
    user: UserNumber,
    version: String,
    scope: BackupScope,
) -> Result<BackupState, BackupError> {
    loop {
        let (version, scope) = (version.clone(), scope.clone());
        let removing = app.store.write(move |transaction| {
            let backup = of_version(transaction, user, &version)?;
            let mut state = backup.state;
            let removed = transaction.remove_backed_up_keys(&backup, &scope, limits::BACKUP_REMOVED)?;
            if !removed.is_empty() {
                state = BackupState {
                    count: state.count.saturating_sub(removed.len() as u64),
                    bytes: state.bytes.saturating_sub(removed.iter().sum()),
                    etag: state.etag + 1,
                };
                transaction.set_backup_state(&backup, state)?;
            }
            Ok::<_, BackupError>((state, removed.len() < limits::BACKUP_REMOVED))
        });
        if let (state, true) = removing.await? {
            return Ok(state);
        }
    }
}

fn of_version(view: &View<'_>, user: UserNumber, version: &str) -> Result<KeyBackup, BackupError> {
    let backup = match number(version) {
        Some(version) => view.key_backup(user, version)?,
        None => None,
    };
    backup.ok_or(BackupError::NotFound)
}

/// The number that a version is, if it is written as it was given out.
fn number(version: &str) -> Option<u64> {
    let number: u64 = version.parse().ok()?;
    (number <= limits::MAX_INTEGER && number.to_string() == version).then_some(number)
}

/// How good a key is: the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_unverified: bool,
    first_message_index: u64,
    forwarded_count: u64,
}

/// The rank of a key of the right form.
fn rank(key: &BackedUpKey) -> Option<Rank> {
    #[derive(Deserialize)]
    struct Data<'a> {
        is_verified: bool,
        first_message_index: u64,
        forwarded_count: u64,
        #[serde(borrow)]
        session_data: &'a RawValue,
    }
    let Data { is_verified, first_message_index, forwarded_count, session_data } =
        serde_json::from_str(&key.data).ok()?;
    session_data.get().starts_with('{').then_some(Rank {
        is_unverified: !is_verified,
        first_message_index,
        forwarded_count,
    })
}

/// Whether a key has the right size.
fn fits(BackedUpKey { session_id, data, .. }: &BackedUpKey) -> bool {
    (1..=limits::SESSION_ID_BYTES).contains(&session_id.len()) && data.len() <= limits::BACKUP_KEY_BYTES
}

/// The bytes and the rank of the key that a backup has of the same session.
fn kept(view: &View<'_>, backup: &KeyBackup, key: &BackedUpKey) -> Result<(u64, Rank), StoreError> {
    let corrupt = || StoreError::corrupt("backed_up_keys", key.session_id.as_bytes(), "the key has no rank");
    let kept = view.backed_up_key(backup, &key.room_id, &key.session_id)?.ok_or_else(corrupt)?;
    Ok((kept.bytes(), rank(&kept).ok_or_else(corrupt)?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(data: &Value) -> BackedUpKey {
        let (room_id, session_id) = ("!r:x".to_owned(), "s".to_owned());
        BackedUpKey { room_id, session_id, data: data.to_string() }
    }

    fn ranked(verified: bool, index: u64, forwarded: u64) -> Rank {
        let data = json!({
            "is_verified": verified,
            "first_message_index": index,
            "forwarded_count": forwarded,
            "session_data": {},
        });
        rank(&key(&data)).unwrap()
    }

    #[test]
    fn the_better_key_is_as_specified() {
        assert!(ranked(true, 9, 9) < ranked(false, 0, 0), "verified comes first");
        assert!(ranked(true, 1, 9) < ranked(true, 2, 0), "then the lower index");
        assert!(ranked(false, 1, 0) < ranked(false, 1, 1), "then the lower count");
    }

    #[test]
    fn a_key_has_all_of_its_fields_and_an_end() {
        let whole = json!({
            "is_verified": true,
            "first_message_index": 0,
            "forwarded_count": 0,
            "session_data": {"ciphertext": "x"},
        });
        assert!(rank(&key(&whole)).is_some());
        for field in ["is_verified", "first_message_index", "forwarded_count", "session_data"] {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(field);
            assert!(rank(&key(&less)).is_none(), "{field}");
        }
        let mut large = whole.clone();
        large["session_data"]["ciphertext"] = "x".repeat(limits::BACKUP_KEY_BYTES).into();
        assert!(fits(&key(&whole)) && !fits(&key(&large)));
        for length in [0, limits::SESSION_ID_BYTES + 1] {
            assert!(!fits(&BackedUpKey { session_id: "s".repeat(length), ..key(&whole) }));
        }
    }

    #[test]
    fn a_version_is_written_in_one_way() {
        assert_eq!(number("12"), Some(12));
        for text in ["", "x", "012", "+1", "-1", "1.0", "99999999999999999999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
