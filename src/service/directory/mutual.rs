//! Rooms that two users share. <https://spec.matrix.org/v1.19/client-server-api/#mutual-rooms>

use std::iter::Peekable;

use ruma::{OwnedRoomId, OwnedUserId};

use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    service::{App, sessions::Session},
    store::{
        StoreError, View,
        events::{Membership, Stay},
    },
};

/// Why no rooms are told.
#[derive(Debug, thiserror::Error)]
pub enum MutualError {
    #[error("a user shares all rooms with themself")]
    Oneself,
    #[error("the user id has characters that no user id may have")]
    NonCompliant,
    #[error("the token is malformed")]
    Token,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Some of the rooms that two users share.
#[derive(Debug)]
pub struct Mutual {
    pub rooms: Vec<OwnedRoomId>,
    /// How many there are in all.
    pub count: u32,
    /// Where to go on; none if these are the last.
    pub next: Option<String>,
}

/// Tells the next rooms, [`limits::MUTUAL_ROOMS`] at a time, in the order in which the server came to know them. A token
/// is good for ever.
///
/// # Errors
/// The other user is the same one or has an id that is not to be used any more, or the token is none of ours.
pub async fn rooms(
    app: &App,
    user: &Session,
    other: OwnedUserId,
    from: Option<&str>,
) -> Result<Mutual, MutualError> {
    if user.user_id == other {
        return Err(MutualError::Oneself);
    }
    other.validate_historical().map_err(|_| MutualError::NonCompliant)?;
    let after = from.map_or(Ok(RoomNumber::default()), |from| parse(from).ok_or(MutualError::Token))?;
    let user = user.number;
    let read = move |view: &View<'_>| match view.user_number(&other)? {
        Some(other) => shared(view, (user, other), after),
        None => Ok(Mutual { rooms: Vec::new(), count: 0, next: None }),
    };
    app.store.read(read).await
}

fn shared(
    view: &View<'_>,
    (user, other): (UserNumber, UserNumber),
    after: RoomNumber,
) -> Result<Mutual, MutualError> {
    let mut mutual = Mutual { rooms: Vec::new(), count: 0, next: None };
    let mut last = after;
    let mut others = view.stays(other).peekable();
    for stay in view.stays(user) {
        let (room, stay) = stay?;
        if stay.membership != Membership::Join || !is_joined(&mut others, room)? {
            continue;
        }
        mutual.count += 1;
        if room <= after {
            continue;
        }
        if mutual.rooms.len() < limits::MUTUAL_ROOMS {
            mutual.rooms.push(view.room_id(room)?);
            last = room;
        } else {
            mutual.next = Some(token(last));
        }
    }
    Ok(mutual)
}

/// Whether the stays, of which those before this room were passed already, say that somebody is in the room.
fn is_joined(
    stays: &mut Peekable<impl Iterator<Item = Result<(RoomNumber, Stay), StoreError>>>,
    room: RoomNumber,
) -> Result<bool, StoreError> {
    while let Some(stay) = stays.next_if(|stay| stay.as_ref().map_or(true, |(other, _)| *other <= room)) {
        let (other, stay) = stay?;
        if other == room {
            return Ok(stay.membership == Membership::Join);
        }
    }
    Ok(false)
}

fn token(last: RoomNumber) -> String {
    format!("m{}", last.0)
}

fn parse(token: &str) -> Option<RoomNumber> {
    let digits = token.strip_prefix('m')?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit())).map(RoomNumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        assert_eq!(parse(&token(RoomNumber(70_000))), Some(RoomNumber(70_000)));
        for text in ["", "m", "7", "m-1", "m+1", "m4294967296", "m7 "] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
