//! Telling that one types. <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::time::Duration;

use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::typing::create_typing_event::v3::{Request, Response},
};

use crate::{
    api::{Error, User, custom::Unparsed},
    base::limits,
    service::{App, typing},
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
pub(crate) async fn set(app: App, user: User, request: Unparsed<Request>) -> Result<Response, Error> {
    let [room_id, user_id] = &request.arguments[..] else { return Err(Error::unrecognized()) };
    let room_id = OwnedRoomId::try_from(room_id.as_str());
    let room_id = room_id.map_err(|_| Error::invalid_param("This is no room id"))?;
    let user_id = OwnedUserId::try_from(user_id.as_str());
    user.must_be(&user_id.map_err(|_| Error::invalid_param("This is no user id"))?)?;
    // ruma wants the time, which the specification lets clients leave out.
    let typing = request.body.get("typing").and_then(|typing| typing.as_bool());
    let time = match request.body.get("timeout") {
        None => Ok(limits::TYPING_TIME),
        Some(time) => time.as_u64().map(Duration::from_millis).ok_or("The time is no count of milliseconds"),
    };
    let typing = match typing.ok_or_else(|| Error::bad_json("It is not said whether you are typing"))? {
        true => Some(time.map_err(Error::bad_json)?),
        false => None,
    };
    let set = typing::set(&app, user.number, room_id, typing).await?;
    set.map_err(|_| Error::forbidden("You are not in this room"))?;
    Ok(Response::new())
}
