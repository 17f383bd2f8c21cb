//! Which threads a user follows. <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use http::{Method, StatusCode};
use ruma::{OwnedEventId, OwnedRoomId, api::auth_scheme::AccessToken};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{
        Error, User,
        custom::JsonAnswer,
        proposed::{Proposal, Proposed},
    },
    service::{
        App,
        thread_subscriptions::{self, SubscriptionError},
    },
};

const PATHS: &[&str] =
    &["/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription"];

pub(crate) struct Subscribe;

impl Proposal for Subscribe {
    const METHOD: Method = Method::PUT;
    const PATHS: &'static [&'static str] = PATHS;
    type Authentication = AccessToken;
}

/// `PUT /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
pub(crate) async fn subscribe(
    app: App,
    user: User,
    request: Proposed<Subscribe>,
) -> Result<JsonAnswer<Value>, Error> {
    #[derive(Deserialize)]
    struct Body {
        automatic: Option<OwnedEventId>,
    }
    let Body { automatic } = request.body()?;
    thread_subscriptions::subscribe(&app, user.onlooker(&app), thread(&request)?, automatic).await?;
    Ok(JsonAnswer(json!({})))
}

pub(crate) struct Unsubscribe;

impl Proposal for Unsubscribe {
    const METHOD: Method = Method::DELETE;
    const PATHS: &'static [&'static str] = PATHS;
    type Authentication = AccessToken;
}

/// `DELETE /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
pub(crate) async fn unsubscribe(
    app: App,
    user: User,
    request: Proposed<Unsubscribe>,
) -> Result<JsonAnswer<Value>, Error> {
    thread_subscriptions::unsubscribe(&app, user.onlooker(&app), thread(&request)?).await?;
    Ok(JsonAnswer(json!({})))
}

pub(crate) struct Get;

impl Proposal for Get {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = PATHS;
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
pub(crate) async fn get(app: App, user: User, request: Proposed<Get>) -> Result<JsonAnswer<Value>, Error> {
    let manual = thread_subscriptions::is_manual(&app, user.onlooker(&app), thread(&request)?).await?;
    let manual = manual.ok_or_else(|| Error::not_found("You are not subscribed to the thread"))?;
    Ok(JsonAnswer(json!({ "automatic": !manual })))
}

fn thread<P>(request: &Proposed<P>) -> Result<(OwnedRoomId, OwnedEventId), Error> {
    Ok((request.id(0)?, request.id(1)?))
}

impl From<SubscriptionError> for Error {
    fn from(error: SubscriptionError) -> Self {
        match error {
            SubscriptionError::NotInThread => {
                let code = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD";
                Self::coded(StatusCode::BAD_REQUEST, code, "The event is not in the thread")
            }
            SubscriptionError::Ended => {
                let code = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION";
                Self::coded(StatusCode::CONFLICT, code, "You unsubscribed after the event")
            }
            SubscriptionError::Read(error) => error.into(),
            SubscriptionError::Store(error) => error.into(),
        }
    }
}
