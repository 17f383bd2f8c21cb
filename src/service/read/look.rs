//! The frame of every read of a room: who looks, at which room, and with what right.

use ruma::{OwnedEventId, OwnedRoomId, serde::Raw};

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
        let access = Access::of(view, &room_id, onlooker.user)?;
        with(view, &access, &onlooker, f)
    };
    app.store.read(read).await
}

/// Lets a user look at an event of a room and at what surrounds it.
///
/// # Errors
/// There is no such event that they may see, or what `f` fails with. Whether the room exists is nobody's business
/// who may not see the event.
pub async fn look_at<T: Send + 'static>(
    app: &App,
    onlooker: Onlooker,
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
    f: impl FnOnce(&mut Look<'_>, VisibleEvent) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let read = move |view: &View<'_>| {
        let access = Access::to_events(view, &room_id, onlooker.user)?.ok_or(ReadError::NotFound)?;
        with(view, &access, &onlooker, |look| {
            let number = view.event_number(access.room, &event_id)?.ok_or(ReadError::NotFound)?;
            let event = look.reader.visible(number)?.ok_or(ReadError::NotFound)?;
            f(look, event)
        })
    };
    app.store.read(read).await
}

/// Lets a user look at what relates to an event of a room, whoever sent that.
///
/// # Errors
/// As [`look_at`].
pub async fn look_beside<T: Send + 'static>(
    app: &App,
    onlooker: Onlooker,
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
    f: impl FnOnce(&mut Look<'_>) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let read = move |view: &View<'_>| {
        let access = Access::to_events(view, &room_id, onlooker.user)?.ok_or(ReadError::NotFound)?;
        with(view, &access, &onlooker, |look| {
            let number = view.event_number(access.room, &event_id)?.ok_or(ReadError::NotFound)?;
            look.reader.visible_or_redacted(number)?.ok_or(ReadError::NotFound)?;
            f(look)
        })
    };
    app.store.read(read).await
}

fn with<T>(
    view: &View<'_>,
    access: &Access,
    onlooker: &Onlooker,
    f: impl FnOnce(&mut Look<'_>) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let graph: RoomGraph<'_> = view.graph(access.room);
    let reader = Reader::new(view, &graph, access, onlooker);
    f(&mut Look { view, access, reader })
}

impl Look<'_> {
    /// The room.
    pub fn room(&self) -> RoomNumber {
        self.access.room
    }
}

/// One event, as its id asks for it: a hash that no other event has, or else the id of one in a room of the user's.
///
/// # Errors
/// There is none that the user may see.
pub async fn event_of_any_room<T: Send + 'static>(
    app: &App,
    onlooker: Onlooker,
    event_id: OwnedEventId,
) -> Result<Raw<T>, ReadError> {
    let read = move |view: &View<'_>| {
        let mut found = view.event_of_any_room(&event_id)?;
        if event_id.server_name().is_some() {
            for stay in view.stays(onlooker.user) {
                let (room, _) = stay?;
                found = found.or(view.event_number(room, &event_id)?.map(|number| (room, number)));
            }
        }
        let (room, number) = found.ok_or(ReadError::NotFound)?;
        let access = Access::to_events(view, &view.room_id(room)?, onlooker.user)?;
        with(view, &access.ok_or(ReadError::NotFound)?, &onlooker, |look| {
            let event = look.reader.visible(number)?.ok_or(ReadError::NotFound)?;
            Ok(look.reader.write(&event)?)
        })
    };
    app.store.read(read).await
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
) -> Result<Raw<T>, ReadError> {
    look_at(app, onlooker, (room_id, event_id), |look, event| Ok(look.reader.write(&event)?)).await
}
