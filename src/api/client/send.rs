//! Saying something in a room. <https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room>

use ruma::{
    CanonicalJsonObject, TransactionId,
    api::client::{message::send_message_event, redact::redact_event, state::send_state_event},
    events::TimelineEventType,
};

use crate::{
    api::{Error, User, caller::EvenSuspended, content},
    base::limits,
    room::build::Draft,
    service::{App, read::look, rooms},
    store::events::Endpoint,
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
pub(crate) async fn message(
    app: App,
    user: User,
    request: send_message_event::v3::Request,
) -> Result<send_message_event::v3::Response, Error> {
    let draft = Draft {
        kind: TimelineEventType::from(request.event_type),
        state_key: None,
        content: content::object(&request.body)?,
        redacts: None,
    };
    let by = Some((Endpoint::Send, bounded(&request.txn_id)?));
    let event_id = rooms::send(&app, &user, &request.room_id, draft, by).await?;
    Ok(send_message_event::v3::Response::new(event_id))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
pub(crate) async fn state(
    app: App,
    user: User,
    request: send_state_event::v3::Request,
) -> Result<send_state_event::v3::Response, Error> {
    let draft = Draft {
        kind: TimelineEventType::from(request.event_type),
        state_key: Some(request.state_key),
        content: content::object(&request.body)?,
        redacts: None,
    };
    let event_id = rooms::send(&app, &user, &request.room_id, draft, None).await?;
    Ok(send_state_event::v3::Response::new(event_id))
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
