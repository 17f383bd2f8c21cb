//! Whom to ask about a room that this server is not in.

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId,
    api::federation::query::get_room_information,
};

use crate::{
    base::{ids::ServerNumber, limits},
    net::Bounds,
    service::{
        App,
        federation::ask::{AskError, ask},
    },
    store::{StoreError, View, events::Membership},
};

/// The room that an alias of another server names, and servers that may be in it.
///
/// # Errors
/// The server doesn't tell.
pub async fn named(
    app: &App,
    alias: OwnedRoomAliasId,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), AskError> {
    let server = alias.server_name().to_owned();
    let request = get_room_information::v1::Request::new(alias);
    let told = ask(app, &server, request, Bounds::SMALL).await?;
    let servers = told.servers.into_iter().take(limits::JOIN_SERVERS - 1).chain([server]);
    Ok((told.room_id, servers.collect()))
}

/// The servers to ask, the most promising first: those that were named, that of whoever invited the user, those known to be
/// in the room, and that which made it.
pub(in crate::service) fn candidates(
    view: &View<'_>,
    (own, room_id): (&ServerName, &RoomId),
    user: &UserId,
    named: &[OwnedServerName],
) -> Result<Vec<OwnedServerName>, StoreError> {
    let mut servers = Vec::new();
    let mut add = |server: OwnedServerName| {
        if server != own && !servers.contains(&server) {
            servers.push(server);
        }
    };
    let room = view.room_number(room_id)?;
    let stay = match (room, view.user_number(user)?) {
        (Some(room), Some(user)) => view.stay(user, room)?.map(|stay| (room, stay)),
        _ => None,
    };
    // Whoever invited is in the room, as far as anybody knows, and so is who took a knock.
    if let Some((room, stay)) = stay {
        if stay.membership == Membership::Invite {
            let sender = view.header(room, stay.event)?.sender;
            add(view.user_id(sender)?.server_name().to_owned());
        }
        let user = view.user_number(user)?;
        let told = user.map(|user| view.out_of_band(user, room)).transpose()?.flatten();
        let server = told.and_then(|told| OwnedServerName::try_from(told.server?).ok());
        server.into_iter().for_each(&mut add);
    }
    named.iter().cloned().for_each(&mut add);
    if let Some(room) = room {
        let known = view.servers_joined(room, ServerNumber::default(), limits::JOIN_SERVERS)?.0;
        known.into_iter().for_each(&mut add);
    }
    room_id.server_name().map(ToOwned::to_owned).into_iter().for_each(add);
    servers.truncate(limits::JOIN_SERVERS);
    Ok(servers)
}
