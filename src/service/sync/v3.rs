//! The answer of `/sync` in the specification's shape.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::{
    OwnedRoomId, RoomId,
    api::client::sync::sync_events::v3::{
        InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Response, State, StateEvents,
    },
    events::AnyStrippedStateEvent,
    serde::Raw,
};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{
    delta::{RoomDelta, delta},
    plan::{Change, Kind, Plan, Query, plan},
};
use crate::{
    base::ids::Position,
    room::{
        filter::{self, Subject},
        format,
        visibility::VisibleEvent,
    },
    service::read::{reader::Reader, token::SyncToken},
    store::{
        StoreError, Topic, View,
        events::{Membership, Stay},
    },
};

/// An answer, and what would make a later one say more.
#[derive(Debug)]
pub struct Answer {
    pub response: Response,
    pub topics: Vec<Topic>,
    /// Whether there was nothing to tell.
    pub is_empty: bool,
}

/// Answers a query as of a view.
pub fn answer(view: &View<'_>, query: &Query) -> Result<Answer, StoreError> {
    let mut data = account_data(view, query)?;
    let global = data.remove(&None).unwrap_or_default();
    let mut rooms: HashMap<OwnedRoomId, Vec<Data>> =
        data.into_iter().filter_map(|(room_id, data)| Some((room_id?, data))).collect();
    let mut touched = HashSet::new();
    for room_id in rooms.keys() {
        touched.extend(view.room_number(room_id)?);
    }
    let Plan { changes, topics } = plan(view, query, &touched)?;

    let mut response = Response::new(SyncToken(view.position()).to_string());
    response.account_data.events = global
        .into_iter()
        .filter(|data| {
            let subject = Subject { event_type: &data.kind, sender: None, has_url: false };
            filter::admits_global(&query.filter.account_data, subject)
        })
        .map(Data::write)
        .collect();
    for change in changes {
        let room_id = view.room_id(change.access.room)?;
        let data = rooms.remove(&room_id).unwrap_or_default();
        let data = data.into_iter().filter(|data| {
            let subject = Subject { event_type: &data.kind, sender: None, has_url: false };
            filter::admits_event(&query.filter.room.account_data, subject)
        });
        let data: Vec<_> = data.map(Data::write).collect();
        let section = &mut response.rooms;
        match change.kind {
            Kind::Joined { since } => {
                let mut room = joined(view, query, &change, since)?;
                room.account_data.events = data;
                if since.is_none() || !room.is_empty() {
                    section.join.insert(room_id, room);
                }
            }
            Kind::Left { since } => {
                section.leave.insert(room_id, left(view, query, &change, since)?);
            }
            Kind::Pending(stay) => {
                let events = stripped_state(view, &change, stay)?;
                if stay.membership == Membership::Invite {
                    let mut room = InvitedRoom::new();
                    room.invite_state.events = events;
                    section.invite.insert(room_id, room);
                } else {
                    let mut room = KnockedRoom::new();
                    room.knock_state.events = events;
                    section.knock.insert(room_id, room);
                }
            }
        }
    }
    let is_empty = response.rooms.is_empty() && response.account_data.is_empty();
    Ok(Answer { response, topics, is_empty })
}

fn joined(
    view: &View<'_>,
    query: &Query,
    change: &Change,
    since: Option<Position>,
) -> Result<JoinedRoom, StoreError> {
    let graph = view.graph(change.access.room);
    let mut reader = Reader::new(view, &graph, &change.access, &query.onlooker);
    let delta = delta(view, &change.access, &mut reader, query, since)?;
    let writer = Writer { reader: &reader, query };
    let mut room = JoinedRoom::new();
    if let Some(summary) = &delta.summary {
        room.summary.heroes.clone_from(&summary.heroes);
        room.summary.joined_member_count = Some(summary.joined.into());
        room.summary.invited_member_count = Some(summary.invited.into());
    }
    room.state = writer.state(&delta)?;
    // A room in which only something else changed has no timeline to tell of.
    if since.is_none() || !delta.timeline.is_empty() || delta.limited {
        room.timeline.limited = delta.limited;
        room.timeline.prev_batch = Some(delta.prev_batch.to_string());
        room.timeline.events = writer.events(&delta.timeline)?;
    }
    Ok(room)
}

fn left(
    view: &View<'_>,
    query: &Query,
    change: &Change,
    since: Option<Position>,
) -> Result<LeftRoom, StoreError> {
    let graph = view.graph(change.access.room);
    let mut reader = Reader::new(view, &graph, &change.access, &query.onlooker);
    let delta = delta(view, &change.access, &mut reader, query, since)?;
    let writer = Writer { reader: &reader, query };
    let mut room = LeftRoom::new();
    room.state = writer.state(&delta)?;
    room.timeline.limited = delta.limited;
    room.timeline.prev_batch = Some(delta.prev_batch.to_string());
    room.timeline.events = writer.events(&delta.timeline)?;
    Ok(room)
}

/// The state that shows somebody what they are invited to or knock at.
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
fn stripped_state(
    view: &View<'_>,
    change: &Change,
    stay: Stay,
) -> Result<Vec<Raw<AnyStrippedStateEvent>>, StoreError> {
    let room = change.access.room;
    let root = view.header(room, stay.event)?.state_before.unwrap_or_default();
    let mut events = Vec::new();
    for kind in format::STRIPPED_STATE {
        if let Some(number) = view.state_event(room, root, kind, "")? {
            events.extend(format::stripped(&view.event(room, number)?.pdu));
        }
    }
    events.extend(format::stripped(&view.event(room, stay.event)?.pdu));
    Ok(events)
}

/// Writes events as the query wants them.
struct Writer<'a, 'v> {
    reader: &'a Reader<'v>,
    query: &'a Query,
}

impl Writer<'_, '_> {
    fn state(&self, delta: &RoomDelta) -> Result<State, StoreError> {
        let events = StateEvents::with_events(self.events(&delta.state)?);
        Ok(if self.query.state_after { State::After(events) } else { State::Before(events) })
    }

    fn events<T>(&self, events: &[VisibleEvent]) -> Result<Vec<Raw<T>>, StoreError> {
        events.iter().map(|event| Ok(self.selected(self.reader.write_in_room(event)?))).collect()
    }

    /// Leaves only the fields that the filter asks for.
    fn selected<T>(&self, event: Raw<T>) -> Raw<T> {
        let Some(fields) = &self.query.filter.event_fields else { return event };
        let whole: Value = event.deserialize_as_unchecked().unwrap_or_default();
        Raw::from_json(to_raw_value(&filter::select_fields(&whole, fields)).expect("JSON has a text"))
    }
}

/// A piece of account data.
struct Data {
    kind: String,
    content: Box<RawValue>,
}

impl Data {
    fn write<T>(self) -> Raw<T> {
        #[derive(serde::Serialize)]
        struct Event {
            #[serde(rename = "type")]
            kind: String,
            content: Box<RawValue>,
        }
        let event = Event { kind: self.kind, content: self.content };
        Raw::from_json(to_raw_value(&event).expect("a text and JSON have a JSON text"))
    }
}

/// What changed of the account's data, by room; what is of no room has none.
fn account_data(
    view: &View<'_>,
    query: &Query,
) -> Result<BTreeMap<Option<OwnedRoomId>, Vec<Data>>, StoreError> {
    let mut changed: BTreeMap<Option<OwnedRoomId>, Vec<Data>> = BTreeMap::new();
    for data in view.account_data_since(query.onlooker.user, query.since.unwrap_or_default())? {
        let content = RawValue::from_string(data.content);
        let content = content
            .map_err(|_| StoreError::corrupt("account_data", data.event_type.as_bytes(), "not JSON"))?;
        let room_id = data.room_id.as_deref().and_then(|id| <&RoomId>::try_from(id).ok());
        changed
            .entry(room_id.map(ToOwned::to_owned))
            .or_default()
            .push(Data { kind: data.event_type, content });
    }
    Ok(changed)
}
