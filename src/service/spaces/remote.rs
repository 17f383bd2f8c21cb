//! Rooms as other servers tell them, each asked and remembered for itself: none speaks for another.
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use std::time::Duration;

use bytes::Bytes;
use ruma::{OwnedRoomId, OwnedServerName, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::room::Room;
use crate::{
    base::limits,
    net::cache::Cache,
    service::{App, federation::queries},
};

/// What servers told of rooms; none where one told nothing. By the server, the room, and whether children were left out
/// that are not suggested.
pub(in crate::service) type Answers = Cache<(OwnedServerName, OwnedRoomId, bool), Option<Bytes>>;

/// What a request may still ask.
pub(super) struct Budget {
    asks: usize,
    ends_at: Duration,
}

/// A room as a server told it.
pub(super) struct Told {
    pub room: Room,
    /// What it says of the room's children.
    pub children: Vec<(OwnedRoomId, Box<RawValue>)>,
    /// Children that this server's users can't know of.
    pub inaccessible: Vec<OwnedRoomId>,
}

impl Budget {
    pub(super) fn new(app: &App) -> Self {
        Self { asks: limits::SPACE_ASKS, ends_at: app.clock.monotonic() + limits::SPACE_TIME }
    }

    /// Whether as many rooms may be asked for as one takes at most.
    pub(super) fn is_enough(&self, app: &App) -> bool {
        self.asks >= limits::SPACE_SERVERS && app.clock.monotonic() < self.ends_at
    }
}

/// What the first of some servers tells of a room that tells anything.
pub(super) async fn room(
    app: &App,
    budget: &mut Budget,
    servers: Vec<OwnedServerName>,
    room_id: &RoomId,
    suggested_only: bool,
) -> Option<Told> {
    for server in servers.into_iter().take(limits::SPACE_SERVERS) {
        let key = (server, room_id.to_owned(), suggested_only);
        let ask = async |_| {
            budget.asks = budget.asks.saturating_sub(1);
            let asking = queries::hierarchy(app, &key.0, key.1.clone(), suggested_only);
            match timeout(limits::SPACE_ASK_TIME, asking).await {
                Ok(Ok(answer)) => (Some(answer), limits::SPACE_ANSWER_LIFETIME),
                Ok(Err(error)) => {
                    tracing::debug!(server = %key.0, room = %key.1, %error, "a server tells nothing of a room");
                    (None, limits::SPACE_PAUSE)
                }
                Err(_) => (None, limits::SPACE_PAUSE),
            }
        };
        let told = app.spaces.answers.get(&key, ask).await;
        if let Some(told) = told.and_then(|told| read(&told, room_id, suggested_only)) {
            return Some(told);
        }
    }
    None
}

fn read(answer: &[u8], room_id: &RoomId, suggested_only: bool) -> Option<Told> {
    #[derive(Deserialize)]
    struct Answer {
        room: Box<RawValue>,
        #[serde(default)]
        children: Vec<Box<RawValue>>,
        #[serde(default)]
        inaccessible_children: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Named {
        room_id: OwnedRoomId,
    }
    let Answer { room, children, inaccessible_children } = serde_json::from_slice(answer).ok()?;
    let room =
        Room::told(room.get(), suggested_only).filter(|room| room.summary["room_id"] == room_id.as_str())?;
    let children = children.into_iter().filter_map(|child| {
        let Named { room_id } = serde_json::from_str(child.get()).ok()?;
        Some((room_id, child))
    });
    let inaccessible = inaccessible_children.into_iter().filter_map(|id| OwnedRoomId::try_from(id).ok());
    Some(Told { room, children: children.collect(), inaccessible: inaccessible.collect() })
}
