//! Backups of room keys. <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>

mod writer;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use ruma::{
    OwnedRoomId, RoomId, UInt,
    api::{
        client::backup::{
            BackupAlgorithm, KeyBackupData, add_backup_keys, add_backup_keys_for_room,
            add_backup_keys_for_session, create_backup_version, delete_backup_keys,
            delete_backup_keys_for_room, delete_backup_keys_for_session, delete_backup_version,
            get_backup_info, get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session,
            get_latest_backup_info, update_backup_version,
        },
        error::{ErrorKind, WrongRoomKeysVersionErrorData},
    },
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use self::writer::Writer;
use crate::{
    api::{
        Body, Error, Streamed, User,
        body::{Failed, Writing},
        caller::EvenSuspended,
        endpoint::Boxed,
    },
    base::limits,
    service::{
        App,
        key_backup::{self, BackupError, Keys},
    },
    store::{BackedUpKey, BackupScope, BackupState, KeyBackup},
};

/// `POST /_matrix/client/v3/room_keys/version`
pub(crate) async fn create(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: create_backup_version::v3::Request,
) -> Result<create_backup_version::v3::Response, Error> {
    let Description { algorithm, auth_data, .. } = description(&request.algorithm)?;
    let version = key_backup::create(&app, &user, algorithm, auth_data.get().to_owned()).await?;
    Ok(create_backup_version::v3::Response::new(version.to_string()))
}

/// `GET /_matrix/client/v3/room_keys/version`
pub(crate) async fn newest(
    app: App,
    user: User,
    _request: get_latest_backup_info::v3::Request,
) -> Result<get_latest_backup_info::v3::Response, Error> {
    let backup = key_backup::newest(&app, user.number).await?;
    let (etag, count) = shown(backup.state);
    let version = backup.version.to_string();
    Ok(get_latest_backup_info::v3::Response::new(described(backup)?, count, etag, version))
}

/// `GET /_matrix/client/v3/room_keys/version/{version}`
pub(crate) async fn get(
    app: App,
    user: User,
    request: get_backup_info::v3::Request,
) -> Result<get_backup_info::v3::Response, Error> {
    let backup = key_backup::find(&app, user.number, request.version).await?;
    let (etag, count) = shown(backup.state);
    let version = backup.version.to_string();
    Ok(get_backup_info::v3::Response::new(described(backup)?, count, etag, version))
}

/// `PUT /_matrix/client/v3/room_keys/version/{version}`
pub(crate) async fn update(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: update_backup_version::v3::Request,
) -> Result<update_backup_version::v3::Response, Error> {
    let Description { algorithm, auth_data, version } = description(&request.algorithm)?;
    if version.is_some_and(|version| version != request.version) {
        return Err(Error::invalid_param("The version in the body is not the path's"));
    }
    let auth_data = auth_data.get().to_owned();
    key_backup::update(&app, &user, request.version, algorithm, auth_data).await?;
    Ok(update_backup_version::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/room_keys/version/{version}`
pub(crate) async fn remove(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: delete_backup_version::v3::Request,
) -> Result<delete_backup_version::v3::Response, Error> {
    key_backup::remove(&app, user.number, request.version).await?;
    Ok(delete_backup_version::v3::Response::new())
}

/// `PUT /_matrix/client/v3/room_keys/keys`
pub(crate) async fn put_all(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: add_backup_keys::v3::Request,
) -> Result<add_backup_keys::v3::Response, Error> {
    let keys = request.rooms.into_iter().flat_map(|(room_id, room)| of_room(room_id, room.sessions));
    let state = key_backup::put(&app, user.number, request.version, keys.collect()).await?;
    let (etag, count) = shown(state);
    Ok(add_backup_keys::v3::Response::new(etag, count))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}`
pub(crate) async fn put_room(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: add_backup_keys_for_room::v3::Request,
) -> Result<add_backup_keys_for_room::v3::Response, Error> {
    let keys = of_room(request.room_id, request.sessions).collect();
    let (etag, count) = shown(key_backup::put(&app, user.number, request.version, keys).await?);
    Ok(add_backup_keys_for_room::v3::Response::new(etag, count))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub(crate) async fn put_session(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: add_backup_keys_for_session::v3::Request,
) -> Result<add_backup_keys_for_session::v3::Response, Error> {
    let key = key(&request.room_id, request.session_id, request.session_data);
    let (etag, count) = shown(key_backup::put(&app, user.number, request.version, vec![key]).await?);
    Ok(add_backup_keys_for_session::v3::Response::new(etag, count))
}

/// `GET /_matrix/client/v3/room_keys/keys`
pub(crate) async fn all(
    app: App,
    user: User,
    Streamed { request, .. }: Streamed<get_backup_keys::v3::Request>,
) -> Result<Response<Body>, Error> {
    let keys = Keys::of(&app, user.number, request.version, None).await?;
    Ok(written(keys, Writer::of_rooms()))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}`
pub(crate) async fn room(
    app: App,
    user: User,
    Streamed { request, .. }: Streamed<get_backup_keys_for_room::v3::Request>,
) -> Result<Response<Body>, Error> {
    let keys = Keys::of(&app, user.number, request.version, Some(request.room_id.into())).await?;
    Ok(written(keys, Writer::of_sessions()))
}

/// Answers with all keys, page by page: together they may be too large for memory.
fn written(keys: Keys, writer: Writer) -> Response<Body> {
    let mut response = Response::new(Body::Written(Box::new(Written { keys, writer: Some(writer) })));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Keys that are written while they are sent.
struct Written {
    keys: Keys,
    /// None behind the last key.
    writer: Option<Writer>,
}

impl Writing for Written {
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Failed>> {
        Box::pin(async {
            let Some(mut writer) = self.writer.take() else { return Ok(None) };
            let page = self.keys.next().await.map_err(|error| {
                tracing::error!(%error, "the rest of a backup can't be read");
                Failed
            })?;
            if page.is_empty() {
                return Ok(Some(writer.end()));
            }
            let page = writer.page(page);
            self.writer = Some(writer);
            Ok(Some(page))
        })
    }
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub(crate) async fn session(
    app: App,
    user: User,
    request: get_backup_keys_for_session::v3::Request,
) -> Result<get_backup_keys_for_session::v3::Response, Error> {
    let session = (request.room_id.into(), request.session_id);
    let key = key_backup::key(&app, user.number, request.version, session).await?;
    let key = key.ok_or_else(|| Error::not_found("The backup has no such key"))?;
    Ok(get_backup_keys_for_session::v3::Response::new(raw(key.data)?))
}

/// `DELETE /_matrix/client/v3/room_keys/keys`
pub(crate) async fn remove_all(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: delete_backup_keys::v3::Request,
) -> Result<delete_backup_keys::v3::Response, Error> {
    let state = key_backup::remove_keys(&app, user.number, request.version, BackupScope::All).await?;
    let (etag, count) = shown(state);
    Ok(delete_backup_keys::v3::Response::new(etag, count))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}`
pub(crate) async fn remove_room(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: delete_backup_keys_for_room::v3::Request,
) -> Result<delete_backup_keys_for_room::v3::Response, Error> {
    let scope = BackupScope::Room(request.room_id.into());
    let (etag, count) = shown(key_backup::remove_keys(&app, user.number, request.version, scope).await?);
    Ok(delete_backup_keys_for_room::v3::Response::new(etag, count))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub(crate) async fn remove_session(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: delete_backup_keys_for_session::v3::Request,
) -> Result<delete_backup_keys_for_session::v3::Response, Error> {
    let scope = BackupScope::Session(request.room_id.into(), request.session_id);
    let (etag, count) = shown(key_backup::remove_keys(&app, user.number, request.version, scope).await?);
    Ok(delete_backup_keys_for_session::v3::Response::new(etag, count))
}

/// How the keys of a backup are encrypted, as the client says.
#[derive(Deserialize, Serialize)]
struct Description {
    algorithm: String,
    auth_data: Box<RawValue>,
    /// In an update only.
    #[serde(skip_serializing)]
    version: Option<String>,
}

fn description(raw: &Raw<BackupAlgorithm>) -> Result<Description, Error> {
    let description: Description = raw
        .deserialize_as_unchecked()
        .map_err(|_| Error::bad_json("A backup is an object with an algorithm and auth_data"))?;
    if !description.auth_data.get().starts_with('{') {
        return Err(Error::bad_json("auth_data is a JSON object"));
    }
    let is_large = description.auth_data.get().len() > limits::BACKUP_AUTH_BYTES;
    if is_large || description.algorithm.len() > limits::EVENT_FIELD_BYTES {
        return Err(Error::too_large("The description of the backup is too large"));
    }
    Ok(description)
}

fn described(backup: KeyBackup) -> Result<Raw<BackupAlgorithm>, Error> {
    let auth_data = RawValue::from_string(backup.auth_data).map_err(Error::internal)?;
    let description = Description { algorithm: backup.algorithm, auth_data, version: None };
    Ok(Raw::from_json(to_raw_value(&description).map_err(Error::internal)?))
}

/// The etag and the count.
fn shown(state: BackupState) -> (String, UInt) {
    (state.etag.to_string(), UInt::new_saturating(state.count))
}

fn of_room(
    room_id: OwnedRoomId,
    sessions: BTreeMap<String, Raw<KeyBackupData>>,
) -> impl Iterator<Item = BackedUpKey> {
    sessions.into_iter().map(move |(session_id, data)| key(&room_id, session_id, data))
}

fn key(room_id: &RoomId, session_id: String, data: Raw<KeyBackupData>) -> BackedUpKey {
    let data = Box::<str>::from(data.into_json()).into_string();
    BackedUpKey { room_id: room_id.as_str().to_owned(), session_id, data }
}

fn raw(data: String) -> Result<Raw<KeyBackupData>, Error> {
    RawValue::from_string(data).map(Raw::from_json).map_err(Error::internal)
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::NotFound => Self::not_found("You have no such backup"),
            BackupError::WrongVersion { current } => {
                let data = WrongRoomKeysVersionErrorData::new(current.to_string());
                let kind = ErrorKind::WrongRoomKeysVersion(data);
                Self::new(StatusCode::FORBIDDEN, kind, "Another version of the backup is the newest")
            }
            BackupError::Algorithm => Self::invalid_param("The backup has another algorithm"),
            BackupError::Key => Self::bad_json("A key has the specified fields, and at most 8 KiB"),
            BackupError::TooMany => Self::forbidden("You keep too many backups, or too many keys in them"),
            BackupError::AuthData(error) => error.into(),
            BackupError::Store(error) => error.into(),
        }
    }
}
