//! What clients keep on the server for themselves. <https://spec.matrix.org/v1.19/client-server-api/#client-config>

use http::StatusCode;
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::{
        client::config::{
            get_global_account_data, get_room_account_data, set_global_account_data, set_room_account_data,
        },
        error::ErrorKind,
    },
    serde::Raw,
};
use serde_json::value::RawValue;

use crate::{
    api::{Error, User, caller::EvenSuspended},
    base::limits,
    service::{
        App,
        account_data::{self, AccountDataError},
    },
};

/// `GET /_matrix/client/v3/user/{userId}/account_data/{type}`
pub(crate) async fn get(
    app: App,
    user: User,
    request: get_global_account_data::v3::Request,
) -> Result<get_global_account_data::v3::Response, Error> {
    let event_type = request.event_type.to_string();
    let content = content(&app, &user, &request.user_id, None, event_type).await?;
    Ok(get_global_account_data::v3::Response::new(Raw::from_json(content)))
}

/// `PUT /_matrix/client/v3/user/{userId}/account_data/{type}`
pub(crate) async fn set(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: set_global_account_data::v3::Request,
) -> Result<set_global_account_data::v3::Response, Error> {
    let event_type = request.event_type.to_string();
    store(&app, &user, request.user_id, None, event_type, request.data.json()).await?;
    Ok(set_global_account_data::v3::Response::new())
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub(crate) async fn get_of_room(
    app: App,
    user: User,
    request: get_room_account_data::v3::Request,
) -> Result<get_room_account_data::v3::Response, Error> {
    let event_type = request.event_type.to_string();
    let content = content(&app, &user, &request.user_id, Some(request.room_id), event_type).await?;
    Ok(get_room_account_data::v3::Response::new(Raw::from_json(content)))
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub(crate) async fn set_of_room(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: set_room_account_data::v3::Request,
) -> Result<set_room_account_data::v3::Response, Error> {
    let event_type = request.event_type.to_string();
    store(&app, &user, request.user_id, Some(request.room_id), event_type, request.data.json()).await?;
    Ok(set_room_account_data::v3::Response::new())
}

async fn content(
    app: &App,
    user: &User,
    user_id: &OwnedUserId,
    room_id: Option<OwnedRoomId>,
    event_type: String,
) -> Result<Box<RawValue>, Error> {
    user.must_be(user_id)?;
    let content = account_data::content(app, user.number, room_id, event_type).await?;
    let content = content.ok_or_else(|| Error::not_found("You keep no account data of this type"))?;
    RawValue::from_string(content).map_err(Error::internal)
}

async fn store(
    app: &App,
    user: &User,
    user_id: OwnedUserId,
    room_id: Option<OwnedRoomId>,
    event_type: String,
    content: &RawValue,
) -> Result<(), Error> {
    user.must_be(&user_id)?;
    if account_data::is_servers(&event_type) {
        let text = "Account data of this type is set by other endpoints";
        return Err(Error::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::BadJson, text));
    }
    if event_type.len() > limits::EVENT_FIELD_BYTES {
        return Err(Error::invalid_param("A type has at most 255 bytes"));
    }
    if !content.get().starts_with('{') {
        return Err(Error::bad_json("Account data is a JSON object"));
    }
    Ok(account_data::set(app, user.number, room_id, event_type, content.get().to_owned()).await?)
}

impl From<AccountDataError> for Error {
    fn from(error: AccountDataError) -> Self {
        match error {
            AccountDataError::TooMuch => Self::too_large("All your account data together is too large"),
            AccountDataError::Store(error) => error.into(),
        }
    }
}
