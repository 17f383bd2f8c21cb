//! Writes what changed as an answer of `/sync`.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId,
    api::client::sync::sync_events::v3::RoomSummary,
    events::{AnyStrippedStateEvent, AnySyncTimelineEvent},
    serde::Raw,
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    answer::{
        Events, InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Response, State, Timeline, UnreadCounts,
    },
    delta::{RoomDelta, delta},
    device_lists::{DeviceLists, device_lists, everybody},
    plan::{Change, Kind, Plan, Query, StateAs, plan},
    presence,
    unlogged::Unlogged,
};
use crate::{
    base::{
        ids::{EventNumber, Position, RoomNumber},
        limits,
    },
    room::{
        filter::{self, Subject},
        format,
        visibility::VisibleEvent,
    },
    service::{
        ignored::ignored,
        invite_permission::{self, blocks_invites},
        keys,
        notifying::{Allowance, MAIN},
        push_rules,
        read::{
            page,
            reader::{Onlooker, Reader},
            token::SyncToken,
        },
        receipts,
        typing::TypingNews,
        unread::{self, Counted},
    },
    store::{
        AccountData, Receipt, StoreError, Topic, View,
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
    /// Whether messages are kept that the device has.
    pub has_delivered: bool,
    /// Whether it tells of something that the device itself sent.
    pub has_echo: bool,
    /// What is new to the user in rooms, to be kept.
    pub counted: Vec<Counted>,
}

/// Answers a query as of a view.
pub fn answer(view: &View<'_>, query: &Query, unlogged: &Unlogged) -> Result<Answer, StoreError> {
    let typing = &unlogged.typing;
    let mut data = account_data(view, query)?;
    let mut global = data.remove(&None).unwrap_or_default();
    let mut rooms: HashMap<OwnedRoomId, Vec<Data>> =
        data.into_iter().filter_map(|(room_id, data)| Some((room_id?, data))).collect();
    let mut receipts = new_receipts(view, query)?;
    let mut touched: HashSet<_> = receipts.keys().chain(typing.rooms.keys()).copied().collect();
    if typing.restarted {
        for room in view.joined_rooms(query.onlooker.user) {
            touched.insert(room?);
        }
    }
    for room_id in rooms.keys() {
        touched.extend(view.room_number(room_id)?);
    }
    let blocks_invites = blocks_invites(view, &query.onlooker.user_id)?;
    // Whoever blocked them wasn't told.
    let invited_again = !blocks_invites && global.iter().any(|data| data.kind == invite_permission::TYPE);
    let Plan { changes, mut topics, company } = plan(view, query, &touched, invited_again)?;

    let mut response = Response::default();
    let mut next = to_device(view, query, &mut response.to_device)?;
    if query.since.is_none() && global.iter().all(|data| data.kind != push_rules::TYPE) {
        let Onlooker { user, user_id, .. } = &query.onlooker;
        let content = RawValue::from_string(push_rules::content(view, *user, user_id)?);
        global.extend(content.ok().map(|content| Data { kind: push_rules::TYPE.to_owned(), content }));
    }
    response.account_data.events = global
        .into_iter()
        .filter(|data| {
            let subject = Subject { event_type: &data.kind, sender: None, has_url: false };
            filter::admits_global(&query.filter.account_data, subject)
        })
        .map(Data::write)
        .collect();
    let (mut counted, mut allowance) = (Vec::new(), Allowance::default());
    let ignored = ignored(view, query.onlooker.user)?;
    for change in changes {
        let room_id = view.room_id(change.access.room)?;
        let data = match change.kind {
            // What the user attached to the room while they were not in it was not told.
            Kind::Joined { since: None } if query.since.is_some() => {
                let data = view.account_data_of_room(query.onlooker.user, room_id.as_str())?;
                data.into_iter().map(Data::of).collect::<Result<_, _>>()?
            }
            _ => rooms.remove(&room_id).unwrap_or_default(),
        };
        let data = data.into_iter().filter(|data| {
            let subject = Subject { event_type: &data.kind, sender: None, has_url: false };
            filter::admits_event(&query.filter.room.account_data, subject)
        });
        let data: Vec<_> = data.map(Data::write).collect();
        let section = &mut response.rooms;
        match change.kind {
            Kind::Joined { since } => {
                let number = change.access.room;
                let mut room = joined(view, query, &change, since)?;
                room.account_data.events = data;
                let receipts = match since {
                    Some(_) => receipts.remove(&number).unwrap_or_default(),
                    None => view.receipts_of_room(number, limits::RECEIPTS)?,
                };
                room.ephemeral.events = receipt_events(view, query, receipts)?;
                room.ephemeral.events.extend(typing_event(view, query, number, since, typing)?);
                counted.push(unread(view, query, number, &mut room, &mut allowance)?);
                if since.is_none() || !room.is_empty() {
                    section.join.insert(room_id, room);
                }
            }
            Kind::Left { since, by } => {
                let mut room = left(view, query, &change, (since, by))?;
                room.account_data.events = data;
                section.leave.insert(room_id, room);
            }
            // An invitation that the user doesn't want, or by somebody whom they ignore, is none.
            Kind::Pending(stay) if stay.membership == Membership::Invite && blocks_invites => {}
            Kind::Pending(stay) if is_by_ignored(view, &change, stay, &ignored)? => {}
            Kind::Pending(stay) => {
                let events = stripped_state(view, &change, stay)?;
                if stay.membership == Membership::Invite {
                    section.invite.insert(room_id, InvitedRoom { invite_state: events });
                } else {
                    section.knock.insert(room_id, KnockedRoom { knock_state: events });
                }
            }
        }
    }
    response.device_lists = match query.since {
        Some(since) => device_lists(view, query.onlooker.user, since)?,
        None if query.lost => everybody(view, query.onlooker.user)?,
        None => DeviceLists::default(),
    };
    let near = (&company, &*response.device_lists.met);
    let presence = presence::tell(view, query, &unlogged.presence, near, &ignored)?;
    topics.extend(presence.topics);
    response.presence.events = presence.events;
    next.heard = presence.until.unwrap_or(unlogged.heard);
    response.next_batch = next.to_string();
    response.device_one_time_keys_count = keys::counts(view, query.onlooker.device)?;
    response.device_unused_fallback_key_types = keys::unused_fallback_keys(view, query.onlooker.device)?;
    let is_empty = response.rooms.is_empty()
        && response.account_data.is_empty()
        && response.to_device.is_empty()
        && response.device_lists.is_empty()
        && !presence.is_news;
    let has_delivered = view.has_to_device(query.onlooker.device, query.to_device)?;
    let has_echo = response.rooms.join.values().any(|room| room.timeline.has_echo);
    Ok(Answer { response, topics, is_empty, has_delivered, has_echo, counted })
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
    let mut summary = RoomSummary::new();
    if let Some(counted) = &delta.summary {
        summary.heroes.clone_from(&counted.heroes);
        summary.joined_member_count = Some(counted.joined.into());
        summary.invited_member_count = Some(counted.invited.into());
    }
    // A room in which only something else changed has no timeline to tell of.
    let is_still = since.is_some() && delta.timeline.is_empty() && !delta.limited;
    let timeline = if is_still { Timeline::default() } else { writer.timeline(&delta)? };
    Ok(JoinedRoom {
        summary,
        state: writer.state(&delta)?,
        timeline,
        ephemeral: Events::default(),
        account_data: Events::default(),
        unread_notifications: UnreadCounts::default(),
        unread_thread_notifications: BTreeMap::new(),
    })
}

fn left(
    view: &View<'_>,
    query: &Query,
    change: &Change,
    (since, by): (Option<Position>, EventNumber),
) -> Result<LeftRoom, StoreError> {
    let graph = view.graph(change.access.room);
    let mut reader = Reader::new(view, &graph, &change.access, &query.onlooker);
    let mut delta = delta(view, &change.access, &mut reader, query, since)?;
    let mut told = delta.timeline.iter().chain(&delta.state);
    // Whoever was not in the room may see nothing of it, and yet has to learn that an invitation is gone.
    if told.all(|event| event.number() != by)
        && let Some(event) = reader.own_membership(by)?
    {
        let filter = &query.filter.room;
        if query.state != StateAs::Before && page::admits(&filter.state, event.pdu()) {
            delta.state.push(event.clone());
        }
        if page::admits(&filter.timeline, event.pdu()) {
            delta.timeline.push(event);
        }
    }
    let writer = Writer { reader: &reader, query };
    let (state, timeline) = (writer.state(&delta)?, writer.timeline(&delta)?);
    Ok(LeftRoom { state, timeline, account_data: Events::default() })
}

fn is_by_ignored(
    view: &View<'_>,
    change: &Change,
    stay: Stay,
    ignored: &HashSet<OwnedUserId>,
) -> Result<bool, StoreError> {
    if ignored.is_empty() || stay.membership != Membership::Invite {
        return Ok(false);
    }
    let sender = view.header(change.access.room, stay.event)?.sender;
    Ok(ignored.contains(&view.user_id(sender)?))
}

/// The state that shows somebody what they are invited to or knock at.
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
fn stripped_state(view: &View<'_>, change: &Change, stay: Stay) -> Result<Events, StoreError> {
    let room = change.access.room;
    let root = view.header(room, stay.event)?.state_before.unwrap_or_default();
    let mut shown = Vec::new();
    for kind in format::STRIPPED_STATE {
        shown.extend(view.state_event(room, root, kind, "")?);
    }
    shown.push(stay.event);
    let mut events = Vec::new();
    for number in shown {
        let event = view.event(room, number)?.shown(change.access.record.version);
        events.extend(format::stripped::<AnyStrippedStateEvent>(&event).map(Raw::into_json));
    }
    Ok(Events { events })
}

/// Writes events as the query wants them.
struct Writer<'a, 'v> {
    reader: &'a Reader<'v>,
    query: &'a Query,
}

impl Writer<'_, '_> {
    fn state(&self, delta: &RoomDelta) -> Result<State, StoreError> {
        let events = Events { events: self.events(&delta.state, false)? };
        Ok(match self.query.state {
            StateAs::Before => State::Before(events),
            StateAs::After => State::After(events),
            StateAs::AfterByOlderName => State::AfterByOlderName(events),
        })
    }

    fn timeline(&self, delta: &RoomDelta) -> Result<Timeline, StoreError> {
        // Who is told all that happened sums it up, and does so already.
        let events = self.events(&delta.timeline, delta.limited)?;
        let has_echo = self.reader.wrote_echo();
        let prev_batch = Some(delta.prev_batch.to_string());
        Ok(Timeline { events, limited: delta.limited, prev_batch, has_echo })
    }

    fn events(&self, events: &[VisibleEvent], bundled: bool) -> Result<Vec<Box<RawValue>>, StoreError> {
        let write = |event| self.reader.write_in_room::<AnySyncTimelineEvent>(event, bundled);
        events.iter().map(|event| Ok(self.selected(write(event)?.into_json()))).collect()
    }

    /// Leaves only the fields that the filter asks for.
    fn selected(&self, event: Box<RawValue>) -> Box<RawValue> {
        let Some(fields) = &self.query.filter.event_fields else { return event };
        let whole: Value = serde_json::from_str(event.get()).unwrap_or_default();
        to_raw_value(&filter::select_fields(&whole, fields)).expect("JSON has a text")
    }
}

/// The receipts since the last answer that the user may see, by room.
fn new_receipts(view: &View<'_>, query: &Query) -> Result<HashMap<RoomNumber, Vec<Receipt>>, StoreError> {
    let mut by_room: HashMap<RoomNumber, Vec<Receipt>> = HashMap::new();
    let Some(since) = query.since else { return Ok(by_room) };
    for receipt in view.receipts_since(since)? {
        if receipt.kind == receipts::READ || receipt.user == query.onlooker.user {
            by_room.entry(receipt.room).or_default().push(receipt);
        }
    }
    Ok(by_room)
}

/// Writes receipts as one event a thread: within an event, one user has one receipt of a type.
/// <https://spec.matrix.org/v1.19/client-server-api/#mreceipt>
fn receipt_events(
    view: &View<'_>,
    query: &Query,
    receipts: Vec<Receipt>,
) -> Result<Vec<Box<RawValue>>, StoreError> {
    let subject = Subject { event_type: "m.receipt", sender: None, has_url: false };
    if !filter::admits_event(&query.filter.room.ephemeral, subject) {
        return Ok(Vec::new());
    }
    let mut by_thread: BTreeMap<String, Value> = BTreeMap::new();
    for receipt in receipts {
        if receipt.kind != receipts::READ && receipt.user != query.onlooker.user {
            continue;
        }
        let mut told = json!({"ts": receipt.sent_at.0});
        if !receipt.thread.is_empty() {
            told["thread_id"] = json!(receipt.thread);
        }
        let content = by_thread.entry(receipt.thread).or_insert_with(|| json!({}));
        content[receipt.event_id][receipt.kind][view.user_id(receipt.user)?.as_str()] = told;
    }
    let events = by_thread.into_values().map(|content| json!({"type": "m.receipt", "content": content}));
    Ok(events.map(|event| to_raw_value(&event).expect("JSON has a text")).collect())
}

/// Writes who is typing in a room, if that is news.
fn typing_event(
    view: &View<'_>,
    query: &Query,
    room: RoomNumber,
    since: Option<Position>,
    typing: &TypingNews,
) -> Result<Option<Box<RawValue>>, StoreError> {
    let subject = Subject { event_type: "m.typing", sender: None, has_url: false };
    if !filter::admits_event(&query.filter.room.ephemeral, subject) {
        return Ok(None);
    }
    let users = match typing.rooms.get(&room) {
        Some(users) => users.as_slice(),
        None if typing.restarted => &[],
        None => return Ok(None),
    };
    // Who knows nothing yet need not hear that nobody types.
    if since.is_none() && users.is_empty() {
        return Ok(None);
    }
    let users: Vec<_> = users.iter().map(|user| view.user_id(*user)).collect::<Result<_, _>>()?;
    let event = json!({"type": "m.typing", "content": {"user_ids": users}});
    Ok(Some(to_raw_value(&event).expect("JSON has a text")))
}

/// Writes what is new to the user in a room.
fn unread(
    view: &View<'_>,
    query: &Query,
    number: RoomNumber,
    room: &mut JoinedRoom,
    allowance: &mut Allowance,
) -> Result<Counted, StoreError> {
    let counted = unread::unread(view, number, &query.onlooker, allowance)?;
    let apart = query.filter.room.timeline.unread_thread_notifications;
    for (thread, counts) in &counted.unread.counts {
        if apart && thread != MAIN {
            room.unread_thread_notifications.insert(thread.clone(), (*counts).into());
        } else {
            room.unread_notifications.notification_count += counts.notifications;
            room.unread_notifications.highlight_count += counts.highlights;
        }
    }
    Ok(counted)
}

/// Writes the messages that wait for the device; where the next request goes on leaves out none of the others.
fn to_device(view: &View<'_>, query: &Query, into: &mut Events) -> Result<SyncToken, StoreError> {
    #[derive(serde::Serialize)]
    struct Event {
        sender: String,
        #[serde(rename = "type")]
        kind: String,
        content: Box<RawValue>,
    }
    let mut next = SyncToken::at(view.position());
    let (messages, more) = view.to_device_since(query.onlooker.device, query.to_device)?;
    if let (Some(last), true) = (messages.last(), more) {
        next.to_device = last.position;
    }
    for message in messages {
        let content = RawValue::from_string(message.content);
        let content = content.map_err(|_| {
            StoreError::corrupt("to_device", &message.position.to_be_bytes(), "the content is not JSON")
        })?;
        let event = Event { sender: message.sender, kind: message.event_type, content };
        into.events.push(to_raw_value(&event).expect("texts and JSON have a JSON text"));
    }
    Ok(next)
}

/// A piece of account data.
struct Data {
    kind: String,
    content: Box<RawValue>,
}

impl Data {
    fn of(data: AccountData) -> Result<Self, StoreError> {
        let content = RawValue::from_string(data.content);
        let content = content
            .map_err(|_| StoreError::corrupt("account_data", data.event_type.as_bytes(), "not JSON"))?;
        Ok(Self { kind: data.event_type, content })
    }

    fn write(self) -> Box<RawValue> {
        #[derive(serde::Serialize)]
        struct Event {
            #[serde(rename = "type")]
            kind: String,
            content: Box<RawValue>,
        }
        let event = Event { kind: self.kind, content: self.content };
        to_raw_value(&event).expect("a text and JSON have a JSON text")
    }
}

/// What changed of the account's data, by room; what is of no room has none.
fn account_data(
    view: &View<'_>,
    query: &Query,
) -> Result<BTreeMap<Option<OwnedRoomId>, Vec<Data>>, StoreError> {
    let mut changed: BTreeMap<Option<OwnedRoomId>, Vec<Data>> = BTreeMap::new();
    for data in view.account_data_since(query.onlooker.user, query.since.unwrap_or_default())? {
        let room_id = data.room_id.as_deref().and_then(|id| <&RoomId>::try_from(id).ok());
        changed.entry(room_id.map(ToOwned::to_owned)).or_default().push(Data::of(data)?);
    }
    Ok(changed)
}
