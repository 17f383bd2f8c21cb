//! A room's past. <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use http::Response;
use ruma::api::client::{
    context::get_context,
    message::get_message_events,
    room::{get_event_by_timestamp, get_room_event},
};

use crate::{
    api::{Body, Error, User, written::Written},
    service::{
        App,
        read::{history, look, time},
    },
};

/// `GET /_matrix/client/v3/rooms/{roomId}/messages`
pub(crate) async fn messages(
    app: App,
    user: User,
    request: get_message_events::v3::Request,
) -> Result<Response<Body>, Error> {
    let span = history::Span {
        direction: request.dir,
        from: request.from,
        to: request.to,
        limit: size(request.limit),
        filter: request.filter,
    };
    let chunk = history::messages(&app, user.onlooker(&app), request.room_id, span).await?;
    let written = Written::default().text(r#"{"start":"#).value(&chunk.start)?;
    let written = match &chunk.end {
        Some(end) => written.text(r#","end":"#).value(end)?,
        None => written,
    };
    let written = written.text(r#","chunk":["#).list(chunk.events).text("]");
    written.field("state", chunk.state).text("}").answer(app).await
}

/// `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
pub(crate) async fn context(
    app: App,
    user: User,
    request: get_context::v3::Request,
) -> Result<Response<Body>, Error> {
    let what = (request.event_id, size(request.limit), request.filter);
    let context = history::context(&app, user.onlooker(&app), request.room_id, what).await?;
    let written = Written::default().text(r#"{"start":"#).value(&context.start)?;
    let written = written.text(r#","end":"#).value(&context.end)?;
    let written = written.text(r#","event":"#).value(&context.event)?;
    let written = written.field("events_before", context.before).field("events_after", context.after);
    written.field("state", context.state).text("}").answer(app).await
}

/// `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
pub(crate) async fn event(
    app: App,
    user: User,
    request: get_room_event::v3::Request,
) -> Result<get_room_event::v3::Response, Error> {
    let event = look::event(&app, user.onlooker(&app), request.room_id, request.event_id).await?;
    Ok(get_room_event::v3::Response::new(event))
}

/// `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
pub(crate) async fn event_at(
    app: App,
    user: User,
    request: get_event_by_timestamp::v1::Request,
) -> Result<get_event_by_timestamp::v1::Response, Error> {
    let wanted = (request.ts.into(), request.dir);
    let (event_id, sent_at) = time::event_at(&app, user.onlooker(&app), request.room_id, wanted).await?;
    Ok(get_event_by_timestamp::v1::Response::new(event_id, sent_at.into()))
}

fn size(limit: ruma::UInt) -> usize {
    u64::from(limit).try_into().unwrap_or(usize::MAX)
}
