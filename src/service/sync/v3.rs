//! Writes what changed as an answer of `/sync`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::OwnedRoomId;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    answer::Response,
    beside::Beside,
    damage::whole,
    data::{Data, account_data, add_push_rules},
    device_lists::{DeviceLists, device_lists, everybody},
    plan::{Plan, Query, plan},
    presence,
    rooms::Rooms,
    unlogged::Unlogged,
};
use crate::{
    base::{
        ids::{DeviceNumber, Position, RoomNumber, UserNumber},
        limits,
    },
    room::filter::{self, Subject},
    service::{
        ignored::ignored,
        invite_permission::{self, InvitePermission},
        keys,
        read::token::SyncToken,
        unread::Counted,
    },
    store::{Receipt, StoreError, Topic, View, events::Membership},
};

/// An answer, and what would make a later one say more.
#[derive(Debug)]
pub struct Answer {
    /// The answer, or its beginning: what is of no room, and [`limits::SYNC_BYTES`] of rooms.
    pub json: Vec<u8>,
    /// The rooms that are still to be written, if there are more.
    pub rest: Option<Box<Rooms>>,
    pub topics: Vec<Topic>,
    /// Whether there was nothing to tell.
    pub is_empty: bool,
    /// Whether messages are kept that the device has.
    pub has_delivered: bool,
    /// Whether it may tell of something that the device itself sent.
    pub has_echo: bool,
    /// What is new to the user in rooms, to be kept.
    pub counted: Vec<Counted>,
}

/// Answers a query as of a view.
pub fn answer(view: &View<'_>, query: &Arc<Query>, unlogged: Unlogged) -> Result<Answer, StoreError> {
    let Unlogged { heard, typing, presence: news } = unlogged;
    let mut data = account_data(view, query.onlooker.user, query.since.unwrap_or_default())?;
    let mut global = data.remove(&None).unwrap_or_default();
    let data: HashMap<OwnedRoomId, Vec<Data>> =
        data.into_iter().filter_map(|(room_id, data)| Some((room_id?, data))).collect();
    let receipts = new_receipts(view, query.onlooker.user, query.since)?;
    let mut touched: HashSet<_> = receipts.keys().chain(typing.rooms.keys()).copied().collect();
    if typing.restarted {
        for room in view.joined_rooms(query.onlooker.user) {
            touched.insert(room?);
        }
    }
    for room_id in data.keys() {
        touched.extend(view.room_number(room_id)?);
    }
    let permission = InvitePermission::of(view, query.onlooker.user)?;
    // Whoever blocked them wasn't told.
    let is_permission = |data: &Data| invite_permission::TYPES.contains(&data.kind.as_str());
    let invited_again = !permission.hides_all() && global.iter().any(is_permission);
    let Plan { changes, mut topics, company } = plan(view, query, &touched, invited_again)?;

    let mut response = Response::default();
    let mut next = SyncToken::at(view.position());
    let device = query.onlooker.device;
    (response.to_device.events, next.to_device) = to_device(view, device, query.to_device, usize::MAX)?;
    if query.since.is_none() {
        add_push_rules(view, &query.onlooker, &mut global)?;
    }
    response.account_data.events = global
        .into_iter()
        .filter(|data| {
            let subject = Subject { event_type: &data.kind, sender: None, has_url: false };
            filter::admits_global(&query.filter.account_data, subject)
        })
        .map(Data::write)
        .collect();
    let ignored = ignored(view, query.onlooker.user)?;
    response.device_lists = match query.since {
        Some(since) => device_lists(view, query.onlooker.user, since)?,
        None if query.lost => everybody(view, query.onlooker.user)?,
        None => DeviceLists::default(),
    };
    let near = (&company, &*response.device_lists.met);
    let presence = presence::tell(view, query, &news, near, &ignored)?;
    topics.extend(presence.topics);
    response.presence.events = presence.events;
    next.heard = presence.until.unwrap_or(heard);
    response.next_batch = next.to_string();
    response.device_one_time_keys_count = keys::counts(view, query.onlooker.device)?;
    response.device_unused_fallback_key_types = keys::unused_fallback_keys(view, query.onlooker.device)?;
    let has_news = !response.is_empty() || presence.is_news;
    let mut json = serde_json::to_vec(&response).expect("an answer has a JSON text");
    drop(response);
    // Its last brace comes behind the rooms.
    json.pop();
    let data = if query.since.is_some() { data } else { HashMap::new() };
    let beside = Beside { data, receipts, typing, ignored, permission };
    let mut rooms = Box::new(Rooms::new(query.clone(), changes, beside));
    let most = json.len() + limits::SYNC_BYTES;
    rooms.write(view, &mut json, most)?;
    Ok(Answer {
        json,
        topics,
        is_empty: !has_news && rooms.is_empty(),
        has_delivered: view.has_to_device(query.onlooker.device, query.to_device)?,
        has_echo: rooms.has_echo() || !rooms.is_whole(),
        counted: rooms.counted(),
        rest: (!rooms.is_whole()).then_some(rooms),
    })
}

/// The receipts since a position that the user may see, by room.
pub(super) fn new_receipts(
    view: &View<'_>,
    user: UserNumber,
    since: Option<Position>,
) -> Result<HashMap<RoomNumber, Vec<Receipt>>, StoreError> {
    let mut by_room: HashMap<RoomNumber, Vec<Receipt>> = HashMap::new();
    let Some(since) = since else { return Ok(by_room) };
    let is_in = |room| {
        let stay = whole(view.stay(user, room), room.0)?.flatten();
        Ok(stay.is_some_and(|stay| stay.membership == Membership::Join))
    };
    for receipt in view.receipts_since(since, user, limits::RECEIPTS_SINCE, is_in)? {
        by_room.entry(receipt.room).or_default().push(receipt);
    }
    Ok(by_room)
}

/// Writes the oldest messages that wait for a device, so many at most, and gives the position up to which these are all.
pub(super) fn to_device(
    view: &View<'_>,
    device: DeviceNumber,
    since: Position,
    limit: usize,
) -> Result<(Vec<Box<RawValue>>, Position), StoreError> {
    #[derive(serde::Serialize)]
    struct Event {
        sender: String,
        #[serde(rename = "type")]
        kind: String,
        content: Box<RawValue>,
    }
    let (mut messages, mut more) = view.to_device_since(device, since)?;
    more |= messages.len() > limit;
    messages.truncate(limit);
    let until = messages.last().filter(|_| more).map_or(view.position(), |last| last.position);
    let mut events = Vec::with_capacity(messages.len());
    for message in messages {
        let content = RawValue::from_string(message.content);
        let content = content.map_err(|_| {
            StoreError::corrupt("to_device", &message.position.to_be_bytes(), "the content is not JSON")
        })?;
        let event = Event { sender: message.sender, kind: message.event_type, content };
        events.push(to_raw_value(&event).expect("texts and JSON have a JSON text"));
    }
    Ok((events, until))
}
