//! Saying something in a room. <https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room>

use std::time::Duration;

use ruma::{
    CanonicalJsonObject, OwnedRoomId, TransactionId,
    api::client::{message::send_message_event, redact::redact_event, state::send_state_event},
    events::TimelineEventType,
};
use serde_json::{Value, json};

use crate::{
    api::{Error, User, caller::EvenSuspended, content, custom::JsonAnswer, proposed::Delayable},
    base::limits,
    room::build::Draft,
    service::{App, delayed, read::look, rooms},
    store::events::Endpoint,
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
pub(crate) async fn message(
    app: App,
    user: User,
    Delayable { request, delay }: Delayable<send_message_event::v3::Request>,
) -> Result<JsonAnswer<Value>, Error> {
    let draft = Draft {
        kind: TimelineEventType::from(request.event_type),
        state_key: None,
        content: content::object(&request.body)?,
        redacts: None,
    };
    let by = Some(bounded(&request.txn_id)?);
    send(app, &user, (request.room_id, draft), by, delay).await
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub(crate) async fn state(
    app: App,
    user: User,
    Delayable { request, delay }: Delayable<send_state_event::v3::Request>,
) -> Result<JsonAnswer<Value>, Error> {
    let draft = Draft {
        kind: TimelineEventType::from(request.event_type),
        state_key: Some(request.state_key),
        content: content::object(&request.body)?,
        redacts: None,
    };
    send(app, &user, (request.room_id, draft), None, delay).await
}

/// Sends an event, or sees to it that it is sent later.
async fn send(
    app: App,
    user: &User,
    (room_id, draft): (OwnedRoomId, Draft),
    by: Option<String>,
    delay: Option<Duration>,
) -> Result<JsonAnswer<Value>, Error> {
    Ok(JsonAnswer(match delay {
        Some(delay) => {
            json!({"delay_id": delayed::schedule(&app, user, &room_id, draft, by, delay).await?})
        }
        None => {
            let by = by.map(|id| (Endpoint::Send, id));
            json!({"event_id": rooms::send(&app, user, &room_id, draft, by).await?})
        }
    }))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`. Who is suspended may still take back what they said
/// themselves.
pub(crate) async fn redact(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: redact_event::v3::Request,
) -> Result<redact_event::v3::Response, Error> {
    if user.suspended {
        let (target, own) = ((request.room_id.clone(), request.event_id.clone()), user.user_id.clone());
        let look =
            look::look_at(
                &app,
                user.onlooker(&app),
                target,
                move |_, event| Ok(*event.pdu().sender() == own),
            );
        if !look.await? {
            return Err(Error::user_suspended());
        }
    }
    let mut content = CanonicalJsonObject::new();
    content.extend(request.reason.map(|reason| ("reason".to_owned(), reason.into())));
    let kind = TimelineEventType::RoomRedaction;
    let draft = Draft { kind, state_key: None, content: content.into(), redacts: Some(request.event_id) };
    let by = Some((Endpoint::Redact, bounded(&request.txn_id)?));
    let event_id = rooms::send(&app, &user, &request.room_id, draft, by).await?;
    Ok(redact_event::v3::Response::new(event_id))
}

fn bounded(id: &TransactionId) -> Result<String, Error> {
    if id.as_str().len() > limits::TRANSACTION_ID_BYTES {
        let most = limits::TRANSACTION_ID_BYTES;
        return Err(Error::invalid_param(format!("A transaction id has at most {most} bytes")));
    }
    Ok(id.to_string())
}
