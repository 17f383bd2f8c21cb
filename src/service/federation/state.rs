//! The state of a room before an event, and what permits it.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};

use super::{
    access::{PeerError, enter},
    chain::{Seeds, chain},
    handshake::Taken,
    pdus::{Form, Pdus, Source},
};
use crate::{
    base::{
        ids::{EventNumber, RoomNumber, StateRoot, UserNumber},
        limits,
    },
    room::version::Version,
    service::App,
    store::{StoreError, View, events::Membership},
};

/// A state and the events that permit those of it.
#[derive(Debug)]
pub struct Told {
    pub state: Pdus,
    pub auth_chain: Pdus,
}

/// The same for a server whose user has just joined.
#[derive(Debug)]
pub struct Joined {
    pub told: Told,
    /// Whether members were left out.
    pub members_omitted: bool,
    /// The servers whose users were in the room before.
    pub servers: Vec<OwnedServerName>,
}

/// The state before an event.
///
/// # Errors
/// The server may not ask, or the state is not known.
pub async fn before(
    app: &App,
    server: OwnedServerName,
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
    form: Form,
) -> Result<Told, PeerError> {
    let read = move |view: &View<'_>| {
        let (room, record) = enter(view, &room_id, &server)?;
        let number = view.event_number(room, &event_id)?.ok_or(PeerError::UnknownEvent)?;
        let root = view.header(room, number)?.state_before.ok_or(PeerError::UnknownEvent)?;
        Ok::<_, PeerError>(((room, record.version), root))
    };
    let (room, root) = app.store.read(read).await?;
    let chain = chain(app, room.0, Seeds { events: Vec::new(), state: Some(root) }).await?;
    Ok(told(room, Source::State { root, after: None }, chain, form))
}

/// What permits an event.
///
/// # Errors
/// The server may not ask, or there is no such event.
pub async fn permission(
    app: &App,
    server: OwnedServerName,
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
) -> Result<Pdus, PeerError> {
    let read = move |view: &View<'_>| {
        let (room, record) = enter(view, &room_id, &server)?;
        let number = view.event_number(room, &event_id)?.ok_or(PeerError::UnknownEvent)?;
        Ok::<_, PeerError>(((room, record.version), number))
    };
    let (room, number) = app.store.read(read).await?;
    let chain = chain(app, room.0, Seeds { events: vec![number], state: None }).await?;
    Ok(Pdus::new(room, Source::Events(chain.into_iter()), Form::Whole))
}

/// What a server needs to take part whose user has just joined; without members if it can do without.
///
/// # Errors
/// The chain is too large.
pub async fn joined(app: &App, taken: &Taken, without_members: bool) -> Result<Joined, PeerError> {
    let Taken { room, number, .. } = *taken;
    let read = move |view: &View<'_>| {
        let version = view.room(room)?.version;
        let header = view.header(room, number)?;
        let root = header.state_before.ok_or(PeerError::UnknownEvent)?;
        let mut servers = view.servers_joined(room, limits::SERVERS_TOLD)?;
        if is_first(view, room, header.sender)? {
            let server = view.user_id(header.sender)?.server_name().to_owned();
            servers.retain(|joined| *joined != server);
        }
        let without_members = match without_members {
            true => Some(reduced(view, (room, root), header.sender)?),
            false => None,
        };
        Ok::<_, PeerError>((version, root, servers, without_members))
    };
    let (version, root, servers, reduced) = app.store.read(read).await?;
    let (seeds, state) = match reduced {
        Some(events) => {
            let seeds = Seeds { events: [&[number], &events[..]].concat(), state: None };
            (seeds, Source::Events(events.into_iter()))
        }
        None => (Seeds { events: vec![number], state: Some(root) }, Source::State { root, after: None }),
    };
    let chain = chain(app, room, seeds).await?;
    let told = told((room, version), state, chain, Form::Whole);
    Ok(Joined { told, members_omitted: without_members, servers })
}

/// Whether nobody else of a member's server is in the room.
fn is_first(view: &View<'_>, room: RoomNumber, member: UserNumber) -> Result<bool, StoreError> {
    let Some(server) = view.server_number(view.user_id(member)?.server_name())? else { return Ok(true) };
    let mut others = view.members_of_server(room, server, Membership::Join);
    Ok(others.all(|other| matches!(other, Ok(other) if other == member)))
}

/// The events of a state but for members, of whom those stay by whom a room without a name is called.
/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>
fn reduced(
    view: &View<'_>,
    (room, root): (RoomNumber, StateRoot),
    joining: UserNumber,
) -> Result<Vec<EventNumber>, StoreError> {
    let mut events = Vec::new();
    for entry in view.state(room, root) {
        let (_, number) = entry?;
        if view.header(room, number)?.membership.is_none() {
            events.push(number);
        }
    }
    let names = |kind| view.state_event(room, root, kind, "");
    if names("m.room.name")?.is_none() && names("m.room.canonical_alias")?.is_none() {
        let members = view.members(room, Membership::Join).chain(view.members(room, Membership::Invite));
        let heroes = members.filter(|member| !matches!(member, Ok(member) if *member == joining));
        for hero in heroes.take(limits::HEROES) {
            let hero = view.user_id(hero?)?;
            events.extend(view.state_event(room, root, "m.room.member", hero.as_str())?);
        }
    }
    Ok(events)
}

fn told(room: (RoomNumber, Version), state: Source, chain: Vec<EventNumber>, form: Form) -> Told {
    Told {
        state: Pdus::new(room, state, form),
        auth_chain: Pdus::new(room, Source::Events(chain.into_iter()), form),
    }
}
