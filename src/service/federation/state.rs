//! The state of a room before an event, and what permits it.
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, UserId};

use super::{
    access::{PeerError, enter},
    chain::{Seeds, chain},
    pdus::{Form, Pdus, Source},
};
use crate::{
    base::{
        ids::{EventNumber, RoomNumber, ServerNumber, StateRoot},
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
    let name = server.clone();
    let read = move |view: &View<'_>| {
        let (room, record) = enter(view, &room_id, &name)?;
        let number = view.event_number(room, &event_id)?.ok_or(PeerError::UnknownEvent)?;
        let root = view.header(room, number)?.state_before.ok_or(PeerError::UnknownEvent)?;
        Ok::<_, PeerError>(((room, record.version), root))
    };
    let (room, root) = app.store.read(read).await?;
    let chain = chain(app, &server, room.0, Seeds { state: Some(root), ..Seeds::default() }).await?;
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
    let name = server.clone();
    let read = move |view: &View<'_>| {
        let (room, record) = enter(view, &room_id, &name)?;
        let number = view.event_number(room, &event_id)?.ok_or(PeerError::UnknownEvent)?;
        Ok::<_, PeerError>(((room, record.version), number))
    };
    let (room, number) = app.store.read(read).await?;
    let chain = chain(app, &server, room.0, Seeds { events: vec![number], ..Seeds::default() }).await?;
    Ok(Pdus::new(room, Source::Events(chain, 0), Form::Whole))
}

/// What an event of a room follows.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub room: RoomNumber,
    pub version: Version,
    /// The state before it.
    pub root: StateRoot,
    /// The events that permit it.
    pub permissions: Vec<EventNumber>,
}

/// What a server needs to take part whose user joins by an event with this past; without members if it can do without.
///
/// # Errors
/// The chain is too large, or the server waits for another one.
pub(super) async fn joined(
    app: &App,
    server: &ServerName,
    past: &Past,
    joining: &UserId,
    without_members: bool,
) -> Result<Joined, PeerError> {
    let Past { room, version, root, ref permissions } = *past;
    let (mut seeds, mut servers) =
        (Seeds { permissions: permissions.clone(), ..Seeds::default() }, Vec::new());
    let state = if without_members {
        servers = servers_joined(app, room).await?;
        seeds.events = reduced(app, (room, root), joining.to_owned()).await?;
        Source::Events(seeds.events.clone().into(), 0)
    } else {
        seeds.state = Some(root);
        Source::State { root, after: None }
    };
    let chain = chain(app, server, room, seeds).await?;
    let told = told((room, version), state, chain, Form::Whole);
    Ok(Joined { told, members_omitted: without_members, servers })
}

async fn servers_joined(app: &App, room: RoomNumber) -> Result<Vec<OwnedServerName>, StoreError> {
    let (mut servers, mut from) = (Vec::new(), Some(ServerNumber::default()));
    while let Some(begin) = from
        && servers.len() < limits::SERVERS_TOLD
    {
        let page = app.store.read(move |view| view.servers_joined(room, begin, limits::SERVERS_STEP)).await?;
        servers.extend(page.0);
        from = page.1;
    }
    servers.truncate(limits::SERVERS_TOLD);
    Ok(servers)
}

/// The events of a state but for members, of whom those stay by whom a room without a name is called.
/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>
async fn reduced(
    app: &App,
    (room, root): (RoomNumber, StateRoot),
    joining: OwnedUserId,
) -> Result<Vec<EventNumber>, StoreError> {
    let (mut events, mut after) = (Vec::new(), None);
    loop {
        let page = move |view: &View<'_>| {
            let mut last = None;
            for entry in view.state_after(room, root, after)?.take(limits::CHAIN_STEP) {
                let (key, number) = entry?;
                last = Some(key);
                if view.header(room, number)?.membership.is_none() {
                    events.push(number);
                }
            }
            Ok::<_, StoreError>((events, last))
        };
        (events, after) = app.store.read(page).await?;
        if after.is_none() {
            break;
        }
    }
    let heroes = app.store.read(move |view| heroes(view, (room, root), &joining)).await?;
    events.extend(heroes);
    Ok(events)
}

fn heroes(
    view: &View<'_>,
    (room, root): (RoomNumber, StateRoot),
    joining: &UserId,
) -> Result<Vec<EventNumber>, StoreError> {
    let mut events = Vec::new();
    let names = |kind| view.state_event(room, root, kind, "");
    if names("m.room.name")?.is_none() && names("m.room.canonical_alias")?.is_none() {
        let joining = view.user_number(joining)?;
        let members = view.members(room, Membership::Join).chain(view.members(room, Membership::Invite));
        let heroes = members.filter(|member| !matches!(member, Ok(member) if Some(*member) == joining));
        for hero in heroes.take(limits::HEROES) {
            let hero = view.user_id(hero?)?;
            events.extend(view.state_event(room, root, "m.room.member", hero.as_str())?);
        }
    }
    Ok(events)
}

fn told(room: (RoomNumber, Version), state: Source, chain: Arc<[EventNumber]>, form: Form) -> Told {
    Told { state: Pdus::new(room, state, form), auth_chain: Pdus::new(room, Source::Events(chain, 0), form) }
}
