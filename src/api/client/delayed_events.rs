//! Events that are sent later. What is answered has the names of the accepted proposal, and those of the draft that clients
//! know. <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use std::time::Duration;

use http::{Method, StatusCode};
use ruma::{
    OwnedRoomId,
    api::{
        auth_scheme::{AccessToken, AccessTokenOptional},
        error::ErrorKind,
    },
    events::TimelineEventType,
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{
        Error, MaybeUser, User, content,
        custom::JsonAnswer,
        proposed::{Proposal, Proposed},
    },
    base::limits,
    room::build::Draft,
    service::{
        App,
        delayed::{self, Action, DelayError},
    },
    store::DelayedEvent,
};

pub(crate) struct Schedule;

impl Proposal for Schedule {
    const METHOD: Method = Method::PUT;
    const PATHS: &'static [&'static str] = &[
        "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
        "/_matrix/client/v3/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    ];
    type Authentication = AccessToken;
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/delayed_event/{eventType}/{txnId}`
pub(crate) async fn schedule(
    app: App,
    user: User,
    request: Proposed<Schedule>,
) -> Result<JsonAnswer<Value>, Error> {
    #[derive(Deserialize)]
    struct Body {
        delay_ms: Option<u64>,
        /// What `delay_ms` was before.
        delay: Option<u64>,
        state_key: Option<String>,
        content: Raw<Value>,
    }
    let body: Body = request.body()?;
    let delay = body.delay_ms.or(body.delay).ok_or_else(|| Error::missing_param("`delay_ms` is missing"))?;
    let room_id: OwnedRoomId = request.id(0)?;
    let [_, kind, transaction] = &request.arguments[..] else { return Err(Error::unrecognized()) };
    if transaction.len() > limits::TRANSACTION_ID_BYTES {
        let most = limits::TRANSACTION_ID_BYTES;
        return Err(Error::invalid_param(format!("A transaction id has at most {most} bytes")));
    }
    let draft = Draft {
        kind: TimelineEventType::from(kind.as_str()),
        state_key: body.state_key,
        content: content::object(&body.content)?,
        redacts: None,
    };
    let (transaction, delay) = (Some(transaction.clone()), Duration::from_millis(delay));
    let id = delayed::schedule(&app, &user, &room_id, draft, transaction, delay).await?;
    Ok(JsonAnswer(json!({ "delay_id": id })))
}

pub(crate) struct List;

impl Proposal for List {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] =
        &["/_matrix/client/unstable/org.matrix.msc4140/delayed_events", "/_matrix/client/v1/delayed_events"];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events`
pub(crate) async fn list(app: App, user: User, _: Proposed<List>) -> Result<JsonAnswer<Value>, Error> {
    let events = delayed::scheduled(&app, user.number).await?;
    let events = events.iter().map(told).collect::<Result<Vec<_>, _>>()?;
    Ok(JsonAnswer(json!({ "delayed_events": events })))
}

pub(crate) struct Get;

impl Proposal for Get {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = &[
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
        "/_matrix/client/v1/delayed_events/{delay_id}",
    ];
    type Authentication = AccessToken;
}

/// `GET /_matrix/client/v1/delayed_events/{delayId}`
pub(crate) async fn get(app: App, user: User, request: Proposed<Get>) -> Result<JsonAnswer<Value>, Error> {
    let id = request.arguments.into_iter().next().unwrap_or_default();
    let event = delayed::event(&app, user.number, id).await?;
    Ok(JsonAnswer(told(&event)?))
}

fn told(event: &DelayedEvent) -> Result<Value, Error> {
    let content: Value = serde_json::from_str(&event.content).map_err(Error::internal)?;
    let mut told = json!({
        "delay_id": event.id,
        "room_id": event.room_id,
        "type": event.kind,
        "content": content,
        "delay_ms": event.delay_ms,
        "delayed_since_ts": event.since.0,
        "delay": event.delay_ms,
        "running_since": event.since.0,
    });
    if let Some(key) = &event.state_key {
        told["state_key"] = json!(key);
    }
    if let Some(end) = &event.ended {
        let mut ended = json!({ "finalised_ts": end.at.0 });
        if let Some(event_id) = &end.event_id {
            ended["event_id"] = json!(event_id);
        }
        if let Some(error) = &end.error {
            ended["error"] = serde_json::from_str(error).map_err(Error::internal)?;
        }
        if let (Some(told), Some(ended)) = (told.as_object_mut(), ended.as_object()) {
            told.extend(ended.clone());
        }
        told["finalised"] = ended;
    }
    Ok(told)
}

pub(crate) struct Manage;

impl Proposal for Manage {
    const METHOD: Method = Method::POST;
    const PATHS: &'static [&'static str] = &[
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/send",
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/cancel",
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/restart",
        "/_matrix/client/v1/delayed_events/{delay_id}/send",
        "/_matrix/client/v1/delayed_events/{delay_id}/cancel",
        "/_matrix/client/v1/delayed_events/{delay_id}/restart",
    ];
    type Authentication = AccessTokenOptional;
}

/// `POST /_matrix/client/v1/delayed_events/{delayId}/{action}`, and an older form in which the body names the action. A call's
/// server keeps the participants' delays running by their ids alone, which nobody guesses; whoever shows a token must be the
/// event's sender.
pub(crate) async fn manage(
    app: App,
    MaybeUser(user): MaybeUser,
    request: Proposed<Manage>,
) -> Result<JsonAnswer<Value>, Error> {
    #[derive(Deserialize)]
    struct Body {
        action: Option<String>,
    }
    let behind = request.path.split_once("/delayed_events/").and_then(|(_, behind)| behind.split_once('/'));
    let action = match behind {
        Some((_, action)) => action.to_owned(),
        None => {
            let Body { action } = request.body()?;
            action.ok_or_else(|| Error::missing_param("`action` is missing"))?
        }
    };
    let action = match action.as_str() {
        "send" => Action::Send,
        "cancel" => Action::Cancel,
        "restart" => Action::Restart,
        _ => return Err(Error::invalid_param("The action is none of `send`, `cancel` and `restart`")),
    };
    let id = request.arguments.into_iter().next().unwrap_or_default();
    delayed::manage(&app, user.map(|user| user.number), id, action).await?;
    Ok(JsonAnswer(json!({})))
}

impl From<DelayError> for Error {
    fn from(error: DelayError) -> Self {
        match error {
            DelayError::None => Self::invalid_param("The delay is a number of milliseconds from 1 on"),
            DelayError::TooLong => Self::forbidden("An event can't be put off for so long"),
            DelayError::TooMuch(wait) => Self::limit_exceeded(wait),
            DelayError::Unknown => Self::not_found("There is no such delayed event"),
            DelayError::Ended => {
                let text = "The delayed event was sent or cancelled before";
                Self::new(StatusCode::CONFLICT, ErrorKind::Unknown, text)
            }
            DelayError::Locked => Self::user_locked(),
            DelayError::Suspended => Self::user_suspended(),
            DelayError::Write(error) => error.into(),
            DelayError::Store(error) => error.into(),
        }
    }
}
