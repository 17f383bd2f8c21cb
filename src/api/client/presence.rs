//! Who is there. <https://spec.matrix.org/v1.19/client-server-api/#presence>

use ruma::{
    api::client::presence::{get_presence, set_presence},
    presence::PresenceState,
};

use crate::{
    api::{Error, User},
    base::limits,
    service::{
        App,
        presence::{self, PresenceError, State},
    },
};

/// `PUT /_matrix/client/v3/presence/{userId}/status`. Where presence is off this is heard and forgotten: clients send it
/// without being asked, and a refusal would tell people of a failure that is none.
pub(crate) async fn set(
    app: App,
    user: User,
    request: set_presence::v3::Request,
) -> Result<set_presence::v3::Response, Error> {
    user.must_be(&request.user_id)?;
    let state = State::ALL.into_iter().find(|state| state.name() == request.presence.as_str());
    let state = state.ok_or_else(|| Error::invalid_param("One is online, unavailable or offline"))?;
    let status = request.status_msg.as_deref();
    if status.is_some_and(|status| status.len() > limits::PRESENCE_STATUS_BYTES) {
        return Err(Error::invalid_param("A status message has at most 1024 bytes"));
    }
    presence::say(&app, &user, state, status);
    Ok(set_presence::v3::Response::new())
}

/// `GET /_matrix/client/v3/presence/{userId}/status`
pub(crate) async fn get(
    app: App,
    user: User,
    request: get_presence::v3::Request,
) -> Result<get_presence::v3::Response, Error> {
    let seen = presence::status(&app, user.number, &request.user_id).await?;
    let mut response = get_presence::v3::Response::new(PresenceState::from(seen.shown.state.name()));
    response.status_msg = seen.shown.status.as_deref().map(str::to_owned);
    response.currently_active = (seen.shown.state == State::Online).then_some(seen.shown.active);
    response.last_active_ago = seen.idle;
    Ok(response)
}

impl From<PresenceError> for Error {
    fn from(error: PresenceError) -> Self {
        match error {
            PresenceError::NoSuchUser => Self::not_found("There is no such user here"),
            PresenceError::Stranger => Self::forbidden("You share no room with this user"),
            PresenceError::Store(error) => error.into(),
        }
    }
}
