//! Whether a user may look at a room at all, and as of when.
//!
//! Who is in the room sees what is current. Who left sees what was current when they left, and nothing that came
//! later. <https://spec.matrix.org/v1.19/client-server-api/#leaving-rooms>

use ruma::{RoomId, UserId};

use crate::{
    base::ids::{Position, RoomNumber, StateRoot, UserNumber},
    room::{graph::State, visibility::Eyes},
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
    /// They never were joined; the world may read the room.
    World,
}

impl Access {
    /// Finds out what a user may see.
    ///
    /// # Errors
    /// Nothing: they are not in the room, were never, or forgot it, and the world may not read it.
    pub fn of(
        view: &View<'_>,
        room_id: &RoomId,
        (user, user_id): (UserNumber, &UserId),
    ) -> Result<Self, ReadError> {
        let room = view.room_number(room_id)?.ok_or(ReadError::Forbidden)?;
        let record = view.room(room)?;
        if let Some(span) = view.stay(user, room)?.and_then(Span::of) {
            return Ok(Self { room, record, span });
        }
        let graph = view.graph(room);
        let now = State::stored(record.state);
        match Eyes::new(&graph, user_id).state(&now)? {
            Some(_) => Ok(Self { room, record, span: Span::World }),
            None => Err(ReadError::Forbidden),
        }
    }

    /// The room's state as the user last knew it.
    pub fn state(&self, view: &View<'_>) -> Result<StateRoot, StoreError> {
        match self.span {
            Span::Until(position) => view.room_state_at(self.room, position),
            Span::Joined | Span::World => Ok(self.record.state),
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

    /// Whether the user was joined at any time after an event at `position`.
    pub fn joined_after(self, position: Position) -> bool {
        match self {
            Self::Joined => true,
            Self::Until(end) => position < end,
            Self::World => false,
        }
    }
}
