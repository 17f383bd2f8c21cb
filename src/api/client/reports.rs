//! Telling the operator of what is inappropriate.
//! <https://spec.matrix.org/v1.19/client-server-api/#reporting-content>

use ruma::api::client::{
    reporting::report_user,
    room::{report_content, report_room},
};

use crate::{
    api::{Error, User},
    service::{
        App,
        reports::{self, Reported},
    },
};

/// `POST /_matrix/client/v3/rooms/{roomId}/report`
pub(crate) async fn room(
    app: App,
    user: User,
    request: report_room::v3::Request,
) -> Result<report_room::v3::Response, Error> {
    let reported = Reported::Room(request.room_id);
    reports::report(&app, user.onlooker(&app), reported, request.reason).await?;
    Ok(report_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}`
pub(crate) async fn event(
    app: App,
    user: User,
    request: report_content::v3::Request,
) -> Result<report_content::v3::Response, Error> {
    let reported = Reported::Event(request.room_id, request.event_id);
    reports::report(&app, user.onlooker(&app), reported, request.reason.unwrap_or_default()).await?;
    Ok(report_content::v3::Response::new())
}

/// `POST /_matrix/client/v3/users/{userId}/report`
pub(crate) async fn user(
    app: App,
    user: User,
    request: report_user::v3::Request,
) -> Result<report_user::v3::Response, Error> {
    let reported = Reported::User(request.user_id);
    reports::report(&app, user.onlooker(&app), reported, request.reason).await?;
    Ok(report_user::v3::Response::new())
}
