//! The rooms of the server as its operator sees them: what they are and who is in them, never what is said there.

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, RoomId, RoomOrAliasId,
    events::{
        StateEventType,
        room::{
            canonical_alias::RoomCanonicalAliasEventContent, encryption::RoomEncryptionEventContent,
            history_visibility::RoomHistoryVisibilityEventContent, join_rules::RoomJoinRulesEventContent,
            name::RoomNameEventContent, topic::RoomTopicEventContent,
        },
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::OperatorError;
use crate::{
    base::{ids::RoomNumber, limits},
    service::App,
    store::{
        StoreError, View,
        events::{Membership, RoomRecord},
    },
};

/// A room in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListedRoom {
    pub room_id: OwnedRoomId,
    pub version: String,
    pub name: Option<String>,
    pub canonical_alias: Option<OwnedRoomAliasId>,
    pub joined: u32,
    pub invited: u32,
    /// Where the log stood at its newest event.
    pub newest: u64,
}

/// A room alone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Room {
    #[serde(flatten)]
    pub listed: ListedRoom,
    pub topic: Option<String>,
    /// Of this server.
    pub aliases: Vec<OwnedRoomAliasId>,
    pub join_rule: Option<String>,
    pub history_visibility: Option<String>,
    /// The algorithm; none: messages can be read by the server.
    pub encryption: Option<String>,
    /// Entries of its state.
    pub state: u32,
    /// The newest events that no event follows.
    pub extremities: usize,
    /// The first [`limits::LISTED_MEMBERS`] who are joined.
    pub members: Vec<String>,
}

/// Rooms in the order in which the server came to know them, [`limits::LISTED_ROOMS`] at a time, after the given one.
pub(super) async fn list(app: &App, after: Option<OwnedRoomId>) -> Result<Vec<ListedRoom>, OperatorError> {
    let read = move |view: &View<'_>| {
        let after = match after {
            Some(after) => view.room_number(&after)?.ok_or(OperatorError::NoSuchRoom)?,
            None => RoomNumber::default(),
        };
        let rooms = view.rooms_after(after).take(limits::LISTED_ROOMS);
        let rooms = rooms.map(|room| room.and_then(|(room, record)| listed(view, room, &record)));
        Ok(rooms.collect::<Result<_, _>>()?)
    };
    app.store.read(read).await
}

/// One room, by its id or a local alias.
pub(super) async fn show(app: &App, room: String) -> Result<Room, OperatorError> {
    let read = move |view: &View<'_>| {
        let number = find(view, &room)?.ok_or(OperatorError::NoSuchRoom)?;
        Ok(shown(view, number)?)
    };
    app.store.read(read).await
}

fn find(view: &View<'_>, room: &str) -> Result<Option<RoomNumber>, StoreError> {
    match <&RoomOrAliasId>::try_from(room).map(<&RoomId>::try_from) {
        Ok(Ok(id)) => view.room_number(id),
        Ok(Err(alias)) => Ok(view.alias(alias)?.map(|(room, _)| room)),
        Err(_) => Ok(None),
    }
}

fn listed(view: &View<'_>, room: RoomNumber, record: &RoomRecord) -> Result<ListedRoom, StoreError> {
    let name = content::<RoomNameEventContent>(view, room, record, StateEventType::RoomName)?;
    let alias = StateEventType::RoomCanonicalAlias;
    let alias = content::<RoomCanonicalAliasEventContent>(view, room, record, alias)?;
    Ok(ListedRoom {
        room_id: view.room_id(room)?,
        version: record.version.id().to_string(),
        name: name.map(|name| name.name),
        canonical_alias: alias.and_then(|alias| alias.alias),
        joined: record.joined,
        invited: record.invited,
        newest: record.newest.0,
    })
}

fn shown(view: &View<'_>, room: RoomNumber) -> Result<Room, StoreError> {
    let record = view.room(room)?;
    let topic = content::<RoomTopicEventContent>(view, room, &record, StateEventType::RoomTopic)?;
    let rule = content::<RoomJoinRulesEventContent>(view, room, &record, StateEventType::RoomJoinRules)?;
    let visibility = StateEventType::RoomHistoryVisibility;
    let visibility = content::<RoomHistoryVisibilityEventContent>(view, room, &record, visibility)?;
    let encryption = StateEventType::RoomEncryption;
    let encryption = content::<RoomEncryptionEventContent>(view, room, &record, encryption)?;
    let members = view.members(room, Membership::Join).take(limits::LISTED_MEMBERS);
    let members = members.map(|user| Ok(view.user_id(user?)?.to_string()));
    Ok(Room {
        listed: listed(view, room, &record)?,
        topic: topic.map(|topic| topic.topic),
        aliases: view.aliases(room).collect::<Result<_, _>>()?,
        join_rule: rule.map(|rule| rule.join_rule.as_str().to_owned()),
        history_visibility: visibility.map(|visibility| visibility.history_visibility.to_string()),
        encryption: encryption.map(|encryption| encryption.algorithm.to_string()),
        state: view.state_len(room, record.state)?,
        extremities: record.extremities.len(),
        members: members.collect::<Result<_, StoreError>>()?,
    })
}

/// What a state event of the room says now; none if there is none, or it says something else than it should.
fn content<T: DeserializeOwned>(
    view: &View<'_>,
    room: RoomNumber,
    record: &RoomRecord,
    kind: StateEventType,
) -> Result<Option<T>, StoreError> {
    match view.state_event(room, record.state, &kind.to_string(), "")? {
        Some(number) => Ok(view.event(room, number)?.shown(record.version).content_as()),
        None => Ok(None),
    }
}
