//! Reports of what is inappropriate: kept for the operator, who lists them with `tayberry report list`.
//! <https://spec.matrix.org/v1.19/client-server-api/#reporting-content>

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::{
    App, localpart,
    read::{
        access::{ReadError, Span},
        look::look_beside,
        reader::Onlooker,
    },
};
use crate::{
    base::limits,
    store::{Report, StoreError},
};

/// What somebody reports.
pub enum Reported {
    /// Whether or not the reporter is in the room.
    Room(OwnedRoomId),
    /// Of a room that the reporter is in.
    Event(OwnedRoomId, OwnedEventId),
    User(OwnedUserId),
}

/// Keeps a report, as much as there is room for of what it says.
///
/// # Errors
/// Nobody here knows what is reported, or the reporter does not see it.
pub async fn report(
    app: &App,
    reporter: Onlooker,
    reported: Reported,
    mut reason: String,
) -> Result<(), ReadError> {
    reason.truncate(reason.floor_char_boundary(limits::REPORT_BYTES));
    let mut report = Report {
        number: 0,
        at: reporter.now,
        by: reporter.user,
        room_id: None,
        event_id: None,
        user_id: None,
        reason,
    };
    match reported {
        Reported::Room(room_id) => {
            report.room_id = Some(room_id.to_string());
            let room = app.store.read(move |view| view.room_number(&room_id)).await?;
            room.ok_or(ReadError::NotFound)?;
        }
        Reported::Event(room_id, event_id) => {
            (report.room_id, report.event_id) = (Some(room_id.to_string()), Some(event_id.to_string()));
            // Also of somebody whom the reporter ignores.
            let sender = look_beside(app, reporter, (room_id, event_id.clone()), move |look| {
                let number = look.view.event_number(look.room(), &event_id)?;
                let number = number.filter(|_| look.access.span == Span::Joined);
                let header = look.view.header(look.room(), number.ok_or(ReadError::NotFound)?)?;
                Ok(look.view.user_id(header.sender)?)
            });
            report.user_id = Some(sender.await?.to_string());
        }
        Reported::User(user_id) => {
            report.user_id = Some(user_id.to_string());
            let localpart = localpart::of_local_user(&user_id, &app.server_name).map(str::to_owned);
            let found = app.store.read(move |view| {
                Ok::<_, StoreError>(match localpart {
                    Some(localpart) => view.account(&localpart)?.is_some(),
                    None => view.user_number(&user_id)?.is_some(),
                })
            });
            found.await?.then_some(()).ok_or(ReadError::NotFound)?;
        }
    }
    Ok(app.store.write(move |transaction| transaction.add_report(&report)).await?)
}
