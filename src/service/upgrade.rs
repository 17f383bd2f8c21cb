//! Replacing a room by one of another version. <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use ruma::{OwnedRoomId, OwnedUserId, RoomId};

use super::{
    App, rooms,
    sessions::Session,
    write::{
        append::WriteError,
        upgrade::{self, Upgrade},
    },
};
use crate::{
    base::ids::UserNumber,
    room::version::Version,
    store::{StoreError, Transaction},
};

/// Replaces a room, and gives the id of the one that replaces it. Nobody but the user is in that one.
///
/// # Errors
/// The user may not end the room; then nothing was made.
pub async fn upgrade(
    app: &App,
    user: &Session,
    room_id: &RoomId,
    version: Version,
    additional_creators: Vec<OwnedUserId>,
) -> Result<OwnedRoomId, WriteError> {
    let (user_id, new_id) = (user.user_id.clone(), rooms::new_id(app)?);
    let upgrade = rooms::in_room(app, room_id, move |transaction, app, old| {
        let new = (version, new_id.clone());
        upgrade::found(transaction, app.signer(), old, &user_id, new, &additional_creators)
    })
    .await?;
    copy(app, &upgrade, upgrade::FIRST).await?;
    ban(app, &upgrade).await?;
    copy(app, &upgrade, upgrade::LAST).await?;

    let ending = upgrade.clone();
    let end = move |transaction: &mut Transaction<'_>, app: &App, _| ending.end(transaction, app.signer());
    if let Some(faster) = rooms::in_room(app, room_id, end).await? {
        return Ok(faster);
    }
    move_aliases(app, &upgrade).await?;
    let replacement = upgrade.replacement().to_owned();
    let give_up = move |transaction: &mut Transaction<'_>, app: &App, _| {
        upgrade.give_up_aliases(transaction, app.signer())
    };
    rooms::in_room(app, room_id, give_up).await?;
    Ok(replacement)
}

async fn copy(app: &App, upgrade: &Upgrade, mut kinds: &'static [&'static str]) -> Result<(), WriteError> {
    while !kinds.is_empty() {
        let (shared, upgrade) = (app.clone(), upgrade.clone());
        let job = move |transaction: &mut Transaction<'_>| upgrade.copy(transaction, shared.signer(), kinds);
        kinds = &kinds[app.store.write(job).await?..];
    }
    Ok(())
}

async fn ban(app: &App, upgrade: &Upgrade) -> Result<(), WriteError> {
    let mut last = Some(UserNumber::default());
    while let Some(after) = last {
        let (shared, upgrade) = (app.clone(), upgrade.clone());
        let job = move |transaction: &mut Transaction<'_>| upgrade.ban(transaction, shared.signer(), after);
        last = app.store.write(job).await?;
    }
    Ok(())
}

async fn move_aliases(app: &App, upgrade: &Upgrade) -> Result<(), StoreError> {
    loop {
        let upgrade = upgrade.clone();
        let job = move |transaction: &mut Transaction<'_>| upgrade.move_aliases(transaction);
        if !app.store.write(job).await? {
            return Ok(());
        }
    }
}
