//! Coming and going. <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use ruma::{
    OwnedRoomId, OwnedRoomOrAliasId, OwnedServerName, OwnedUserId,
    api::client::{
        knock::knock_room,
        membership::{
            ban_user, forget_room, invite_user, invite_user::v3::InvitationRecipient, join_room_by_id,
            join_room_by_id_or_alias, kick_user, leave_room, unban_user,
        },
    },
};

use crate::{
    api::{Error, User, caller::EvenSuspended},
    service::{
        App, aliases,
        federation::joining,
        rooms,
        write::{append::WriteError, membership::Action},
    },
};

/// `POST /_matrix/client/v3/rooms/{roomId}/invite`
pub(crate) async fn invite(
    app: App,
    user: User,
    request: invite_user::v3::Request,
) -> Result<invite_user::v3::Response, Error> {
    let InvitationRecipient::UserId(invited) = request.recipient else {
        return Err(Error::forbidden("This server knows no identity server to invite by"));
    };
    rooms::act(&app, &user, &request.room_id, Action::Invite(invited.user_id), invited.reason).await?;
    Ok(invite_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
pub(crate) async fn join(
    app: App,
    user: User,
    request: join_room_by_id::v3::Request,
) -> Result<join_room_by_id::v3::Response, Error> {
    enter(&app, &user, &request.room_id, Action::Join, request.reason, Vec::new()).await?;
    Ok(join_room_by_id::v3::Response::new(request.room_id))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
pub(crate) async fn join_by_name(
    app: App,
    user: User,
    request: join_room_by_id_or_alias::v3::Request,
) -> Result<join_room_by_id_or_alias::v3::Response, Error> {
    let (room_id, via) = room_of(&app, request.room_id_or_alias, request.via).await?;
    enter(&app, &user, &room_id, Action::Join, request.reason, via).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(room_id))
}

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
pub(crate) async fn knock(
    app: App,
    user: User,
    request: knock_room::v3::Request,
) -> Result<knock_room::v3::Response, Error> {
    let (room_id, via) = room_of(&app, request.room_id_or_alias, request.via).await?;
    enter(&app, &user, &room_id, Action::Knock, request.reason, via).await?;
    Ok(knock_room::v3::Response::new(room_id))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
pub(crate) async fn leave(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: leave_room::v3::Request,
) -> Result<leave_room::v3::Response, Error> {
    rooms::act(&app, &user, &request.room_id, Action::Leave, request.reason).await?;
    Ok(leave_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/forget`
pub(crate) async fn forget(
    app: App,
    user: User,
    request: forget_room::v3::Request,
) -> Result<forget_room::v3::Response, Error> {
    rooms::forget(&app, &user, &request.room_id).await?;
    Ok(forget_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/kick`
pub(crate) async fn kick(
    app: App,
    user: User,
    request: kick_user::v3::Request,
) -> Result<kick_user::v3::Response, Error> {
    on_other(&app, &user, &request.room_id, Action::Kick, request.user_id, request.reason).await?;
    Ok(kick_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/ban`
pub(crate) async fn ban(
    app: App,
    user: User,
    request: ban_user::v3::Request,
) -> Result<ban_user::v3::Response, Error> {
    on_other(&app, &user, &request.room_id, Action::Ban, request.user_id, request.reason).await?;
    Ok(ban_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/unban`
pub(crate) async fn unban(
    app: App,
    user: User,
    request: unban_user::v3::Request,
) -> Result<unban_user::v3::Response, Error> {
    on_other(&app, &user, &request.room_id, Action::Unban, request.user_id, request.reason).await?;
    Ok(unban_user::v3::Response::new())
}

async fn on_other(
    app: &App,
    user: &User,
    room_id: &OwnedRoomId,
    action: impl FnOnce(OwnedUserId) -> Action,
    target: OwnedUserId,
    reason: Option<String>,
) -> Result<(), Error> {
    Ok(rooms::act(app, user, room_id, action(target), reason).await?)
}

/// Enters a room or asks to.
async fn enter(
    app: &App,
    user: &User,
    room_id: &OwnedRoomId,
    action: Action,
    reason: Option<String>,
    via: Vec<OwnedServerName>,
) -> Result<(), Error> {
    match rooms::enter(app, user, room_id, action, reason, via).await {
        Err(WriteError::UnknownRoom) => Err(Error::not_found("This server knows no such room")),
        other => Ok(other?),
    }
}

/// The room of this name, and servers that may be in it.
async fn room_of(
    app: &App,
    name: OwnedRoomOrAliasId,
    mut via: Vec<OwnedServerName>,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), Error> {
    let nothing = || Error::not_found("No room has this alias");
    match OwnedRoomId::try_from(name) {
        Ok(room_id) => Ok((room_id, via)),
        Err(alias) if alias.server_name() == app.server_name => {
            Ok((aliases::find(app, alias).await?.ok_or_else(nothing)?, via))
        }
        Err(alias) => {
            let named = joining::named(app, alias).await;
            let (room_id, servers) = named.map_err(|error| nothing().caused_by(error))?;
            via.extend(servers);
            Ok((room_id, via))
        }
    }
}
