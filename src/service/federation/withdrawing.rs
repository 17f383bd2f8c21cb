//! Invitations that are taken back, and knocks that are refused, in rooms that this server is not in. Of such a room only
//! the server is known that brought the invitation, or took the knock, so nobody else is believed.

use ruma::{OwnedRoomId, OwnedServerName, UserId};

use super::receive;
use crate::{
    base::{ids::EventNumber, json::Object},
    room::{pdu::Pdu, receive::verify, version::Version},
    service::App,
    store::{OutOfBand, StoreError, Transaction, View, events::Membership},
};

/// Takes an event by which a user of this server is no longer invited to a room that it is not in, or no longer knocks
/// there; tells whether it is one.
///
/// # Errors
/// The store failed.
pub(super) async fn take(
    app: &App,
    origin: &OwnedServerName,
    room_id: &OwnedRoomId,
    event: &Object,
) -> Result<bool, StoreError> {
    let (id, server) = (room_id.clone(), origin.clone());
    let text = |field: &str| event.get(field)?.as_str().map(ToOwned::to_owned);
    let (Some(kind), Some(sender), Some(user)) = (text("type"), text("sender"), text("state_key")) else {
        return Ok(false);
    };
    let is_of_origin = <&UserId>::try_from(&*sender).is_ok_and(|sender| sender.server_name() == origin);
    if kind != "m.room.member" || !is_of_origin {
        return Ok(false);
    }
    let read = move |view: &View<'_>| pending(view, &id, &server, &user);
    let Some((version, number)) = app.store.read(read).await? else { return Ok(false) };
    let mut event = event.clone();
    event.remove("unsigned");
    let keys = receive::keys(app, &event, version).await?;
    let pdu = match verify(event, &keys, version) {
        Ok(pdu) if pdu.room_id() == room_id && pdu.sender().as_str() == sender => pdu,
        Ok(_) => return Ok(false),
        Err(error) => {
            tracing::debug!(%error, %room_id, "an invitation is not taken back by that");
            return Ok(false);
        }
    };
    let (id, server) = (room_id.clone(), origin.clone());
    let job = move |transaction: &mut Transaction<'_>| withdraw(transaction, (&id, &server), number, &pdu);
    app.store.write(job).await
}

/// The room's version and what the user is to the room now, if that is by a server's word.
fn pending(
    view: &View<'_>,
    room_id: &OwnedRoomId,
    server: &OwnedServerName,
    user: &str,
) -> Result<Option<(Version, EventNumber)>, StoreError> {
    let (Ok(user), Some(room)) = (<&UserId>::try_from(user), view.room_number(room_id)?) else {
        return Ok(None);
    };
    let Some(user) = view.user_number(user)? else { return Ok(None) };
    let stay = view.stay(user, room)?;
    let stay = stay.filter(|stay| matches!(stay.membership, Membership::Invite | Membership::Knock));
    let told = view.out_of_band(user, room)?.and_then(|told| told.server);
    match stay.filter(|_| told.is_some_and(|told| told == server.as_str())) {
        Some(stay) => Ok(Some((view.room(room)?.version, stay.event))),
        None => Ok(None),
    }
}

fn withdraw(
    transaction: &mut Transaction<'_>,
    (room_id, server): (&OwnedRoomId, &OwnedServerName),
    number: EventNumber,
    pdu: &Pdu,
) -> Result<bool, StoreError> {
    let is_end = matches!(membership_of(pdu), Some(Membership::Leave | Membership::Ban));
    let (true, Some(user)) = (is_end, pdu.state_key()) else { return Ok(false) };
    if pending(transaction, room_id, server, user)?.is_none_or(|(_, now)| now != number) {
        return Ok(false);
    }
    let Some(room) = transaction.room_number(room_id)? else { return Ok(false) };
    // It may be of an earlier invitation.
    if !pdu.auth_events().contains(&transaction.event_id(room, number)?) {
        return Ok(false);
    }
    let told = OutOfBand { server: None, state: "[]".to_owned() };
    transaction.put_out_of_band(room, pdu, &told)?;
    Ok(true)
}

fn membership_of(pdu: &Pdu) -> Option<Membership> {
    crate::room::members::membership_set(pdu).as_ref().and_then(Membership::of)
}
