//! Whether a user may look at a room at all, and as of when.
//!
//! Who is in the room sees what is current. Who left sees what was current when they left, and nothing that came
//! later. <https://spec.matrix.org/v1.19/client-server-api/#leaving-rooms>

use ruma::RoomId;

use crate::{
    base::ids::{Position, RoomNumber, UserNumber},
    room::{
        graph::State,
        visibility::{Tie, is_world_readable},
    },
    store::{
        StoreError, View,
        events::{Membership, RoomRecord, Stay},
    },
};

/// Why a user gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They are not, and were never, in the room, or there is no such room.
    #[error("you are not in this room")]
    Forbidden,
    /// There is nothing of that name that they may see.
    #[error("there is no such thing, or you may not see it")]
    NotFound,
    /// A token of ours is none.
    #[error("the token is malformed")]
    Token,
    /// It would take longer than others can wait.
    #[error("this takes too long")]
    TooLong,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a user may see of a room.
#[derive(Clone, Debug)]
pub struct Access {
    /// The room.
    pub room: RoomNumber,
    /// The room as it stands now.
    pub record: RoomRecord,
    /// Until when they follow it.
    pub span: Span,
}

/// Until when a user follows a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// They are joined.
    Joined,
    /// They were joined until this position.
    Until(Position),
    /// They never were joined, or forgot that they were: they see what the world may read.
    World,
}

impl Access {
    /// Finds out what a user may see.
    ///
    /// # Errors
    /// Nothing: they are not in the room, were never, or forgot it, and the world may not read it.
    pub fn of(view: &View<'_>, room_id: &RoomId, user: UserNumber) -> Result<Self, ReadError> {
        let access = Self::to_events(view, room_id, user)?.ok_or(ReadError::Forbidden)?;
        if access.span == Span::World && !access.sees_present(view)? {
            return Err(ReadError::Forbidden);
        }
        Ok(access)
    }

    /// Whether the user may know what the room is now: they are in it, or the world may read it.
    pub fn sees_present(&self, view: &View<'_>) -> Result<bool, StoreError> {
        let now = State::stored(self.record.state);
        Ok(self.span == Span::Joined || is_world_readable(&now, &view.graph(self.room))?)
    }

    /// The same for a user who has an event's id: whether they may see that event, the event alone says, since what
    /// the world could read when it was sent it can read still. None if there is no such room.
    pub fn to_events(
        view: &View<'_>,
        room_id: &RoomId,
        user: UserNumber,
    ) -> Result<Option<Self>, StoreError> {
        let Some(room) = view.room_number(room_id)? else { return Ok(None) };
        let span = view.stay(user, room)?.and_then(Span::of).unwrap_or(Span::World);
        Ok(Some(Self { room, record: view.room(room)?, span }))
    }

    /// The last position up to which the user follows the room.
    pub fn until(&self) -> Position {
        match self.span {
            Span::Until(position) => position,
            Span::Joined | Span::World => self.record.newest,
        }
    }
}

impl Span {
    /// What a stay lets a user follow; none if they were never joined or forgot the room.
    pub fn of(stay: Stay) -> Option<Self> {
        match (stay.membership, stay.joined_until) {
            (Membership::Join, _) => Some(Self::Joined),
            (_, Some(position)) if !stay.forgotten => Some(Self::Until(position)),
            _ => None,
        }
    }

    /// What ties the user to the room as of an event at `position`.
    pub fn tie(self, position: Position) -> Tie {
        match self {
            Self::Joined => Tie::Member { joined_later: true },
            Self::Until(end) if position <= end => Tie::Member { joined_later: position < end },
            Self::Until(_) | Self::World => Tie::Stranger,
        }
    }
}
