//! What somebody was notified of. <https://spec.matrix.org/v1.19/client-server-api/#listing-notifications>

use ruma::api::client::push::get_notifications::{self, v3::Notification};

use crate::{
    api::{Error, User},
    base::limits,
    service::{
        App,
        notifications::{self, Notifications, Wanted},
    },
};

/// `GET /_matrix/client/v3/notifications`
pub(crate) async fn list(
    app: App,
    user: User,
    request: get_notifications::v3::Request,
) -> Result<get_notifications::v3::Response, Error> {
    let limit = request.limit.map_or(limits::PAGE_EVENTS_DEFAULT, |limit| {
        u64::from(limit).clamp(1, limits::PAGE_EVENTS as u64) as usize
    });
    let highlights = request.only.as_deref() == Some("highlight");
    let wanted = Wanted { from: request.from, limit, highlights };
    let Notifications { notifications, next } =
        notifications::notifications(&app, user.onlooker(&app), wanted).await?;
    let notifications = notifications.into_iter().map(|told| {
        Notification::new(told.actions, told.event, told.read, told.room_id, told.sent_at.into())
    });
    let mut response = get_notifications::v3::Response::new(notifications.collect());
    response.next_token = next;
    Ok(response)
}
