//! Whom an event concerns: the servers that are in its room before and after it.
//!
//! What is read of the room is its present, in which servers may have come or gone since the event. Who came since then is
//! not told of it, because it may not be theirs to see; who went is.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedServerName, ServerName, UserId};
use serde::{Deserialize, de::IgnoredAny};

use super::edus::is_own;
use crate::{
    base::{
        ids::{RoomNumber, ServerNumber, StateRoot, UserNumber},
        limits,
    },
    room::{acl, graph::State},
    store::{
        StoreError, View,
        events::{Header, INDEX_SERVERS, Logged, Membership},
    },
};

/// Whose events this server sends to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A user of its own.
    Own,
    /// Somebody of this server who came or went through this one, which vouched for that: the others don't hear of it
    /// otherwise.
    Guest(OwnedServerName),
}

/// Who sent an event, if it is this server's to send.
pub(super) fn sender(
    view: &View<'_>,
    own: &ServerName,
    event: &Logged,
) -> Result<Option<Sender>, StoreError> {
    let header = &event.header;
    let user_id = view.user_id(header.sender)?;
    if is_own(&user_id, own) {
        return Ok(Some(Sender::Own));
    }
    if !matches!(header.membership, Some(Membership::Join | Membership::Leave | Membership::Knock)) {
        return Ok(None);
    }
    let pdu = view.event(header.room, event.number)?.pdu;
    let is_guest = pdu.state_key() == Some(user_id.as_str()) && is_signed_by(own, pdu.json());
    Ok(is_guest.then(|| Sender::Guest(user_id.server_name().to_owned())))
}

fn is_signed_by(server: &ServerName, json: &str) -> bool {
    #[derive(Deserialize)]
    struct Signed {
        #[serde(default)]
        signatures: BTreeMap<String, IgnoredAny>,
    }
    serde_json::from_str::<Signed>(json).is_ok_and(|event| event.signatures.contains_key(server.as_str()))
}

/// The servers in the rooms that were looked at last, for as long as the states of these stay.
#[derive(Default)]
pub(super) struct Rooms(Mutex<VecDeque<Known>>);

struct Known {
    room: RoomNumber,
    state: StateRoot,
    servers: Arc<BTreeSet<OwnedServerName>>,
}

impl Rooms {
    /// The servers that are in a room now, by its state.
    fn joined(
        &self,
        view: &View<'_>,
        room: RoomNumber,
        state: StateRoot,
    ) -> Result<Arc<BTreeSet<OwnedServerName>>, StoreError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|known| (known.room, known.state) == (room, state)) {
            return Ok(known.servers.clone());
        }
        drop(known);
        let servers = Arc::new(joined(view, room)?);
        // While members are still noted by their servers, there are more than are found.
        if view.first_task(INDEX_SERVERS)?.is_none() {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|known| known.room != room);
            known.push_back(Known { room, state, servers: servers.clone() });
            if known.len() > limits::SENDING_ROOMS {
                known.pop_front();
            }
        }
        Ok(servers)
    }
}

/// The servers to which an event goes that is this server's to send.
pub(super) fn audience(
    view: &View<'_>,
    (own, rooms): (&ServerName, &Rooms),
    (event, sender): (&Logged, &Sender),
) -> Result<Vec<OwnedServerName>, StoreError> {
    let (room, header) = (event.header.room, &event.header);
    let record = view.room(room)?;
    let mut servers = (*rooms.joined(view, room, record.state)?).clone();
    let mut came: BTreeMap<OwnedServerName, BTreeSet<UserNumber>> = BTreeMap::new();
    let before = header.state_before.unwrap_or(record.state);
    view.state_difference(room, before, record.state, |key, was, is| {
        let is_join = |number: Option<_>| -> Result<bool, StoreError> {
            let header = number.map(|number| view.header(room, number)).transpose()?;
            Ok(header.is_some_and(|header| header.membership == Some(Membership::Join)))
        };
        let (was, is) = (is_join(was)?, is_join(is)?);
        if was == is {
            return Ok(());
        }
        let name = view.key_name(room, key)?;
        let user_id = name.state_key.as_deref().and_then(|id| <&UserId>::try_from(id).ok());
        let Some(user_id) = user_id else { return Ok(()) };
        let server = user_id.server_name().to_owned();
        if was {
            servers.insert(server);
        } else if let Some(user) = view.user_number(user_id)? {
            came.entry(server).or_default().insert(user);
        }
        Ok(())
    })?;
    for (server, users) in came {
        if !has_other_member(view, room, &server, &users)? {
            servers.remove(&server);
        }
    }
    servers.extend(target(view, event)?);
    servers.remove(own);
    if let Sender::Guest(server) = sender {
        servers.remove(server);
    }
    admitted(view, room, record.state, &mut servers)?;
    Ok(servers.into_iter().collect())
}

/// The servers that are in a room now.
fn joined(view: &View<'_>, room: RoomNumber) -> Result<BTreeSet<OwnedServerName>, StoreError> {
    let (mut servers, mut from) = (BTreeSet::new(), Some(ServerNumber::default()));
    while let Some(begin) = from {
        let page = view.servers_joined(room, begin, limits::SERVERS_STEP)?;
        servers.extend(page.0);
        from = page.1;
    }
    Ok(servers)
}

/// The same without this one and those whom the room keeps out.
pub(super) fn listeners(
    view: &View<'_>,
    (own, rooms): (&ServerName, &Rooms),
    room: RoomNumber,
) -> Result<Vec<OwnedServerName>, StoreError> {
    let state = view.room(room)?.state;
    let mut servers = (*rooms.joined(view, room, state)?).clone();
    servers.remove(own);
    if !servers.is_empty() {
        admitted(view, room, state, &mut servers)?;
    }
    Ok(servers.into_iter().collect())
}

/// The servers, but this one, with whose users somebody shares a room.
pub(super) fn acquainted(
    view: &View<'_>,
    own: &ServerName,
    user: UserNumber,
) -> Result<BTreeSet<OwnedServerName>, StoreError> {
    let mut servers = BTreeSet::new();
    for room in view.joined_rooms(user) {
        servers.extend(joined(view, room?)?);
    }
    servers.remove(own);
    Ok(servers)
}

/// Whether somebody shares a room with users of a server.
pub(super) fn knows(view: &View<'_>, user: UserNumber, server: &ServerName) -> Result<bool, StoreError> {
    for room in view.joined_rooms(user) {
        if view.is_server_joined(room?, server)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an event that is this server's to send is for a server, which may have come or gone since then.
pub(super) fn concerns(
    view: &View<'_>,
    server: &ServerName,
    (event, sender): (&Logged, &Sender),
) -> Result<bool, StoreError> {
    let room = event.header.room;
    if matches!(sender, Sender::Guest(origin) if origin == server) {
        return Ok(false);
    }
    if !was_in(view, server, room, event.header.state_before)?
        && target(view, event)?.is_none_or(|target| target != server)
    {
        return Ok(false);
    }
    acl::allows(server, &State::stored(view.room(room)?.state), &view.graph(room))
}

/// Whether a user of a server was in a room in a state of it, as far as that is found out.
fn was_in(
    view: &View<'_>,
    server: &ServerName,
    room: RoomNumber,
    state: Option<StateRoot>,
) -> Result<bool, StoreError> {
    let (Some(number), Some(state)) = (view.server_number(server)?, state) else { return Ok(false) };
    for membership in [Membership::Join, Membership::Leave, Membership::Ban] {
        for user in view.members_of_server(room, number, membership).take(limits::CATCH_UP_USERS) {
            if is_joined_in(view, room, state, user?)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_joined_in(
    view: &View<'_>,
    room: RoomNumber,
    state: StateRoot,
    user: UserNumber,
) -> Result<bool, StoreError> {
    let event = view.state_event(room, state, "m.room.member", view.user_id(user)?.as_str())?;
    let header = event.map(|number| view.header(room, number)).transpose()?;
    Ok(header.is_some_and(|header| header.membership == Some(Membership::Join)))
}

/// Whether by an event of its sender that one comes into the room, and doesn't just show another name there.
pub(super) fn is_arrival(view: &View<'_>, header: &Header) -> Result<bool, StoreError> {
    if header.membership != Some(Membership::Join) {
        return Ok(false);
    }
    match header.state_before {
        Some(state) => Ok(!is_joined_in(view, header.room, state, header.sender)?),
        None => Ok(true),
    }
}

/// The server of whoever is sent out of a room by an event, or no longer invited.
fn target(view: &View<'_>, event: &Logged) -> Result<Option<OwnedServerName>, StoreError> {
    let Header { room, key, membership, .. } = event.header;
    if !matches!(membership, Some(Membership::Leave | Membership::Ban)) {
        return Ok(None);
    }
    let name = view.key_name(room, key)?;
    let user_id = name.state_key.as_deref().and_then(|id| <&UserId>::try_from(id).ok());
    Ok(user_id.map(|user_id| user_id.server_name().to_owned()))
}

fn has_other_member(
    view: &View<'_>,
    room: RoomNumber,
    server: &ServerName,
    users: &BTreeSet<UserNumber>,
) -> Result<bool, StoreError> {
    let Some(server) = view.server_number(server)? else { return Ok(false) };
    for user in view.members_of_server(room, server, Membership::Join) {
        if !users.contains(&user?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn admitted(
    view: &View<'_>,
    room: RoomNumber,
    state: StateRoot,
    servers: &mut BTreeSet<OwnedServerName>,
) -> Result<(), StoreError> {
    if let Some(list) = acl::list(&State::stored(state), &view.graph(room))? {
        servers.retain(|server| acl::list_allows(&list, server));
    }
    Ok(())
}
