//! Names of rooms: made by members, removed by whoever made them or may set the canonical one.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use ruma::{
    OwnedRoomAliasId, OwnedRoomId,
    events::{StateEventType, TimelineEventType},
};

use super::{App, sessions::Session};
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    room::{graph::State, members::Power},
    store::{StoreError, Transaction, View, events::Membership},
};

/// Why an alias stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// It is of another server.
    #[error("the alias is of another server")]
    Foreign,
    #[error("the alias is longer than 255 bytes")]
    TooLong,
    #[error("the alias names a room already")]
    Taken,
    #[error("the room has as many aliases as one may have")]
    TooMany,
    #[error("no room has this alias")]
    Unknown,
    #[error("this server knows no such room")]
    UnknownRoom,
    #[error("the user may not change this alias")]
    Forbidden,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The room that a local alias names.
pub async fn find(app: &App, alias: OwnedRoomAliasId) -> Result<Option<OwnedRoomId>, StoreError> {
    let read = move |view: &View<'_>| match view.alias(&alias)? {
        Some((room, _)) => view.room_id(room).map(Some),
        None => Ok(None),
    };
    app.store.read(read).await
}

/// The same for other servers: none for a room that their users can't be in.
pub async fn find_federated(app: &App, alias: OwnedRoomAliasId) -> Result<Option<OwnedRoomId>, StoreError> {
    let read = move |view: &View<'_>| match view.alias(&alias)? {
        Some((room, _)) if view.listing(room, &view.room(room)?)?.federated => view.room_id(room).map(Some),
        _ => Ok(None),
    };
    app.store.read(read).await
}

/// Gives a room another name. Its maker is in the room.
///
/// # Errors
/// The alias is not this server's or is taken, the maker is not in the room, or that has enough aliases.
pub async fn create(
    app: &App,
    maker: &Session,
    alias: OwnedRoomAliasId,
    room_id: OwnedRoomId,
) -> Result<(), AliasError> {
    if alias.server_name() != app.server_name {
        return Err(AliasError::Foreign);
    }
    if alias.as_str().len() > limits::EVENT_FIELD_BYTES {
        return Err(AliasError::TooLong);
    }
    let maker = maker.number;
    let job = move |transaction: &mut Transaction<'_>| {
        let room = transaction.room_number(&room_id)?.ok_or(AliasError::UnknownRoom)?;
        if transaction.alias(&alias)?.is_some() {
            return Err(AliasError::Taken);
        }
        if !is_joined(transaction, maker, room)? {
            return Err(AliasError::Forbidden);
        }
        if transaction.aliases(room).take(limits::ALIASES).count() == limits::ALIASES {
            return Err(AliasError::TooMany);
        }
        Ok(transaction.set_alias(&alias, room, maker)?)
    };
    app.store.write(job).await
}

/// Takes a name away from a room.
///
/// # Errors
/// There is no such alias, or the user neither made it nor may set the room's canonical one.
pub async fn delete(app: &App, user: &Session, alias: OwnedRoomAliasId) -> Result<(), AliasError> {
    if alias.server_name() != app.server_name {
        return Err(AliasError::Foreign);
    }
    let user = user.clone();
    let job = move |transaction: &mut Transaction<'_>| {
        let (room, maker) = transaction.alias(&alias)?.ok_or(AliasError::Unknown)?;
        if maker != user.number && !may_set_canonical(transaction, &user, room)? {
            return Err(AliasError::Forbidden);
        }
        Ok(transaction.remove_alias(&alias)?)
    };
    app.store.write(job).await
}

fn is_joined(view: &View<'_>, user: UserNumber, room: RoomNumber) -> Result<bool, StoreError> {
    Ok(view.stay(user, room)?.is_some_and(|stay| stay.membership == Membership::Join))
}

/// Whether a user may say what the room is called first.
pub(super) fn may_set_canonical(
    view: &View<'_>,
    user: &Session,
    room: RoomNumber,
) -> Result<bool, StoreError> {
    let record = view.room(room)?;
    let power = Power::of(&State::stored(record.state), &view.graph(room), record.version)?;
    let kind = TimelineEventType::from(StateEventType::RoomCanonicalAlias);
    let may =
        power.is_some_and(|power| power.of_user(&user.user_id) >= power.needed_to_send(&kind, Some("")));
    Ok(may && is_joined(view, user.number, room)?)
}
