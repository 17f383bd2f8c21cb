//! What another server tells of a room's graph when it is asked: parsed, and believed where signatures prove it.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>,
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>

use std::{sync::Arc, time::Duration};

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, UInt,
    api::{
        Direction,
        federation::{
            authorization::get_event_authorization,
            backfill::get_backfill,
            event::{
                get_event, get_event_by_timestamp, get_missing_events, get_room_state, get_room_state_ids,
            },
        },
    },
    signatures::PublicKeyMap,
};
use serde_json::value::RawValue;
use tokio::{sync::Mutex, task::JoinSet};

use super::{
    ask::{AskError, ask},
    keyring::Keyring,
    receive,
};
use crate::{
    base::{blocking, clock::Timestamp, ids::RoomNumber, json::Object, limits},
    net::Bounds,
    room::{pdu::Pdu, receive::verify_backfilled, version::Version},
    service::App,
    store::StoreError,
};

/// A room, as others are asked about it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub number: RoomNumber,
    pub id: OwnedRoomId,
    pub version: Version,
}

/// A server that is asked about a room.
#[derive(Clone)]
pub(super) struct Source {
    pub app: App,
    pub server: OwnedServerName,
    pub room: Room,
    /// The keys by which what it tells is checked.
    keyring: Arc<Mutex<Keyring>>,
}

/// The ids of a state's events, and of those that permit them.
#[derive(Debug)]
pub(super) struct StateIds {
    pub state: Vec<OwnedEventId>,
    pub auth_chain: Vec<OwnedEventId>,
}

impl Source {
    pub(super) fn new(app: &App, server: OwnedServerName, room: &Room) -> Self {
        let keyring = Arc::new(Mutex::new(Keyring::new(limits::KEY_ASKED, Some(server.clone()))));
        Self { app: app.clone(), server, room: room.clone(), keyring }
    }

    /// The keys by which events that it told are checked.
    pub(super) async fn keys(&self, events: &[&Object]) -> Vec<PublicKeyMap> {
        let mut keyring = self.keyring.lock().await;
        keyring.learn(&self.app, events, self.room.version).await;
        events.iter().map(|event| keyring.of(event, self.room.version)).collect()
    }

    /// The events before the latest ones and behind the earliest, no more than are asked for.
    pub(super) async fn parents(
        &self,
        earliest: Vec<OwnedEventId>,
        latest: Vec<OwnedEventId>,
    ) -> Result<Vec<Object>, AskError> {
        let mut request = get_missing_events::v1::Request::new(self.room.id.clone(), earliest, latest);
        request.limit = limits::PARENTS_ASKED.into();
        let mut told = ask(&self.app, &self.server, request, bounds(limits::PARENTS_ANSWER_BYTES)).await?;
        told.events.truncate(limits::PARENTS_ASKED as usize);
        Ok(objects(told.events))
    }

    /// Events and what came before them, no more than so many.
    pub(super) async fn past(&self, from: Vec<OwnedEventId>, limit: usize) -> Result<Vec<Object>, AskError> {
        let asked = UInt::new_saturating(limit as u64);
        let request = get_backfill::v1::Request::new(self.room.id.clone(), from, asked);
        let mut told = ask(&self.app, &self.server, request, bounds(limits::PARENTS_ANSWER_BYTES)).await?;
        told.pdus.truncate(limit);
        Ok(objects(told.pdus))
    }

    /// The event that is nearest to a time, as far as the server knows, and when it says that it was sent.
    pub(super) async fn event_at(
        &self,
        (time, direction): (Timestamp, Direction),
    ) -> Result<(OwnedEventId, Timestamp), AskError> {
        let request = get_event_by_timestamp::v1::Request::new(self.room.id.clone(), time.into(), direction);
        let told = ask(&self.app, &self.server, request, Bounds::SMALL).await?;
        Ok((told.event_id, told.origin_server_ts.into()))
    }

    /// The ids of the state before an event.
    pub(super) async fn state_ids(&self, event: &EventId) -> Result<StateIds, AskError> {
        let request = get_room_state_ids::v1::Request::new(event.to_owned(), self.room.id.clone());
        let told = ask(&self.app, &self.server, request, bounds(limits::STATE_IDS_BYTES)).await?;
        Ok(StateIds { state: told.pdu_ids, auth_chain: told.auth_chain_ids })
    }

    /// The events of the state before an event, and those that permit them.
    pub(super) async fn state(&self, event: &EventId) -> Result<Vec<Box<RawValue>>, AskError> {
        let request = get_room_state::v1::Request::new(event.to_owned(), self.room.id.clone());
        let told = ask(&self.app, &self.server, request, bounds(limits::STATE_ANSWER_BYTES)).await?;
        let mut events = told.auth_chain;
        events.extend(told.pdus);
        Ok(events)
    }

    /// What permits an event, and what permits that.
    pub(super) async fn permissions(&self, event: &EventId) -> Result<Vec<Object>, AskError> {
        let request = get_event_authorization::v1::Request::new(self.room.id.clone(), event.to_owned());
        let told = ask(&self.app, &self.server, request, bounds(limits::PARENTS_ANSWER_BYTES)).await?;
        Ok(objects(told.auth_chain))
    }

    /// Those of some events that the server gives.
    pub(super) async fn events(&self, ids: Vec<OwnedEventId>) -> Vec<Object> {
        let (mut events, mut asked) = (Vec::new(), JoinSet::new());
        for id in ids {
            if asked.len() >= EVENTS_ASKED {
                events.extend(asked.join_next().await.and_then(Result::ok).flatten());
            }
            let source = self.clone();
            asked.spawn(async move { source.event(id).await.ok() });
        }
        while let Some(event) = asked.join_next().await {
            events.extend(event.ok().flatten());
        }
        events
    }

    async fn event(&self, id: OwnedEventId) -> Result<Object, AskError> {
        let request = get_event::v1::Request::new(id);
        let told = ask(&self.app, &self.server, request, bounds(EVENT_ANSWER_BYTES)).await?;
        objects(vec![told.pdu]).pop().ok_or(AskError::Net(crate::net::NetError::Content("no event")))
    }

    /// Those of some events that are the room's and rightly signed. What of them was tampered with is redacted.
    pub(super) async fn verified(&self, events: Vec<Object>) -> Vec<Pdu> {
        let keys = self.keys(&events.iter().collect::<Vec<_>>()).await;
        let mut verified = Vec::with_capacity(events.len());
        let mut events = events.into_iter().zip(keys);
        loop {
            let some: Vec<_> = events.by_ref().take(limits::SIGNATURES_STEP).collect();
            if some.is_empty() {
                return verified;
            }
            let place = self.app.key_checks.clone().acquire_owned().await.expect("it is never closed");
            let room = self.room.clone();
            let checked = blocking::run(move || {
                let _place = place;
                check(&room, some)
            });
            verified.extend(checked.await.unwrap_or_default());
        }
    }
}

fn check(room: &Room, events: Vec<(Object, PublicKeyMap)>) -> Vec<Pdu> {
    let check = |(event, keys): (Object, PublicKeyMap)| {
        verify_backfilled(event, &keys, room.version).ok().filter(|pdu| pdu.room_id() == room.id)
    };
    events.into_iter().filter_map(check).collect()
}

/// Those of some texts that may be events.
pub(super) fn objects(events: Vec<Box<RawValue>>) -> Vec<Object> {
    events.iter().filter_map(|event| Object::parse(event.get()).ok()).collect()
}

/// An event by its keys, for whoever judges it.
pub(super) async fn keys(
    app: &App,
    event: &Object,
    version: Version,
) -> Result<Arc<PublicKeyMap>, StoreError> {
    Ok(Arc::new(receive::keys(app, event, version).await?))
}

fn bounds(body_bytes: u64) -> Bounds {
    Bounds { body_bytes, total: ANSWER_TIME, ..Bounds::SMALL }
}

const ANSWER_TIME: Duration = limits::FETCH_TIME;
/// Events of one state that are asked for at once.
const EVENTS_ASKED: usize = limits::OUTGOING_PER_PEER / 2;
/// An answer with one event, in bytes: whatever is around it, and however it is written.
const EVENT_ANSWER_BYTES: u64 = limits::EVENT_BYTES as u64 * 2;
