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
    base::limits,
    service::{
        App,
        sync::sliding::Pos,
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

pub(crate) struct Changes;

impl Proposal for Changes {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] =
        &["/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/unstable/io.element.msc4308/thread_subscriptions`: back from where an answer of sliding sync begins.
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>
pub(crate) async fn changes(
    app: App,
    user: User,
    request: Proposed<Changes>,
) -> Result<JsonAnswer<Value>, Error> {
    #[derive(Deserialize)]
    struct Query {
        dir: Option<String>,
        from: Option<String>,
        to: Option<String>,
        limit: Option<u64>,
    }
    let Query { dir, from, to, limit } = request.query()?;
    match dir.as_deref() {
        Some("b") => {}
        None => return Err(Error::missing_param("`dir` is missing")),
        Some(_) => return Err(Error::invalid_param("The direction is `b`, for back")),
    }
    if limit == Some(0) {
        return Err(Error::invalid_param("The limit is at least 1"));
    }
    let from = from.map(|from| from.parse()).transpose()?;
    let to = to.map(|to| to.parse::<Pos>().map(|pos| pos.seen)).transpose();
    let to = to.map_err(|_| Error::invalid_param("The token is no position of sliding sync"))?;
    let limit = limit.map_or(limits::THREAD_SUBSCRIPTIONS_PAGE, |limit| limit as usize);
    let changes = thread_subscriptions::changes(&app, user.number, (from, to), limit).await?;
    Ok(JsonAnswer(changes.told("end")))
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
