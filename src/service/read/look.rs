//! The frame of every read of a room: who looks, at which room, and with what right.

use ruma::{EventId, OwnedEventId, OwnedRoomId};

use super::{
    access::{Access, ReadError},
    reader::{Onlooker, Reader},
};
use crate::{
    base::ids::RoomNumber,
    room::visibility::VisibleEvent,
    service::App,
    store::{View, events::RoomGraph},
};

/// A user's look at a room, while a view lasts.
pub struct Look<'v> {
    pub view: &'v View<'v>,
    pub access: &'v Access,
    pub reader: Reader<'v>,
}

/// Lets a user look at a room.
///
/// # Errors
/// They may not see anything of it, or what `f` fails with.
pub async fn look<T: Send + 'static>(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    f: impl FnOnce(&mut Look<'_>) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let read = move |view: &View<'_>| {
        let access = Access::of(view, &room_id, (onlooker.user, &onlooker.user_id))?;
        let graph: RoomGraph<'_> = view.graph(access.room);
        let reader = Reader::new(view, &graph, &access, &onlooker);
        f(&mut Look { view, access: &access, reader })
    };
    app.store.read(read).await
}

impl Look<'_> {
    /// The room.
    pub fn room(&self) -> RoomNumber {
        self.access.room
    }

    /// An event of the room by its id.
    ///
    /// # Errors
    /// There is none that the user may see.
    pub fn event(&mut self, id: &EventId) -> Result<VisibleEvent, ReadError> {
        let number = self.view.event_number(self.access.room, id)?.ok_or(ReadError::NotFound)?;
        self.reader.visible(number)?.ok_or(ReadError::NotFound)
    }
}

/// One event of a room, as its id asks for it.
///
/// # Errors
/// There is none that the user may see.
pub async fn event<T: Send + 'static>(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
) -> Result<ruma::serde::Raw<T>, ReadError> {
    let event = look(app, onlooker, room_id, move |look| {
        let event = look.event(&event_id)?;
        Ok(look.reader.write(&event)?)
    });
    match event.await {
        // Whether the room exists is nobody's business who may not see it.
        Err(ReadError::Forbidden) => Err(ReadError::NotFound),
        other => other,
    }
}
