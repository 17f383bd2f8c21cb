//! Past events. <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use ruma::{
    UInt,
    api::federation::{
        backfill::get_backfill,
        event::{get_event, get_event_by_timestamp, get_missing_events},
    },
};

use crate::{
    api::{Error, peer::Peer},
    service::{
        App,
        federation::history::{self, Gap},
    },
};

/// `GET /_matrix/federation/v1/event/{eventId}`
pub(crate) async fn event(
    app: App,
    peer: Peer,
    request: get_event::v1::Request,
) -> Result<get_event::v1::Response, Error> {
    let event = history::event(&app, peer.server(), request.event_id).await?;
    Ok(get_event::v1::Response::new(app.server_name.clone(), app.clock.now().into(), event))
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`
pub(crate) async fn backfill(
    app: App,
    peer: Peer,
    request: get_backfill::v1::Request,
) -> Result<get_backfill::v1::Response, Error> {
    let limit = size(request.limit);
    let events = history::backfill(&app, peer.server(), request.room_id, request.v, limit).await?;
    Ok(get_backfill::v1::Response::new(app.server_name.clone(), app.clock.now().into(), events))
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
pub(crate) async fn missing(
    app: App,
    peer: Peer,
    request: get_missing_events::v1::Request,
) -> Result<get_missing_events::v1::Response, Error> {
    let gap = Gap {
        earliest: request.earliest_events,
        latest: request.latest_events,
        min_depth: request.min_depth.into(),
        limit: size(request.limit),
    };
    let events = history::missing(&app, peer.server(), request.room_id, gap).await?;
    Ok(get_missing_events::v1::Response::new(events))
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
pub(crate) async fn event_at(
    app: App,
    peer: Peer,
    request: get_event_by_timestamp::v1::Request,
) -> Result<get_event_by_timestamp::v1::Response, Error> {
    let at = (request.ts.into(), request.dir);
    let (event_id, time) = history::event_at(&app, peer.server(), request.room_id, at).await?;
    Ok(get_event_by_timestamp::v1::Response::new(event_id, time.into()))
}

fn size(limit: UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
}
